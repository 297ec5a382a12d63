"""What an objective refuses, and what its error says to do."""

import pytest
from small_models import small_model

from iwae_tf import objectives
from iwae_tf.errors import InputError
from iwae_tf.objectives import OBJECTIVES, KLAnnealing, objective_class

NOT_NUMBERS = [float("nan"), float("inf"), "0.5", True, None]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("num_samples", [0, -3, 1.5, "50", True, None])
def test_a_number_of_samples_that_is_none_is_refused(name, num_samples):
    with pytest.raises(InputError, match="num_samples must be an integer >= 1"):
        objective_class(name)(num_samples)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("backward_samples", [0, -1, 1.5, "2", True])
def test_a_number_of_backward_samples_that_is_none_is_refused(name, backward_samples):
    with pytest.raises(InputError, match=f"backward_samples must be an integer >= 1, got {backward_samples!r}"):
        objective_class(name)(10, backward_samples=backward_samples)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_more_backward_samples_than_samples_are_refused(name):
    objective_class(name)(10, backward_samples=10)
    with pytest.raises(InputError, match="backward_samples must be at most the number of samples, 10, got 11"):
        objective_class(name)(10, backward_samples=11)


@pytest.mark.parametrize("cls", [objectives.MIWAE, objectives.PIWAE])
def test_groups_that_do_not_divide_the_samples_are_refused_with_the_nearest_that_do(cls):
    with pytest.raises(InputError, match="groups must divide the number of samples, 50, got 7; 5 does"):
        cls(50, groups=7)
    with pytest.raises(InputError, match="groups must divide the number of samples, 6, got 12; 6 does"):
        cls(6, groups=12)
    for groups in (0, -5, 2.5, "5", True, None):
        with pytest.raises(InputError, match=f"groups must be an integer >= 1, got {groups!r}"):
            cls(50, groups=groups)


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_a_share_outside_0_and_1_is_refused(beta):
    with pytest.raises(InputError, match=rf"beta must be in \[0, 1\], got {beta}: 0 is the bound of iwae, 1 that of"):
        objectives.CIWAE(5, beta=beta)


@pytest.mark.parametrize("beta", [0, 1, 0.0, 1.0])
def test_a_learned_share_must_start_where_it_can_move(beta):
    objectives.CIWAE(5, beta=beta)
    with pytest.raises(InputError, match=f"must start between 0 and 1, got {beta}: there it would stay"):
        objectives.CIWAE(5, beta=beta, learn_beta=True)


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize(
    ("cls", "parameter"), [(objectives.CIWAE, "beta"), (objectives.VRIWAE, "alpha"), (objectives.DReGAlpha, "alpha")]
)
def test_what_is_no_number_is_refused(cls, parameter, value):
    with pytest.raises(InputError, match=f"{parameter} must be a number, got {value!r}"):
        cls(5, **{parameter: value})


def test_orders_of_the_renyi_bound_outside_0_and_1_are_refused_with_the_objective_at_that_end():
    for alpha in (1.0, 1, 2.0):
        with pytest.raises(
            InputError, match=f"alpha must be below 1, got {alpha}: its limit at 1 is the objective elbo"
        ):
            objectives.VRIWAE(5, alpha=alpha)
    with pytest.raises(InputError, match=r"got -0.1: below 0 the value is no bound .* objective vr-max"):
        objectives.VRIWAE(5, alpha=-0.1)


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_mixtures_outside_dreg_and_rws_dreg_are_refused(alpha):
    with pytest.raises(InputError, match=rf"alpha must be in \[0, 1\], got {alpha}: 0 is dreg, 1 is rws-dreg"):
        objectives.DReGAlpha(5, alpha=alpha)


def test_orders_of_the_jackknife_other_than_1_and_2_are_refused():
    with pytest.raises(InputError, match="order must be 1 or 2, got 3"):
        objectives.JVI(50, order=3)
    for order in (0, 1.5, "1", True, None):
        with pytest.raises(InputError, match=f"order must be an integer >= 1, got {order!r}"):
            objectives.JVI(50, order=order)


@pytest.mark.parametrize("order", [1, 2])
def test_a_jackknife_needs_more_samples_than_it_leaves_out(order):
    objectives.JVI(order + 1, order=order)
    with pytest.raises(InputError, match=rf"a jackknife of order {order} .* got {order}: raise --k \(num_samples\)"):
        objectives.JVI(order, order=order)


@pytest.mark.parametrize("points", [0, -1, 1.5, "5", True, None])
def test_a_number_of_points_that_is_none_is_refused(points):
    with pytest.raises(InputError, match=f"points must be an integer >= 1, got {points!r}"):
        objectives.TVO(5, points=points)


@pytest.mark.parametrize("name", ["vimco", "rws", "rws-dreg", "tvo"])
def test_objectives_by_which_q_learns_nothing_from_a_single_sample_refuse_it(name):
    with pytest.raises(InputError, match=rf"^{name} needs at least 2 samples, got 1: .*; raise --k \(num_samples\)"):
        objective_class(name)(1)
    assert objective_class(name)(2).num_samples == 2


def test_the_mixture_that_is_rws_dreg_refuses_a_single_sample():
    with pytest.raises(InputError, match="alpha = 1 needs at least 2 samples, got 1"):
        objectives.DReGAlpha(1, alpha=1.0)


@pytest.mark.parametrize("value", ["false", 1, None])
def test_whether_beta_is_learned_is_yes_or_no(value):
    with pytest.raises(InputError, match=f"learn_beta must be True or False, got {value!r}"):
        objectives.CIWAE(5, learn_beta=value)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, "5", True, None])
def test_a_number_of_annealing_epochs_that_is_none_is_refused(epochs):
    with pytest.raises(InputError, match=f"epochs must be an integer >= 1, got {epochs!r}"):
        KLAnnealing(epochs)


@pytest.mark.parametrize("layers", [2, 3])
def test_the_analytic_kl_is_refused_for_more_than_one_layer(layers):
    with pytest.raises(InputError, match="one stochastic layer, got"):
        small_model(layers).compile(objective=objectives.AnalyticKLELBO(1))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_binary_units_are_for_objectives_without_a_path_and_others_are_refused_with_the_reason(name):
    model, objective = small_model(1, latent="bernoulli"), objective_class(name)(10)
    if name in ("rws", "rws-sleep", "vimco", "tvo"):
        model.compile(objective=objective)
    else:
        with pytest.raises(
            InputError,
            match=rf"^{name} needs samples that a gradient can pass through.*use vimco, tvo, rws or rws-sleep",
        ):
            model.compile(objective=objective)
