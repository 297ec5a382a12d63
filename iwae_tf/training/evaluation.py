"""Scores a split of a run's data set, resumable batch by batch: the end of `train`, and `evaluate`."""

import contextlib
import dataclasses
import hashlib
import shutil
import time
from pathlib import Path

import numpy as np

from iwae_tf import plots
from iwae_tf.config import ScoringConfig
from iwae_tf.data import Dataset
from iwae_tf.distributions.levels import bits_per_dimension
from iwae_tf.errors import InputError
from iwae_tf.evaluation.compare import mean_name, monte_carlo_error
from iwae_tf.evaluation.estimate import (
    PAPER_SAMPLE_SIZES,
    REFINED,
    LikelihoodEstimate,
    concatenate,
    likelihood_batches,
    proposal_name,
    standard_error_of_mean,
)
from iwae_tf.evaluation.posterior import posterior_samples
from iwae_tf.evaluation.units import ACTIVE_THRESHOLD, unit_activities
from iwae_tf.plots import columns, image_grid
from iwae_tf.training import evaluation_extras as extras
from iwae_tf.training.building import check_same_data, load_data, scored_images
from iwae_tf.training.callbacks import EarlyStopping, StopSignals, epochs_in, progress_bar
from iwae_tf.training.run import Run
from iwae_tf.training.run_folder import (
    TrainedRun,
    differences,
    likelihood_of,
    model_checksum,
    read_json,
    write_json,
)
from iwae_tf.training.scores_file import SCORES, columns_of, model_of, read_columns, write_columns
from iwae_tf.training.workers import Workers

BATCH_SIZE = 100
POSTERIOR_ROWS = 4


def evaluate_training(run: Run, train_seconds: float, verbose: int = 1, figure_format: str = "png") -> dict:
    """Scores the test rows at the end of `train`, draws, and writes `metrics.json`; returns its content.

    Scores of the same model under the same protocol are kept, those of some batches as those of all.
    """
    begin, training = time.perf_counter(), run.config.training
    settings = ScoringConfig(num_samples=run.config.evaluation.eval_samples, seed=training.seed)
    checksum = model_checksum(run.path)
    about = protocol(run.model, read_json(run.path / "config.json"), settings, run.x_test)
    of_batches = {**about, "model": checksum}
    same = _is_begun(run.path) and read_json(run.path / "batches" / "protocol.json") == of_batches
    alone = run.workers.index is None  # other workers do not share the folder, so they cannot resume the scoring
    finished = _finished(run.path, about, checksum) if alone else None
    if finished is None:
        _open_batches(run.path, of_batches, delete=None if same and alone else run.path / "batches")
        named = _named(run.dataset, "test")
        finished = _score(run.model, run.x_test, settings, about, checksum, run.path, verbose, run.workers, named)
    estimate, report = finished
    of_run = {
        "dataset": run.dataset.name,
        "objective": training.objective,
        "k": training.k,
        "epochs": training.epochs,
        "epochs_done": epochs_in(run.path / "history.csv"),
        "num_test": len(run.x_test),
        "num_samples": settings.num_samples,
    }
    metrics = {**of_run, "eval_seconds": round(time.perf_counter() - begin, 3), **report, **of_run}
    metrics["train_seconds"] = round(train_seconds, 3)
    if training.early_stopping:
        metrics["best_epoch"] = EarlyStopping(run.path, training.early_stopping).best_epoch
    if run.workers.is_chief:
        write_json(run.path / "metrics.json", metrics)  # first: a figure that fails costs no score
        _draw_training(run, estimate, about["proposal"], figure_format)
        shutil.rmtree(run.path / "batches", ignore_errors=True)
    return metrics


def _draw_training(run: Run, estimate: LikelihoodEstimate, proposal: str, figure_format: str) -> None:
    training, dataset, x = run.config.training, run.dataset, run.x_test

    def file(name):
        return run.path / f"{name}.{figure_format}"

    if is_table(dataset):
        draws = run.model.sample(columns.DRAWS, training.seed)
        plots.save_columns(file("columns"), dataset.columns, x, draws, _counted(x, "test", dataset))
    else:
        pictures = run.model.sample(100, training.seed, mean=True), x[:20], run.model.reconstruct(x[:20])
        samples, rows, means = (_grey(images, x, dataset) for images in pictures)
        plots.save_samples(file("samples"), samples, dataset.picture_shape)
        plots.save_reconstructions(file("reconstructions"), rows, means, dataset.picture_shape)
    _draw_bounds(file("bounds"), estimate, proposal, _counted(x, "test", dataset))


