"""Objectives in `compile`, `fit`, `save` and `load_model`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import binary_images, small_model

from iwae_tf import InputError, objectives, seeds
from iwae_tf.objectives import OBJECTIVES, KLAnnealing, objective_class
from iwae_tf.objectives.gradients import bound_and_gradients

SETTINGS = {
    "miwae": {"groups": 2},
    "piwae": {"groups": 3},
    "ciwae": {"beta": 0.4, "learn_beta": True},
    "vr-iwae": {"alpha": 0.25},
    "dreg-alpha": {"alpha": 0.75},
    "jvi": {"order": 2},
    "tvo": {"points": 3},
}
K, N = 6, 20


@pytest.fixture(autouse=True)
def _same_order_of_images():
    keras.utils.set_random_seed(0)


def _tiny():
    return small_model(1, gain=1.0, latent_units=(3,), hidden_units=((),))


def _compiled(objective):
    model = _tiny()
    model.compile(keras.optimizers.Adam(0.01), objective=objective)
    return model


def _made(name, **kwargs):
    return objective_class(name)(K, **SETTINGS.get(name, {}), **kwargs)


def _values(model):
    return [variable.numpy() for variable in model.trainable_variables]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_saved_with_its_settings_and_goes_on_the_same(tmp_path, name):
    x, model = binary_images(N), _compiled(_made(name, backward_samples=2))
    before = _values(model)
    model.fit(x, batch_size=N, verbose=0)
    moved = [np.abs(after - value).max() > 0.0 for after, value in zip(_values(model), before, strict=True)]
    assert all(moved)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.objective.backward_samples == 2
    assert type(loaded.objective) is type(model.objective)
    assert loaded.objective.get_config() == model.objective.get_config()
    assert loaded.objective.get_config().items() >= SETTINGS.get(name, {}).items()
    model.fit(x, batch_size=N, verbose=0)
    loaded.fit(x, batch_size=N, verbose=0)
    for one, other in zip(_values(model), _values(loaded), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)  # float32, graphs traced anew


def test_what_an_objective_has_learned_is_saved_with_the_model_and_not_needed_to_score(tmp_path):
    x, model = binary_images(N), _compiled(objectives.CIWAE(K, beta=0.4, learn_beta=True))
    model.fit(x, batch_size=10, epochs=3, verbose=0)
    beta = float(model.objective.current_beta())
    assert beta < 0.4 - 1e-3
    model.save(tmp_path / "m.keras")
    assert float(keras.saving.load_model(tmp_path / "m.keras").objective.current_beta()) == beta
    scored = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(scored.log_weights(x, 5), model.log_weights(x, 5))
    assert len(scored.trainable_variables) == len(model.trainable_variables) - 1
    model.save_weights(tmp_path / "m.weights.h5")
    other = _compiled(objectives.CIWAE(K, beta=0.4, learn_beta=True))
    other.load_weights(tmp_path / "m.weights.h5")
    assert float(other.objective.current_beta()) == beta


def test_another_objective_leaves_nothing_of_the_one_before():
    model, plain = _compiled(objectives.CIWAE(K, learn_beta=True)), _compiled(objectives.IWAEBound(K))
    assert len(model.trainable_variables) == len(plain.trainable_variables) + 1
    model.compile(keras.optimizers.Adam(0.01), objective=objectives.IWAEBound(K))
    assert len(model.trainable_variables) == len(plain.trainable_variables)
    assert len(model.weights) == len(plain.weights)
    assert len(model.optimizer.variables) == len(plain.optimizer.variables)
    model.compile(keras.optimizers.Adam(0.01), objective=objectives.CIWAE(K, beta=0.3, learn_beta=True))
    np.testing.assert_allclose(model.objective.current_beta(), 0.3, rtol=1e-6)
    model.fit(binary_images(N), verbose=0)


@pytest.mark.parametrize(("name", "backward_samples"), [("iwae", 2), ("rws-sleep", None)])
def test_the_same_run_twice_has_the_same_bits(name, backward_samples):
    x = binary_images(N)
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = _compiled(_made(name, backward_samples=backward_samples))
        model.fit(x, batch_size=7, epochs=2, verbose=0)
        runs.append(_values(model))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "backward_samples"), [("jvi", None), ("vimco", 3), ("ciwae", 2), ("rws-sleep", None)])
def test_a_step_is_the_same_eagerly_in_a_graph_of_any_batch_size_and_under_xla(monkeypatch, name, backward_samples):
    model, x = _tiny(), tf.constant(binary_images(N))
    objective = _made(name, backward_samples=backward_samples)
    numbers = {
        "noise": tf.random.stateless_normal([K, N, 3], (0, 1)),
        "uniform": tf.random.stateless_uniform([3, N], (0, 2)),
    }
    dreamt = model.generative_network.sample(N, lambda layer: (5, layer))
    # Random numbers of the same key are others under XLA; what is made of them is the same.
    monkeypatch.setattr(seeds, "uniform", lambda shape, key: numbers["uniform"][: shape[0]])
    monkeypatch.setattr(model.generative_network, "sample", lambda n, key_of: dreamt)

    def step(x):
        return bound_and_gradients(model, objective, x, numbers["noise"], lambda purpose, counter=0: None)

    eager = step(x)
    graph = tf.function(step, input_signature=[tf.TensorSpec([None, 12], tf.float32)], autograph=False)(x)
    xla = tf.function(step, jit_compile=True, autograph=False)(x)
    for other in (graph, xla):
        np.testing.assert_allclose(other[0], eager[0], rtol=1e-5)  # float32, sums in another order
        for one, expected in zip(other[1], eager[1], strict=True):
            np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "backward_samples"), [("dreg", None), ("vimco", 2), ("rws-sleep", None), ("jvi", 2)])
def test_hidden_layers_in_bfloat16_give_finite_gradients_in_float32(name, backward_samples):
    model = small_model(2, dtype="mixed_bfloat16")
    model.compile(objective=_made(name, backward_samples=backward_samples))
    bound, gradients = model._bound_and_gradients(tf.constant(binary_images(N)), tf.constant(0, tf.int64))
    assert bound.dtype == tf.float32
    for gradient in gradients:
        assert gradient.dtype == tf.float32
        assert np.isfinite(gradient).all()


class _Weights(keras.callbacks.Callback):
    """Notes the weight of the divergence during every epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.objective.kl_weight))


