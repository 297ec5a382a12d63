"""What a trained run leaves: scores of the test images in `scores.parquet`, pictures, `metrics.json`."""

import time

import numpy as np

from iwae_tf import evaluation, plots
from iwae_tf.evaluation.active_units import ACTIVE_THRESHOLD
from iwae_tf.scoring_config import ScoringConfig
from iwae_tf.training import run_folder
from iwae_tf.training.callbacks import progress_bar
from iwae_tf.training.early_stopping import EarlyStopping
from iwae_tf.training.evaluation import protocol
from iwae_tf.training.evaluation_report import bits_entry, write_per_example
from iwae_tf.training.run import Run
from iwae_tf.training.stop_signals import StopSignals
from iwae_tf.training.trained import TrainedRun


def evaluate(run: Run, train_seconds: float, verbose: int = 1) -> dict:
    """Scores the test images, draws the pictures, writes `scores.parquet` and `metrics.json`; returns its content."""
    begin = time.perf_counter()
    num_samples, seed = run.config.evaluation.eval_samples, run.config.training.seed
    with StopSignals() as signals, progress_bar("evaluating", len(run.x_test), "image", verbose) as bar:

        def progress(num_images):
            bar.update(num_images)
            signals.check()

        estimate = evaluation.estimate_log_likelihood(run.model, run.x_test, num_samples, seed, progress=progress)
    activities = evaluation.unit_activities(run.model, run.x_test, seed=seed)
    about = TrainedRun(run.path, run_folder.read_json(run.path / "config.json"), {}, run.model)
    metrics = {
        "protocol": protocol(about, ScoringConfig(num_samples=num_samples, seed=seed), run.x_test),
        "unit_activities": [layer.tolist() for layer in activities],
        "dataset": run.dataset.name,
        "objective": run.config.training.objective,
        "k": run.config.training.k,
        "epochs": run.config.training.epochs,
        "num_test": len(run.x_test),
        "log_likelihood": estimate.mean_bounds[num_samples],
        "standard_error": estimate.bound_standard_errors[num_samples],
        "num_samples": num_samples,
        **bits_entry(run.model, estimate.mean_bounds[num_samples]),
        "bounds": {str(k): mean for k, mean in estimate.mean_bounds.items()},
        "bound_standard_errors": {str(k): error for k, error in estimate.bound_standard_errors.items()},
        "active_units": [int((layer > ACTIVE_THRESHOLD).sum()) for layer in activities],
        "train_seconds": round(train_seconds, 3),
        "eval_seconds": round(time.perf_counter() - begin, 3),
    }
    if run.config.training.early_stopping:
        metrics["best_epoch"] = EarlyStopping(run.path, run.config.training.early_stopping).best_epoch
    _draw(run, estimate)
    write_per_example(run.path / "scores.parquet", estimate)
    run_folder.write_json(run.path / "metrics.json", metrics)
    return metrics


def _draw(run: Run, estimate) -> None:
    training, shape = run.config.training, run.dataset.image_shape
    x = run.x_test[:20]
    # A Gaussian's mean may lie outside [0, 1]; pictures end there.
    samples, means = (
        np.clip(images, 0.0, 1.0)
        for images in (run.model.sample(100, training.seed, mean=True), run.model.reconstruct(x))
    )
    plots.save_samples(run.path / "samples.png", samples, shape)
    plots.save_reconstructions(run.path / "reconstructions.png", x, means, shape)
    images = f"{len(run.x_test):,} test images"
    plots.save_bounds(run.path / "bounds.png", estimate.mean_bounds, estimate.bound_standard_errors, images)
