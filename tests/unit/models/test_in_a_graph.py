"""The methods of a model inside graphs: a user's function, a pipeline, a training step, exported endpoints."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import SMALL_DIM, binary_images, small_model

from iwae_tf.models import checks, streaming

K = 60  # more than a block of samples
METHODS = {
    "log_likelihood": lambda model, x: model.log_likelihood(x, K),
    "log_weights": lambda model, x: tf.transpose(model.log_weights(x, K)),
    "encode": lambda model, x: model.encode(x)[-1].scale,
    "reconstruct": lambda model, x: model.reconstruct(x),
    "posterior": lambda model, x: model.posterior(x).log_prob(tuple(tf.ones([1, units]) for units in (5, 3))),
    "likelihood": lambda model, x: model.likelihood((model.encode(x)[0].loc,)).log_prob(x),
}
BATCH = tf.TensorSpec([None, SMALL_DIM], tf.float32)
UNKNOWN = tf.TensorSpec(None, tf.float32)


@pytest.fixture(scope="module")
def model():
    return small_model(layers=2, gain=1.0)


@pytest.fixture(scope="module")
def x():
    return binary_images(5)


def check_values(function, model, x, method):
    for rows in (x, x[:2]):
        np.testing.assert_allclose(function(rows), METHODS[method](model, rows), rtol=2e-5)
    assert function(x[:0]).shape[0] == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_method_gives_the_same_in_a_function_for_any_number_of_rows(model, x, method):
    function = tf.function(lambda x: METHODS[method](model, x), input_signature=[BATCH])
    check_values(function, model, x, method)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_maps_a_dataset(model, x, method):
    batches = tf.data.Dataset.from_tensor_slices(x).batch(2).map(lambda rows: METHODS[method](model, rows))
    found = np.concatenate([np.asarray(values) for values in batches])
    np.testing.assert_allclose(found, METHODS[method](model, x), rtol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_graph_of_unknown_shape_gives_the_same_and_asserts_what_is_checked_eagerly(model, x, method):
    function = tf.function(lambda x: METHODS[method](model, x), input_signature=[UNKNOWN])
    check_values(function, model, x, method)
    if method == "likelihood":
        return
    for bad in (np.full_like(x, np.nan), x + 0.5, x[:, :-1], x[0]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=checks.BAD_INPUT):
            function(bad)
    with pytest.raises(ValueError, match="x must be"):
        METHODS[method](model, x + 0.5)


class Scorer(tf.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    @tf.function(input_signature=[BATCH])
    def score(self, x):
        return {"log_p": self.model.log_likelihood(x, K), "loc": self.model.encode(x)[0].loc}


def by_module(model, path):
    scorer = Scorer(model)
    tf.saved_model.save(scorer, path, signatures={"serving_default": scorer.score})
    return tf.saved_model.load(path), "score"


def by_export_archive(model, path):
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", lambda x: {"log_p": model.log_likelihood(x, K), "loc": model.encode(x)[0].loc}, [BATCH]
    )
    archive.write_out(path, verbose=False)
    return tf.saved_model.load(path), "serve"


@pytest.mark.slow
@pytest.mark.parametrize("exported", [by_module, by_export_archive])
def test_methods_are_endpoints_of_a_users_saved_model(model, x, exported, tmp_path):
    loaded, name = exported(model, str(tmp_path / "m"))
    found = getattr(loaded, name)(tf.constant(x))
    np.testing.assert_allclose(found["log_p"], model.log_likelihood(x, K), rtol=1e-6)
    np.testing.assert_allclose(found["loc"], model.encode(x)[0].loc, rtol=2e-5)


def test_a_users_training_step_reads_scores_and_differentiates_log_weights(model, x):
    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            log_w = model.log_weights(x, K)
            loss = -tf.reduce_mean(tf.reduce_logsumexp(log_w, axis=0))
        return model.log_likelihood(x, K), tape.gradient(loss, model.trainable_variables), log_w

    score, gradients, log_w = step(tf.constant(x))
    np.testing.assert_allclose(score, tf.reduce_logsumexp(log_w, axis=0) - np.log(K), rtol=1e-5)
    assert all(gradient is not None for gradient in gradients)
    units = sum(model.latent_units)
    with tf.GradientTape() as tape:
        noise = streaming.batch_noise(tf.constant(x), tf.constant(0, tf.int64), 0, K, units)
        loss = -tf.reduce_mean(tf.reduce_logsumexp(model.log_weights_from_noise(x, noise), axis=0))
    for found, expected in zip(gradients, tape.gradient(loss, model.trainable_variables), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
