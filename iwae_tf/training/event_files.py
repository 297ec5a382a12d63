"""Event files for TensorBoard, written after each epoch."""

import os

import keras
import numpy as np
import tensorflow as tf

from iwae_tf import evaluation, seeds
from iwae_tf.plots.image_grid import as_pictures
from iwae_tf.weight_statistics import empty_statistics, summarize, update_statistics

NUM_SAMPLES, NUM_RECONSTRUCTIONS, COLUMNS = 64, 16, 8


class EventFiles(keras.callbacks.Callback):
    """Writes event files that TensorBoard shows, after each epoch at the optimiser's step.

    `fit` gives the bounds on training and validation data and the learning rate. On the given rows the callback
    measures the effective sample size of the k weights, the norms of both networks' gradients and the number of active
    units, and draws samples and reconstructions if they are 2-D. Noise is a function of keys, not of a state, so the
    run keeps its bits.

    Args:
        folder: the folder of event files.
        x: rows that the likelihood can observe, [N, D], N >= 2; a hundred are enough.
        image_shape: (height, width) with height * width = D, or (height, width, 3); None draws nothing.
        seed: seed of the samples.
    """

    def __init__(self, folder: str | os.PathLike, x, image_shape: tuple[int, ...] | None = None, seed: int = 0):
        super().__init__()
        self.folder, self.x, self.seed = os.fspath(folder), tf.constant(x, tf.float32), seed
        self.image_shape = image_shape if image_shape and min(image_shape[:2]) > 1 else None
        self.writer = None

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(self.folder)
        # A graph of its own: retracing those of training and scoring for another batch size changes their last bits.
        self.weights_and_gradients = tf.function(self._weights_and_gradients, autograph=False)

    def on_epoch_end(self, epoch, logs=None):
        with self.writer.as_default(step=self.model.step):
            names = {"bound": "bound/training", "val_bound": "bound/validation"}
            values = {names[name]: value for name, value in logs.items() if name in names} | self._measured()
            for name, value in values.items():
                _write(name, tf.constant(value, tf.float32), "scalars")
            if self.image_shape:
                samples = self.model.sample(NUM_SAMPLES, self.seed, mean=True).numpy()
                _write("samples", _encoded(samples, self.image_shape), "images")
                shown = self.x[:NUM_RECONSTRUCTIONS]
                pairs = np.concatenate([_rows(shown.numpy()), _rows(self.model.reconstruct(shown).numpy())], axis=1)
                _write("reconstructions", _encoded(pairs.reshape(-1, pairs.shape[-1]), self.image_shape), "images")
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()

    def _measured(self) -> dict[str, float]:
        model, batch = self.model, tf.convert_to_tensor(self.model.batches_seen)
        log_w, gradients = self.weights_and_gradients(batch)
        num_samples, num_rows = log_w.shape
        statistics = update_statistics(empty_statistics(num_rows, num_samples), log_w)
        middle = len(model.inference_network.trainable_variables)
        end = middle + len(model.generative_network.trainable_variables)
        counts = evaluation.active_units(model, self.x, seed=self.seed)
        return {
            "learning_rate": float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
            "effective_sample_size": float(tf.reduce_mean(summarize(statistics).effective_sample_size)),
            "gradient_norm/inference_network": float(tf.linalg.global_norm(gradients[:middle])),
            "gradient_norm/generative_network": float(tf.linalg.global_norm(gradients[middle:end])),
            **{f"active_units/layer_{number}": count for number, count in enumerate(counts, start=1)},
        }

    def _weights_and_gradients(self, batch):
        """Returns the rows' log-weights [k, N], and the gradients, each with noise from the key of the batch."""
        model = self.model
        shape = [model.objective.num_samples, self.x.shape[0], sum(model.latent_units)]
        noise = seeds.normal(shape, seeds.key(model.seed, seeds.Purpose.TRAIN_NOISE, batch))
        return model.log_weights_from_noise(self.x, noise), model._bound_and_gradients(self.x, batch)[1]


def _write(name: str, value: tf.Tensor, plugin: str) -> None:
    """Writes a value for a plugin of TensorBoard; `tf.summary.scalar` and `image` need the package tensorboard."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = plugin
    tf.summary.write(name, value, metadata=metadata)


def _rows(images: np.ndarray) -> np.ndarray:
    """Returns [N, D] as [rows, 8, D], with black images at the end."""
    missing = -len(images) % COLUMNS
    return np.pad(images, ((0, missing), (0, 0))).reshape(-1, COLUMNS, images.shape[-1])


def _encoded(images: np.ndarray, image_shape: tuple[int, ...]) -> tf.Tensor:
    """Returns a grid of images, 8 in a row, in TensorBoard's form: width, height and PNG as three strings."""
    pictures = as_pictures(np.clip(_rows(images).reshape(-1, images.shape[-1]), 0.0, 1.0), image_shape)
    height, width, channels = (*image_shape, 1)[:3]
    sheet = pictures.reshape(-1, COLUMNS, height, width, channels).swapaxes(1, 2).reshape(-1, COLUMNS * width, channels)
    png = tf.io.encode_png(np.round(255 * sheet).astype(np.uint8))
    return tf.stack([str(sheet.shape[1]), str(sheet.shape[0]), png])