def is_table(dataset: Dataset) -> bool:
    """Returns whether rows are the columns of a table and no images."""
    return bool(dataset.columns) and dataset.image_shape[0] == 1


def _counted(x: np.ndarray, split: str, dataset: Dataset) -> str:
    """Returns number and name of the rows of a split for titles, such as "400 test images"."""
    return f"{len(x):,} {split} {'rows' if is_table(dataset) else 'images'}"


def _grey(images, x: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Returns images as grey values in [0, 1]; real values by their range in the rows x."""
    return image_grid.as_grey(images, x if dataset.columns else None)


def evaluate_run(
    trained: TrainedRun,
    settings: ScoringConfig,
    overwrite: bool,
    verbose: int,
    workers: Workers,
    figure_format: str = "png",
) -> tuple[dict, Path]:
    """Scores a split of the run's data set and writes RUN/evaluation/; returns the report and the folder.

    All workers read the run's folder; the chief worker alone writes to it.

    Raises:
        InputError: the data are not those of the run, there is an evaluation already, or an option does not exist for
            the model.
    """
    folder, model = trained.path / "evaluation", trained.model
    extras.check_extras(model, settings)
    x, dataset = evaluation_images(trained, settings, settings.split)
    about, checksum = protocol(model, trained.config, settings, x), model_checksum(trained.path)
    if workers.is_chief:
        _prepare_folder(folder, {**about, "model": checksum}, overwrite)
    named = _named(dataset, settings.split)
    estimate, report = _score(model, x, settings, about, checksum, folder, verbose, workers, named)
    if settings.deviation:
        report["deviation"] = extras.deviation_section(model, x, estimate, settings)
    if settings.gap:
        x_train, _ = evaluation_images(trained, settings, "train")
        report["train_test_gap"] = extras.gap_section(model, x_train, estimate, settings, verbose)
    if settings.jackknife:
        report["jackknife"] = extras.jackknife_section(model, x, settings, verbose)
    activities = tuple(np.asarray(layer) for layer in report["unit_activities"])
    if settings.prune:
        report["pruned"] = extras.pruned_section(model, x, estimate, activities, settings, verbose)
    if settings.annealed:
        report["annealed"] = extras.annealed_section(model, x, estimate, settings, verbose)
    if settings.inference_gap:
        report["inference_gap"] = extras.inference_gap_section(model, x, estimate, settings, verbose)
    if workers.is_chief:
        _draw_evaluation(folder, model, x, dataset, estimate, activities, settings, figure_format)
        write_json(folder / "report.json", report)
        shutil.rmtree(folder / "batches", ignore_errors=True)
    return report, folder


def _draw_bounds(path: Path, estimate: LikelihoodEstimate, proposal: str, of: str) -> None:
    """Draws L_k, and the estimate of log p(x) as a line if it is another number."""
    bounds, scores = estimate.mean_bounds, estimate.log_likelihood
    log_p, name = float(scores.mean()), mean_name(int(estimate.reliable.sum()), len(scores))
    by = "refined proposals" if proposal == REFINED else "more samples of q(h | x)"
    line = (f"{name} by {by}", log_p) if log_p != bounds[max(bounds)] else None
    plots.save_bounds(path, {"": (bounds, estimate.bound_standard_errors)}, of, line)


def _draw_evaluation(folder, model, x, dataset, estimate, activities, settings, figure_format) -> None:
    """Writes the figures of an evaluation; those of posteriors for two Gaussian units in the top layer."""
    log_p, of = estimate.log_likelihood, _counted(x, settings.split, dataset)

    def file(name):
        return folder / f"{name}.{figure_format}"

    _draw_bounds(file("bounds"), estimate, proposal_name(model, settings.refine), of)
    plots.save_scores(file("scores"), log_p, of)
    plots.save_reliability(file("reliability"), log_p, estimate.pareto_k, of)
    image_shape = None if is_table(dataset) else dataset.picture_shape
    plots.save_extremes(file("extremes"), _grey(x, x, dataset), log_p, image_shape, of)
    plots.save_activities(file("activities"), {"": activities}, of)
    if model.latent_units[-1] == 2 and model.gaussian_latents:
        x = x[:POSTERIOR_ROWS]
        draws = posterior_samples(model, x, 500, settings.num_samples)[-1]
        plots.save_posteriors(file("posteriors"), model, x, draws.numpy(), image_shape, of)


def evaluation_images(trained: TrainedRun, settings: ScoringConfig, split: str) -> tuple[np.ndarray, Dataset]:
    """Returns the rows of a split of the run's data set as they are scored, float32 [N, D], and the data set.

    Raises:
        InputError: the data are missing, or are not those of the run.
    """
    had = trained.config["data"]
    dataset = load_data(had, settings.data_dir)
    check_same_data(had, dataset)
    x = scored_images(dataset, split, trained.config["model"]["likelihood"])
    if len(x) < 2:
        raise InputError(f"the {split} split has {len(x)} rows, at least 2 are needed; choose another --part")
    return x, dataset


# One evaluation, of either command


def protocol(model, config: dict, settings: ScoringConfig, x: np.ndarray) -> dict:
    """Returns the settings that two sets of scores must share to be compared, and the seed."""
    data = config["data"]
    return {
        "dataset": data["dataset"],
        "source": data["source"],
        "split": data["split"],
        "part": settings.split,
        "num_rows": len(x),
        "binarization": data["binarization_evaluation"],
        "content": "sha256:" + hashlib.sha256(np.ascontiguousarray(x, np.float32).tobytes()).hexdigest(),
        "likelihood": likelihood_of(config),
        "num_samples": settings.num_samples,
        "target_standard_error": settings.target_standard_error,
        "max_samples": settings.max_samples,
        "proposal": proposal_name(model, settings.refine),
        "seed": settings.seed,
    }


def _named(dataset: Dataset, split: str) -> dict[str, np.ndarray]:
    """Returns the identifiers and labels of the rows of a split, as columns of their scores."""
    found = {"id": dataset.ids, "label": dataset.labels}
    return {name: values[split] for name, values in found.items() if split in values}


def _score(
    model,
    x: np.ndarray,
    settings: ScoringConfig,
    about: dict,
    checksum: str,
    folder: Path,
    verbose: int,
    workers: Workers,
    named: dict[str, np.ndarray],
) -> tuple[LikelihoodEstimate, dict]:
    """Scores rows [N, D], writes FOLDER/scores.parquet and returns the estimate and the report on it.

    Batches in FOLDER/batches are not computed again; `about` is their protocol, and `checksum` that of the model.
    `named` has the identifiers and labels of the rows, if they have any.
    """
    estimate = _estimate(model, x, settings, folder / "batches", verbose, workers)
    activities = unit_activities(model, x, seed=settings.seed)
    if workers.is_chief:
        write_columns(folder / SCORES, columns_of(estimate) | named, checksum)
    report = {"model": checksum, "protocol": about, **_likelihood_section(estimate)}
    if "label" in named:
        report["labels"] = extras.labels_section(estimate.log_likelihood, named["label"])
    if model.levels is not None:
        report["bits_per_dimension"] = bits_per_dimension(report["log_likelihood"], model.data_dim)
    report["unit_activities"] = [layer.tolist() for layer in activities]
    report["active_units"] = [int((layer > ACTIVE_THRESHOLD).sum()) for layer in activities]
    return estimate, report


def _estimate(model, x, settings, batches: Path, verbose: int, workers: Workers) -> LikelihoodEstimate:
    done = [_estimate_in(_batch(batches, number)) for number in range(workers.agree(_num_readable(batches)))]
    first_row = sum(len(batch.log_likelihood) for batch in done)
    remaining = likelihood_batches(
        model,
        x,
        settings.num_samples,
        settings.seed,
        PAPER_SAMPLE_SIZES,
        BATCH_SIZE,
        settings.target_standard_error,
        settings.max_samples,
        settings.refine,
        first_row,
    )
    with StopSignals() as signals, progress_bar("evaluating", len(x), "row", verbose, initial=first_row) as bar:
        for batch in remaining if first_row < len(x) else ():
            if workers.is_chief:
                write_columns(_batch(batches, len(done)), columns_of(batch, first_row))
            done.append(batch)
            first_row += len(batch.log_likelihood)
            bar.update(len(batch.log_likelihood))
            signals.check()
    return concatenate(done)


def _batch(batches: Path, number: int) -> Path:
    return batches / f"{number:06d}.parquet"


def _num_readable(batches: Path) -> int:
    """Returns the number of batches from the first to the one before the first that is missing or damaged."""
    number = 0
    with contextlib.suppress(InputError):
        while _batch(batches, number).is_file():
            _estimate_in(_batch(batches, number))
            number += 1
    return number


def _estimate_in(file: Path) -> LikelihoodEstimate:
    columns = read_columns(file)
    bounds = {int(name[6:]): columns[name] for name in columns if name.startswith("bound_")}
    names = [field.name for field in dataclasses.fields(LikelihoodEstimate) if field.name != "bounds"]
    return LikelihoodEstimate(**{name: columns[name] for name in names}, bounds=bounds)


def _finished(path: Path, about: dict, checksum: str) -> tuple[LikelihoodEstimate, dict] | None:
    """Returns the estimate and the metrics of a run, if they are of this model and protocol, else None."""
    with contextlib.suppress(InputError, KeyError):
        metrics, estimate = read_json(path / "metrics.json"), _estimate_in(path / SCORES)
        if (metrics.get("protocol"), metrics.get("model"), model_of(path / SCORES)) == (about, checksum, checksum):
            return estimate, metrics
    return None


def _prepare_folder(folder: Path, about: dict, overwrite: bool) -> None:
    """Makes RUN/evaluation ready for new scores, or for the rest of those of this model under the same protocol.

    `about` is the protocol with the checksum of the model.
    """
    if not overwrite and (folder / "report.json").exists():
        raise InputError(f"{folder} holds a finished evaluation; replace it with --overwrite")
    begun = not overwrite and _is_begun(folder)
    found = differences(read_json(folder / "batches" / "protocol.json"), about) if begun else ""
    if found:
        raise InputError(
            f"{folder} holds an evaluation that was stopped under another protocol or of another model: {found}; give "
            "the same flags to resume it, or --overwrite"
        )
    _open_batches(folder, about, delete=folder if overwrite else None if begun else folder / "batches")


def _open_batches(folder: Path, about: dict, delete: Path | None) -> None:
    """Makes FOLDER/batches, which may hold batches already, with what they are of, after deleting a folder."""
    batches = folder / "batches"
    try:
        if delete and delete.exists():
            shutil.rmtree(delete)
        batches.mkdir(parents=True, exist_ok=True)
        write_json(batches / "protocol.json", about)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None


def _is_begun(folder: Path) -> bool:
    return (folder / "batches" / "protocol.json").is_file()


def _likelihood_section(estimate: LikelihoodEstimate) -> dict:
    """Returns means over the rows with their errors, and the reliability of the rows' scores."""
    values, errors = estimate.log_likelihood, estimate.standard_error
    return {
        "log_likelihood": float(values.mean()),
        "standard_error": standard_error_of_mean(values),
        "monte_carlo_error": monte_carlo_error(values, errors),
        "bounds": {str(k): value for k, value in estimate.mean_bounds.items()},
        "bound_standard_errors": {str(k): value for k, value in estimate.bound_standard_errors.items()},
        "reliability": {
            "num_rows": len(values),
            "reliable": int(estimate.reliable.sum()),
            "median_effective_sample_size": float(np.median(estimate.effective_sample_size)),
            "median_standard_error": float(np.median(errors)),
            "mean_num_samples": float(estimate.num_samples.mean()),
            "largest_num_samples": int(estimate.num_samples.max()),
        },
    }


def table(report: dict) -> str:
    """Returns the closing table of `train` and `evaluate`: the bounds, and the estimate of log p(x)."""
    reliability, target = report["reliability"], report["protocol"]["target_standard_error"]
    number, reliable = reliability["num_rows"], reliability["reliable"]
    name = mean_name(reliable, number)
    lines = [f"{'k':>8}  mean L_k (nats)"]
    lines += [
        f"{k:>8}  {mean:10.3f} +- {report['bound_standard_errors'][k]:.3f}" for k, mean in report["bounds"].items()
    ]
    aim = "" if target is None else f" and reach the target of {target:g} nats"
    others = "" if reliable == number else "; the others may be too low"
    effective = reliability["median_effective_sample_size"]
    lines += [
        "",
        f"{name} {report['log_likelihood']:.3f}, standard error over rows {report['standard_error']:.3f}, of the "
        f"samples {report['monte_carlo_error']:.4f}",
        f"{reliable} of {number} scores are reliable{aim}{others}",
        *([f"bits per dimension {report['bits_per_dimension']:.4f}"] if "bits_per_dimension" in report else []),
        f"samples per row: {reliability['mean_num_samples']:.0f} on average, at most "
        f"{reliability['largest_num_samples']}; effective {effective:.0f} (median)",
        f"active units {' + '.join(map(str, report['active_units']))}",
        *_label_lines(report.get("labels")),
    ]
    return "\n".join(lines)


def _label_lines(labels: dict | None) -> list[str]:
    """Returns how well low scores find the rarer label, in one line; none without labels."""
    if labels is None:
        return []
    return [
        f"low scores find label {labels['rarer']} ({labels['count']} of {labels['of']} rows): AUROC "
        f"{labels['auroc']:.3f}, average precision {labels['average_precision']:.3f}"
    ]
