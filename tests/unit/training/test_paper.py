"""The paper's tables as data: figures, names, protocol, and what is refused."""

from pathlib import Path

import pytest

from iwae_tf import InputError
from iwae_tf.config import DataConfig, EvaluationConfig
from iwae_tf.training.paper import cells_of, check_scale


def _config(cell, scale=1.0):
    return cell.config(DataConfig("mnist", "/data"), scale, EvaluationConfig(100), 3, Path("runs/all"))


def test_table_1_has_vae_and_iwae_for_every_k_and_depth():
    cells = {cell.name: cell for cell in cells_of("table1", "mnist")}
    assert len(cells) == 12
    assert (cells["iwae-k50-l2"].nll, cells["iwae-k50-l2"].active_units) == (82.90, (26, 7))
    assert (cells["vae-k5-l1"].nll, cells["vae-k5-l1"].active_units) == (86.47, (20,))
    assert len(cells_of("table1", "omniglot")) == len(cells_of("table3", "binarized_mnist")) == 12


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dataset", ["mnist", "omniglot"])
def test_in_the_paper_more_samples_make_a_better_iwae(layers, dataset):
    cells = {cell.name: cell for cell in cells_of("table1", dataset)}
    nll = [cells[f"iwae-k{k}-l{layers}"].nll for k in (1, 5, 50)]
    assert nll == sorted(nll, reverse=True)
    assert nll[-1] < cells[f"vae-k50-l{layers}"].nll


def test_with_one_sample_vae_and_iwae_are_one_run():
    cells = {cell.name: cell for cell in cells_of("table1", "mnist")}
    assert cells["vae-k1-l2"].run_name == cells["iwae-k1-l2"].run_name == "k1-l2"
    assert _config(cells["vae-k1-l2"]) == _config(cells["iwae-k1-l2"])
    assert cells["vae-k5-l2"].run_name != cells["iwae-k5-l2"].run_name


def test_a_cell_is_trained_as_in_the_paper():
    cells = {cell.name: cell for cell in cells_of("table1", "mnist")}
    training = _config(cells["iwae-k50-l2"]).training
    assert (training.epochs, training.batch_size, training.schedule) == (3280, 20, "paper")
    assert (training.objective, training.k, training.learning_rate, training.seed) == ("iwae", 50, 1e-3, 3)
    assert _config(cells["iwae-k50-l2"]).model.latent_units == (100, 50)
    assert _config(cells["vae-k50-l2"]).training.objective == "elbo"


@pytest.mark.parametrize(("scale", "epochs", "further"), [(1.0, 3280, 2187), (0.01, 33, 22), (1e-6, 1, 1)])
def test_a_scale_shortens_all_in_proportion(scale, epochs, further):
    first, swapped, *_ = cells_of("table2", "mnist")
    assert _config(first, scale).training.epochs == epochs
    training = _config(swapped, scale).training
    assert (training.epochs, training.schedule, training.learning_rate) == (further, "constant", 1e-4)
    assert training.init_from == "runs/all/k1-l1"


def test_table_2_trains_each_on_as_the_other():
    names = [cell.name for cell in cells_of("table2", "mnist")]
    assert names == ["vae-k1-l1", "vae-k1-l1-then-iwae-k50-l1", "iwae-k50-l1", "iwae-k50-l1-then-vae-k1-l1"]
    assert len({cell.run_name for cell in cells_of("table2", "mnist")}) == 4


def test_only_the_cells_asked_for_are_taken_in_the_order_of_the_table():
    cells = cells_of("table1", "mnist", ["iwae-k50-l2", "vae-k5-l1"])
    assert [cell.name for cell in cells] == ["vae-k5-l1", "iwae-k50-l2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tabel1", "mnist"), "unknown table 'tabel1': did you mean 'table1'?"),
        (("table3", "mnist"), "table3 is there for binarized_mnist, got 'mnist'"),
        (("table1", "digits"), "table1 is there for mnist and omniglot, got 'digits'"),
        (("table1", "mnist", ["iwae-k50-l3"]), "unknown cell 'iwae-k50-l3': did you mean 'iwae-k50-l"),
    ],
)
def test_what_is_in_no_table_is_refused(arguments, message):
    with pytest.raises(InputError) as error:
        cells_of(*arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, float("nan"), "1", True])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(InputError, match="scale must be"):
        check_scale(scale)
