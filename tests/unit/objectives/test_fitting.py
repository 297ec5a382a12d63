"""Objectives in `compile`, `fit`, `save` and `load_model`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from objective_table import CLOSE, TABLE, K, bound_and_gradients, made, table_cases
from small_models import binary_images, small_model, standard_noise

from iwae_tf import seeds
from iwae_tf.adam import Adam
from iwae_tf.objectives import CIWAE, IWAEBound, KLAnnealing

N = 20


@pytest.fixture(autouse=True)
def _same_order_of_images():
    keras.utils.set_random_seed(0)


def _tiny():
    return small_model(1, gain=1.0, latent_units=(3,), hidden_units=((),))


def _compiled(objective):
    model = _tiny()
    model.compile(Adam(0.01), objective=objective)
    return model


def _learning(**kwargs):
    return CIWAE(K, beta=0.4, learn_beta=True, **kwargs)


def _values(model):
    return [variable.numpy() for variable in model.trainable_variables]


@pytest.mark.parametrize(("name", "k", "settings"), table_cases(k=K))
def test_keras_serialises_every_objective_with_its_settings(name, k, settings):
    objective = TABLE[name].cls(k, backward_samples=2, **settings)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert type(again) is type(objective)
    assert again.get_config() == objective.get_config()
    assert again.get_config().items() >= {"num_samples": k, "backward_samples": 2, **settings}.items()


@pytest.mark.slow
def test_a_saved_model_trains_on_as_the_original_with_what_its_objective_has_learned(tmp_path):
    objective = _learning(backward_samples=2)
    x, model = binary_images(N), _compiled(objective)
    before = _values(model)
    model.fit(x, batch_size=N, verbose=0)
    assert all(np.abs(after - value).max() > 0.0 for after, value in zip(_values(model), before, strict=True))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert (type(loaded.objective), type(loaded.optimizer)) == (CIWAE, Adam)
    assert loaded.objective.get_config() == objective.get_config()
    assert 0.38 < float(objective.current_beta()) == float(loaded.objective.current_beta()) < 0.4 - 1e-3
    model.save_weights(tmp_path / "m.weights.h5")
    other = _compiled(_learning())
    other.load_weights(tmp_path / "m.weights.h5")
    assert float(other.objective.current_beta()) == float(objective.current_beta())
    scored = keras.saving.load_model(tmp_path / "m.keras", compile=False)  # it is not needed to score
    noise = standard_noise(model, 5, N)
    np.testing.assert_array_equal(scored.log_weights_from_noise(x, noise), model.log_weights_from_noise(x, noise))
    assert len(scored.trainable_variables) == len(model.trainable_variables) - 1
    for one in (model, loaded):
        one.fit(x, batch_size=N, verbose=0)
    assert loaded.step == model.step == 2
    for one, other in zip(_values(model), _values(loaded), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)  # float32, graphs traced anew


def test_another_objective_leaves_nothing_of_the_one_before():
    model, plain = _compiled(CIWAE(K, learn_beta=True)), _compiled(IWAEBound(K))
    assert len(model.trainable_variables) == len(plain.trainable_variables) + 1
    model.compile(keras.optimizers.Adam(0.01), objective=IWAEBound(K))
    for variables in ("trainable_variables", "weights"):
        assert len(getattr(model, variables)) == len(getattr(plain, variables))
    assert len(model.optimizer.variables) == len(plain.optimizer.variables)
    model.compile(keras.optimizers.Adam(0.01), objective=_learning())
    np.testing.assert_allclose(model.objective.current_beta(), 0.4, rtol=1e-6)


@pytest.mark.slow
def test_a_step_is_the_same_eagerly_in_a_graph_of_any_batch_size_and_under_xla(monkeypatch):
    model, x, objective = _tiny(), tf.constant(binary_images(N)), made("jvi", backward_samples=3)
    noise, uniforms = tf.random.stateless_normal([K, N, 3], (0, 1)), tf.random.stateless_uniform([3, N], (0, 2))
    # XLA draws other random numbers from the same key; the step as a function of them is the same.
    monkeypatch.setattr(seeds, "uniform", lambda shape, key: uniforms[: shape[0]])

    def step(x):
        return bound_and_gradients(model, objective, x, noise, lambda purpose, counter=0: None)

    eager = step(x)
    graph = tf.function(step, input_signature=[tf.TensorSpec([None, 12], tf.float32)], autograph=False)(x)
    xla = tf.function(step, jit_compile=True, autograph=False)(x)
    for other in (graph, xla):
        np.testing.assert_allclose(other[0], eager[0], rtol=1e-5)  # float32, sums in another order
        for one, expected in zip(other[1], eager[1], strict=True):
            np.testing.assert_allclose(one, expected, **CLOSE)


class _Weights(keras.callbacks.Callback):
    """Records the weight of the divergence in every batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.objective.kl_weight))


def test_annealing_raises_the_weight_by_epoch_also_when_resumed_and_leaves_nothing_to_a_fit_without_it():
    x, model, noted = binary_images(N), _compiled(made("elbo")), _Weights()
    model.fit(x, batch_size=10, epochs=5, verbose=0, callbacks=[KLAnnealing(4), noted])
    np.testing.assert_allclose(noted.seen, np.repeat([0.25, 0.5, 0.75, 1.0, 1.0], 2))
    noted.seen.clear()
    model.fit(x, batch_size=10, initial_epoch=2, epochs=3, verbose=0, callbacks=[KLAnnealing(4), noted])
    model.fit(x, batch_size=10, verbose=0, callbacks=[noted])
    np.testing.assert_allclose(noted.seen, [0.75, 0.75, 1.0, 1.0])


def test_annealing_shapes_the_step_and_not_the_reported_bound():
    x = binary_images(N)
    annealed, plain = (_compiled(made("elbo-kl")) for _ in range(2))
    one = annealed.fit(x, validation_data=(x, None), batch_size=N, verbose=0, callbacks=[KLAnnealing(10)]).history
    other = plain.fit(x, batch_size=N, verbose=0).history
    np.testing.assert_allclose(one["bound"], other["bound"], rtol=1e-6)  # equal models before the first step
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(_values(annealed), _values(plain), strict=True))
    validated = annealed.evaluate(x, batch_size=32, verbose=0, return_dict=True)["bound"]
    np.testing.assert_allclose(one["val_bound"], validated, rtol=1e-6)
