"""Event files are read back as TensorBoard would; tests/unit/training/test_run.py watches a run."""

import types

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from small_models import binary_images, by_layer, reference_weights, small_model

from iwae_tf import seeds
from iwae_tf.objectives import IWAEBound
from iwae_tf.training.event_files import EventFiles

SCALARS = {
    *("bound/training", "bound/validation", "learning_rate", "effective_sample_size"),
    *("active_units/layer_1", "active_units/layer_2"),
    *("gradient_norm/inference_network", "gradient_norm/generative_network"),
}
RATE = 1e-12  # leaves the weights as they are


def events(folder) -> dict[str, dict[int, tuple[str, np.ndarray]]]:
    """Tag -> step -> plugin and value, of all files in the order they were written."""
    found = {}
    for file in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                kind = value.metadata.plugin_data.plugin_name
                found.setdefault(value.tag, {})[event.step] = (kind, tf.make_ndarray(value.tensor))
    return found


def scalar(found, tag, step) -> float:
    kind, value = found[tag][step]
    assert (kind, value.shape, value.dtype) == ("scalars", (), np.float32)
    return float(value)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Two watched epochs of one step each on 8 images, 3 x 4 pixels: model, images, history and events."""
    folder, model, x = tmp_path_factory.mktemp("events"), small_model(2, gain=1.0), binary_images(8)
    model.compile(keras.optimizers.SGD(RATE), IWAEBound(4))
    callback = EventFiles(folder, x, image_shape=(3, 4), seed=5)
    fitted = model.fit(x, batch_size=8, epochs=2, validation_data=(x, None), callbacks=[callback], verbose=0)
    return types.SimpleNamespace(model=model, x=x, history=fitted.history, found=events(folder))


def test_what_fit_reports_is_written_at_the_step_of_the_optimiser(watched):
    assert set(watched.found) == SCALARS | {"samples", "reconstructions"}
    for name, key in (("bound/training", "bound"), ("bound/validation", "val_bound")):
        assert list(watched.found[name]) == [1, 2]
        written = [scalar(watched.found, name, step) for step in (1, 2)]
        np.testing.assert_allclose(written, watched.history[key], rtol=1e-6)  # float32
    assert scalar(watched.found, "learning_rate", 2) == pytest.approx(RATE)


def test_the_effective_sample_size_is_that_of_the_weights_in_training(watched):
    noise = seeds.normal([4, 8, 8], seeds.key(0, seeds.Purpose.TRAIN_NOISE, 1)).numpy()
    weights = reference_weights(watched.model)
    log_w = reference.iwae_log_weights(watched.x.astype(np.float64), by_layer(watched.model, noise), **weights)
    expected = np.mean(reference.effective_sample_size(log_w))
    assert 1.0 < expected < 3.9
    assert scalar(watched.found, "effective_sample_size", 1) == pytest.approx(expected, rel=1e-4)  # float32 networks


def test_samples_and_reconstructions_are_pictures(watched):
    model, images = watched.model, {}
    for name in ("samples", "reconstructions"):
        kind, (width, height, png) = watched.found[name][2]
        assert kind == "images"
        images[name] = tf.io.decode_png(png).numpy()[..., 0]
        assert images[name].shape == (int(height), int(width))
    samples = np.round(255 * model.sample(64, 5, mean=True).numpy()).astype(int)
    np.testing.assert_allclose(images["samples"][3:6, 4:8].ravel(), samples[9], atol=1)  # second row, second column
    np.testing.assert_array_equal(images["reconstructions"][:3, 8:12].ravel(), 255 * watched.x[2])
    means = 255 * model.reconstruct(watched.x).numpy()
    np.testing.assert_allclose(images["reconstructions"][3:, 8:12].ravel(), means[2], atol=0.6)  # rounded


def test_the_norms_are_those_of_the_gradient_and_rows_of_numbers_are_not_drawn(watched, tmp_path):
    """A step of plain descent at rate 1 is minus the gradient of the images with the noise of step 2."""
    model, x = watched.model, watched.x
    before = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.learning_rate = 1.0
    model.fit(x, batch_size=8, shuffle=False, callbacks=[EventFiles(tmp_path, x, image_shape=(1, 12))], verbose=0)
    steps = [a - b.numpy() for a, b in zip(before, model.trainable_variables, strict=True)]
    split = len(model.inference_network.trainable_variables)
    for name, part in (("inference_network", steps[:split]), ("generative_network", steps[split:])):
        norm = np.sqrt(sum(np.sum(step.astype(np.float64) ** 2) for step in part))
        found = scalar(watched.found, f"gradient_norm/{name}", 2)
        assert found == pytest.approx(norm, rel=1e-4)  # float32 differences
    assert set(events(tmp_path)) == SCALARS - {"bound/validation"}
