"""Event files are read back as TensorBoard would."""

import json

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from shared_runs import SIZES
from small_models import binary_images, reference_weights, small_model

from iwae_tf import seeds
from iwae_tf.commands.main import main
from iwae_tf.objectives import IWAEBound
from iwae_tf.training.event_files import EventFiles

SCALARS = {
    *("bound/training", "bound/validation", "learning_rate", "effective_sample_size", "active_units/layer_1"),
    *("gradient_norm/inference_network", "gradient_norm/generative_network"),
}


def events(folder) -> dict[str, dict[int, tf.Tensor]]:
    """Tag -> step -> value, of all files in the order they were written."""
    found = {}
    for file in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                kind = value.metadata.plugin_data.plugin_name
                array = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, {})[event.step] = (kind, array)
    return found


def scalar(found, tag, step) -> float:
    kind, value = found[tag][step]
    assert (kind, value.shape, value.dtype) == ("scalars", (), np.float32)
    return float(value)


def fitted(model, folder, x, epochs=2, **options):
    model.compile(keras.optimizers.Adam(1e-3), IWAEBound(4))
    callback = EventFiles(folder, x[:6], **options)
    return model.fit(x, batch_size=4, epochs=epochs, validation_data=(x[:8], None), callbacks=[callback], verbose=0)


def test_what_fit_reports_is_written_at_the_step_of_the_optimiser(tmp_path):
    history = fitted(small_model(), tmp_path, binary_images(16)).history
    found = events(tmp_path)
    assert set(found) == SCALARS
    for name, key in (("bound/training", "bound"), ("bound/validation", "val_bound")):
        written = [scalar(found, name, step) for step in (4, 8)]
        np.testing.assert_allclose(written, history[key], rtol=1e-6)  # float32
    assert scalar(found, "learning_rate", 8) == pytest.approx(1e-3)


def test_layers_have_their_own_active_units_and_without_validation_data_there_is_no_bound_of_them(tmp_path):
    model, x = small_model(2), binary_images(16)
    model.compile(keras.optimizers.Adam(1e-3), IWAEBound(4))
    model.fit(x, batch_size=8, epochs=1, callbacks=[EventFiles(tmp_path, x)], verbose=0)
    assert set(events(tmp_path)) == SCALARS - {"bound/validation"} | {"active_units/layer_2"}


def test_the_effective_sample_size_is_that_of_the_weights_in_training(tmp_path):
    model, x = small_model(), binary_images(8)
    model.compile(keras.optimizers.SGD(0.0), IWAEBound(4))
    model.fit(x, batch_size=8, callbacks=[EventFiles(tmp_path, x)], verbose=0)
    noise = seeds.normal([4, 8, 5], seeds.key(0, seeds.Purpose.TRAIN_NOISE, 1)).numpy().astype(np.float64)
    log_w = reference.iwae_log_weights(x.astype(np.float64), [noise], **reference_weights(model))
    expected = np.mean(reference.effective_sample_size(log_w))
    assert 1.0 < expected < 3.9
    assert scalar(events(tmp_path), "effective_sample_size", 1) == pytest.approx(expected, rel=1e-4)  # float32 networks


def test_the_norms_are_those_of_the_gradient_of_each_network(tmp_path):
    """A step of plain descent at rate 1 is minus the gradient, here of the same images with the same noise."""
    model, x = small_model(), binary_images(6)
    model.compile(keras.optimizers.SGD(0.0), IWAEBound(4))
    model.fit(x, batch_size=6, callbacks=[EventFiles(tmp_path, x)], verbose=0)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.learning_rate = 1.0
    model.fit(x, batch_size=6, shuffle=False, verbose=0)  # of the same images at the same step
    steps = [a - b.numpy() for a, b in zip(before, model.trainable_variables, strict=True)]
    split = len(model.inference_network.trainable_variables)
    found = events(tmp_path)
    for name, part in (("inference_network", steps[:split]), ("generative_network", steps[split:])):
        norm = np.sqrt(sum(np.sum(step.astype(np.float64) ** 2) for step in part))
        assert scalar(found, f"gradient_norm/{name}", 1) == pytest.approx(norm, rel=1e-4)  # float32 differences


def test_samples_and_reconstructions_are_pictures(tmp_path):
    model, x = small_model(), binary_images(6)
    fitted(model, tmp_path, np.repeat(x, 3, axis=0), image_shape=(3, 4), seed=5)
    found = events(tmp_path)
    images = {}
    for name in ("samples", "reconstructions"):
        kind, (width, height, png) = found[name][10]
        assert kind == "images"
        images[name] = tf.io.decode_png(png).numpy()[..., 0]
        assert images[name].shape == (int(height), int(width))
    samples = np.round(255 * model.sample(64, 5, mean=True).numpy()).astype(int)
    np.testing.assert_allclose(images["samples"][3:6, 4:8].ravel(), samples[9], atol=1)  # second row, second column
    shown = np.repeat(x, 3, axis=0)[:6]
    np.testing.assert_array_equal(images["reconstructions"][:3, 8:12].ravel(), 255 * shown[2])
    means = 255 * model.reconstruct(shown).numpy()
    np.testing.assert_allclose(images["reconstructions"][3:, 8:12].ravel(), means[2], atol=0.6)  # rounded


def test_rows_of_numbers_are_not_drawn(tmp_path):
    fitted(small_model(), tmp_path, binary_images(16), epochs=1, image_shape=(1, 12))
    assert "samples" not in events(tmp_path)


@pytest.mark.slow
def test_a_watched_run_has_the_bits_of_one_that_is_not_even_if_it_is_stopped_and_resumed(
    images, tmp_path, without_figures, monkeypatch, capsys
):
    watched, plain = tmp_path / "watched", tmp_path / "plain"
    flags = ["train", "--dataset", images, "--k", "3", "--epochs", "2", *SIZES, "--batch-size", "10", "--verbose", "0"]
    assert main([*flags, "--output-dir", str(plain)]) == 0
    ended = EventFiles.on_epoch_end

    def stops(self, epoch, logs=None):
        ended(self, epoch, logs)
        if epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EventFiles, "on_epoch_end", stops)
        assert main([*flags, "--tensorboard", "--output-dir", str(watched)]) == 130
    assert main([*flags, "--tensorboard", "--output-dir", str(watched), "--resume"]) == 0
    models = [keras.saving.load_model(path / "model.keras") for path in (watched, plain)]
    for one, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    metrics = [json.loads((path / "metrics.json").read_text())["bounds"] for path in (watched, plain)]
    assert metrics[0] == metrics[1]
    assert not (plain / "tensorboard").exists()
    assert len(list((watched / "tensorboard").iterdir())) == 2
    found = events(watched / "tensorboard")
    assert set(found) == SCALARS | {"samples", "reconstructions"}
    assert list(found["bound/training"]) == [5, 10]