@pytest.mark.parametrize("name", ["elbo", "elbo-kl"])
def test_annealing_raises_the_weight_epoch_by_epoch_and_ends_at_1(name):
    model, noted = _compiled(_made(name)), _Weights()
    model.fit(binary_images(N), batch_size=10, epochs=5, verbose=0, callbacks=[KLAnnealing(4), noted])
    np.testing.assert_allclose(noted.seen, np.repeat([0.25, 0.5, 0.75, 1.0, 1.0], 2))
    assert float(model.objective.kl_weight) == 1.0


def test_annealing_that_goes_on_takes_the_weight_of_its_epoch_and_leaves_nothing_to_a_fit_without_it():
    model, noted = _compiled(_made("elbo")), _Weights()
    model.fit(binary_images(N), batch_size=N, initial_epoch=2, epochs=3, verbose=0, callbacks=[KLAnnealing(4), noted])
    model.fit(binary_images(N), batch_size=N, verbose=0, callbacks=[noted])
    np.testing.assert_allclose(noted.seen, [0.75, 1.0])


def test_annealing_shapes_the_step_and_not_the_reported_bound():
    x = binary_images(N)
    annealed, plain = (_compiled(_made("elbo")) for _ in range(2))
    callbacks = [KLAnnealing(10)]
    one = annealed.fit(x, validation_data=(x, None), batch_size=N, verbose=0, callbacks=callbacks).history
    other = plain.fit(x, validation_data=(x, None), batch_size=N, verbose=0).history
    np.testing.assert_allclose(one["bound"], other["bound"], rtol=1e-6)  # before the first step the models are the same
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(_values(annealed), _values(plain), strict=True))
    validated = annealed.evaluate(x, batch_size=32, verbose=0, return_dict=True)["bound"]
    np.testing.assert_allclose(one["val_bound"], validated, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ("elbo", "elbo-kl")])
def test_annealing_is_refused_where_the_divergence_is_no_term_of_the_bound(name):
    with pytest.raises(InputError, match="KL annealing is for the objectives elbo and elbo-kl, got"):
        _compiled(_made(name)).fit(binary_images(N), verbose=0, callbacks=[KLAnnealing(3)])
