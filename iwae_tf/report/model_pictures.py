"""What a model draws for the page: samples, reconstructions, and images between two images. Needs TensorFlow."""

import dataclasses

import numpy as np
import tensorflow as tf

from iwae_tf import evaluation
from iwae_tf.errors import InputError
from iwae_tf.report.record import Record
from iwae_tf.scoring_config import ScoringConfig
from iwae_tf.training.evaluation import evaluation_images
from iwae_tf.training.run_folder import TrainedRun, read_model

NUM_SAMPLES, NUM_RECONSTRUCTIONS = 100, 20
PAIRS, STEPS = 4, 8


@dataclasses.dataclass(frozen=True, eq=False)
class ModelPictures:
    """Rows of pixels, float [..., D].

    Attributes:
        samples: means of p(x | h) for h drawn from the prior, [100, D].
        x_test: the test images as they were scored, [N, D]; None where they could not be read.
        why_no_test: why not, in words.
        reconstructions: of the first images of the test set, [n, D], n <= 20.
        interpolations: [n, 10, D], n <= 4: a test image, eight means of p(x | h) on the way, another test image.
        unit_activities: variance over the test images of each unit's posterior mean, one array a layer.
    """

    samples: np.ndarray
    x_test: np.ndarray | None = None
    why_no_test: str = ""
    reconstructions: np.ndarray | None = None
    interpolations: np.ndarray | None = None
    unit_activities: tuple[np.ndarray, ...] | None = None


def model_pictures(record: Record) -> ModelPictures:
    """Draws them. Units are measured again only where no file of the run holds their activities.

    Raises:
        InputError: the model cannot be read.
    """
    model, seed = read_model(record.path), record.config["training"]["seed"]
    samples = model.sample(NUM_SAMPLES, seed, mean=True).numpy()
    try:
        trained = TrainedRun(record.path, record.config, record.metrics, model)
        x, _ = evaluation_images(trained, ScoringConfig(), "test")
    except (InputError, KeyError) as error:
        why = f"config.json has no {error}" if isinstance(error, KeyError) else str(error)
        return ModelPictures(samples, why_no_test=why)
    known = record.scores.unit_activities if record.scores else ()
    return ModelPictures(
        samples,
        x,
        reconstructions=model.reconstruct(x[:NUM_RECONSTRUCTIONS]).numpy(),
        interpolations=interpolations(model, x),
        unit_activities=known or evaluation.unit_activities(model, x, seed=seed),
    )


def interpolations(model, x: np.ndarray) -> np.ndarray:
    """Means of p(x | h) along the straight line between the posterior means of two images, between these two.

    h = (1 - t) E_q[h | x_a] + t E_q[h | x_b] for t = 0, 1/7, ..., 1, in the layer nearest x.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D], N >= 2, of which rows 0 and 1, 2 and 3, ... are the pairs.

    Returns:
        float [n, 10, D] for the first n <= 4 pairs.
    """
    pairs = min(len(x) // 2, PAIRS)
    ends = np.asarray(x[: 2 * pairs], np.float32)
    first, last = model.inference_network.stages[0], model.generative_network.likelihood_stage
    means = tf.reshape(first.head.mean(first(model.checked(ends))), [pairs, 2, -1])  # [n, 2, H]
    t = tf.linspace(0.0, 1.0, STEPS)[None, :, None]
    h = (1.0 - t) * means[:, :1] + t * means[:, 1:]  # [n, 8, H]
    between = last.head.mean(last(h)).numpy()  # [n, 8, D]
    ends = ends.reshape(pairs, 2, -1)
    return np.concatenate([ends[:, :1], between, ends[:, 1:]], axis=1)
