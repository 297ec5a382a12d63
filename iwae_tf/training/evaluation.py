"""Scores the images of a finished run, batch by batch, and goes on where it was stopped."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from iwae_tf.data import load
from iwae_tf.errors import InputError
from iwae_tf.evaluation.active_units import ACTIVE_THRESHOLD, unit_activities
from iwae_tf.evaluation.log_likelihood import PAPER_SAMPLE_SIZES, LikelihoodEstimate, concatenate, likelihood_batches
from iwae_tf.scoring_config import ScoringConfig
from iwae_tf.training import evaluation_extras as extras
from iwae_tf.training.callbacks import progress_bar
from iwae_tf.training.evaluation_figures import draw, draw_posteriors
from iwae_tf.training.evaluation_report import bits_entry, likelihood_section, write_per_example
from iwae_tf.training.run import scored_images
from iwae_tf.training.run_folder import read_json, write_json
from iwae_tf.training.stop_signals import StopSignals
from iwae_tf.training.trained import TrainedRun
from iwae_tf.training.workers import Workers

BATCH_SIZE = 100


def evaluate_run(
    trained: TrainedRun, settings: ScoringConfig, overwrite: bool, verbose: int, workers: Workers
) -> tuple[dict, Path]:
    """Scores a part of the run's data set and leaves RUN/evaluation/; returns the report and the folder.

    Of several workers all read the run's folder, and the chief alone writes there.

    Raises:
        InputError: the data are not those of the run, there is an evaluation already, or something asked for does not
            exist for the model.
    """
    extras.check_extras(trained.model, settings)
    x, image_shape = evaluation_images(trained, settings, settings.part)
    folder, model = trained.path / "evaluation", trained.model
    report = {"protocol": protocol(trained, settings, x)}
    if workers.is_chief:
        prepare_folder(folder, report["protocol"], overwrite)
    with progress_bar("evaluating", len(x), "image", verbose) as bar:
        estimate = estimate_with_parts(model, x, settings, folder / "parts", bar.update, workers)
    activities = unit_activities(model, x, seed=settings.seed)
    report |= likelihood_section(estimate)
    report |= bits_entry(model, report["log_likelihood"])
    report["unit_activities"] = [layer.tolist() for layer in activities]
    report["active_units"] = [int((layer > ACTIVE_THRESHOLD).sum()) for layer in activities]
    report["deviation"] = extras.deviation_section(model, x, estimate, settings)
    if settings.gap:
        x_train, _ = evaluation_images(trained, settings, "train")
        report["train_test_gap"] = extras.gap_section(model, x_train, estimate, settings, verbose)
    if settings.jackknife:
        report["jackknife"] = extras.jackknife_section(model, x, settings, verbose)
    if settings.prune:
        report["pruned"] = extras.pruned_section(model, x, estimate, activities, settings, verbose)
    if settings.annealed:
        report["annealed"] = extras.annealed_section(model, x, estimate, settings, verbose)
    if not workers.is_chief:
        return report, folder
    title = f"{len(x):,} {settings.part} images"
    draw(folder, x, image_shape, estimate, activities, title)
    if model.latent_units[-1] == 2 and model.latent == "gaussian":
        draw_posteriors(folder, model, x, image_shape, settings.num_samples, title)
    write_per_example(folder / "scores.parquet", estimate)
    write_json(folder / "report.json", report)
    shutil.rmtree(folder / "parts")
    (folder / "protocol.json").unlink()
    return report, folder


def evaluation_images(trained: TrainedRun, settings: ScoringConfig, part: str) -> tuple[np.ndarray, tuple]:
    """The images of a part of the run's data set as they are scored, float32 [N, D], and the shape of an image.

    Raises:
        InputError: the data are not there, or are not those that the run had.
    """
    had = trained.config["data"]
    dataset = load(had["dataset"], settings.data_dir or had["data_dir"])
    now = {f"num_{name}": len(getattr(dataset, f"x_{name}")) for name in ("train", "valid", "test")}
    changed = [f"{name} is {had[name]} there and {value} here" for name, value in now.items() if had[name] != value]
    if changed:
        raise InputError(f"the data set is not the one that the run was trained on: {'; '.join(changed)}")
    x = scored_images(dataset, part, trained.config["model"]["likelihood"])
    if len(x) < 2:
        raise InputError(f"the {part} part has {len(x)} images, at least 2 are needed; choose another --part")
    return x, dataset.image_shape


def protocol(trained: TrainedRun, settings: ScoringConfig, x: np.ndarray) -> dict:
    """All that two sets of scores must share to be compared, and the seed."""
    data = trained.config["data"]
    return {
        "dataset": data["dataset"],
        "source": data["source"],
        "split": data["split"],
        "part": settings.part,
        "num_images": len(x),
        "binarization": data["binarization_evaluation"],
        "images": "sha256:" + hashlib.sha256(np.ascontiguousarray(x, np.float32).tobytes()).hexdigest(),
        "likelihood": trained.config["model"]["likelihood"],
        "num_samples": settings.num_samples,
        "target_standard_error": settings.target_standard_error,
        "max_samples": settings.max_samples,
        "seed": settings.seed,
    }


def prepare_folder(folder: Path, protocol: dict, overwrite: bool) -> None:
    """Makes a folder ready for scores, or for going on with them.

    Raises:
        InputError: there are scores already, finished or under another protocol, and `overwrite` is false; or the
            folder cannot be written.
    """
    try:
        if overwrite and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        (folder / "parts").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    if (folder / "report.json").exists():
        (folder / "parts").rmdir()
        raise InputError(f"{folder} holds a finished evaluation; replace it by --overwrite")
    if not (folder / "protocol.json").exists():
        write_json(folder / "protocol.json", protocol)
        return
    there = read_json(folder / "protocol.json")
    differences = [
        f"{name} is {there.get(name)!r} there and {value!r} here"
        for name, value in protocol.items()
        if there.get(name) != value
    ]
    if differences:
        raise InputError(
            f"{folder} holds an evaluation that was stopped under another protocol: {'; '.join(differences)}; give the "
            "same flags to go on with it, or --overwrite"
        )


def estimate_with_parts(
    model, x: np.ndarray, settings: ScoringConfig, parts: Path, progress: Callable[[int], None], workers: Workers
) -> LikelihoodEstimate:
    """`estimate_log_likelihood` that writes every finished batch to `parts` and goes on after those that are there."""
    num_done = workers.agree(len(list(parts.glob("*.npz"))))
    done = [_read_part(parts, number) for number in range(num_done)]
    first_row = sum(len(part.log_likelihood) for part in done)
    progress(first_row)
    batches = likelihood_batches(
        model,
        x,
        settings.num_samples,
        settings.seed,
        PAPER_SAMPLE_SIZES,
        BATCH_SIZE,
        settings.target_standard_error,
        settings.max_samples,
        first_row,
    )
    if first_row < len(x):
        with StopSignals() as signals:
            for part in batches:
                if workers.is_chief:
                    _write_part(parts, len(done), part)
                done.append(part)
                progress(len(part.log_likelihood))
                signals.check()
    return concatenate(done)


def _write_part(parts: Path, number: int, part: LikelihoodEstimate) -> None:
    arrays = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.name != "bounds"}
    arrays |= {f"bound_{k}": values for k, values in part.bounds.items()}
    beside = parts / "part"
    with beside.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(beside, parts / f"{number:06d}.npz")


def _read_part(parts: Path, number: int) -> LikelihoodEstimate:
    try:
        with np.load(parts / f"{number:06d}.npz") as arrays:
            bounds = {int(name[6:]): arrays[name] for name in arrays.files if name.startswith("bound_")}
            columns = {name: arrays[name] for name in arrays.files if not name.startswith("bound_")}
    except (OSError, ValueError) as error:
        raise InputError(f"{parts} cannot be gone on with ({error}); start anew by --overwrite") from None
    return LikelihoodEstimate(**columns, bounds=bounds)
