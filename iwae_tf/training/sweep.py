"""Runs finished one after the other, and what settings achieve over several seeds: a table and a figure.

A mean score has two errors. The standard deviation over refits, i.e. runs that differ in the seed alone, says how far
another training moves it. The standard error over rows, of one run, says how far other test rows move it; the runs
share the rows, so it does not say how far they lie apart.
"""

import csv
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iwae_tf.config import FIGURE_FORMATS, OutputConfig, RunConfig, WorkersConfig
from iwae_tf.errors import InputError
from iwae_tf.evaluation.compare import mean_name
from iwae_tf.training import run_folder
from iwae_tf.words import percent

VARIED = ("objective", "k", "learning_rate")  # settings that a sweep can vary


class PlannedRun(NamedTuple):
    """A run to be finished: its name in reports, its folder and its settings."""

    name: str
    path: Path
    config: RunConfig


class Options(NamedTuple):
    """Options for finishing runs, which change no result.

    Attributes:
        output: progress and event files; the folder is that of each run.
        workers: devices.
        figure_format: "png", "pdf" or "svg".
        report: called with a line about each step.
        after: called with the folder of each run that was trained.
    """

    output: OutputConfig = OutputConfig()
    workers: WorkersConfig | None = None
    figure_format: str = "png"
    report: Callable[[str], None] = print
    after: Callable[[Path], None] = lambda path: None


# Runs one after the other


def finish(plan: Sequence[PlannedRun], options: Options) -> Iterator[tuple[Path, dict | None]]:
    """Yields the folder and the metrics of each run once it is finished: found so, resumed, or trained from the start.

    A run that fails, for example since its learning rate is too high, is reported and has no metrics.

    Args:
        plan: runs on the same data, in folders of their own; one that starts from another one's weights comes later.
        options: how they are finished.

    Raises:
        InputError: a setting cannot be used, or a folder holds a run with other settings or data, of a changed model,
            or from changed weights. What the folders hold at the start is checked before anything is trained.
    """
    from iwae_tf.training.building import load_data, resolved  # needs TensorFlow
    from iwae_tf.training.callbacks import made_by
    from iwae_tf.training.run import check_sizes, checked_objective

    dataset = load_data(vars(plan[0].config.data))
    plan = [run._replace(config=resolved(run.config, dataset)) for run in plan]
    for run in plan:
        check_sizes(run.config, dataset, checked_objective(run.config))
    missing = [run for run in plan if _metrics(run, dataset) is None]
    scoring = []  # seconds
    for run in plan:
        if (metrics := _metrics(run, dataset)) is not None:
            options.report(f"{run.name}: finished before, in {run.path}")
        else:
            missing = [other for other in missing if other.path != run.path]
            later = sum(map(_cost, missing)) / _cost(run), len(missing)
            say_time_left = functools.partial(_time_left, run.name, later, scoring, options.report)
            callbacks = made_by(run.config.callbacks)  # before the folder is touched
            try:
                metrics = _trained(run, options, [*callbacks], say_time_left)
            except InputError as error:
                options.report(f"{run.name}: failed: {error}")
            else:
                scoring.append(metrics["eval_seconds"])
        yield run.path, metrics


def check_none_failed(failed: Sequence[Path]) -> None:
    """Raises `InputError` that names the runs that failed, if there are any."""
    if failed:
        names = ", ".join(map(str, failed))
        raise InputError(f"not in the table, for the reasons above: {names}")


def _metrics(run: PlannedRun, dataset) -> dict | None:
    """Returns the metrics of a finished run, or None for one that has to be trained, or trained further."""
    from iwae_tf.training.building import check_same_data

    path, training = run.path, run.config.training
    if not (path / "config.json").is_file():
        return None
    if training.init_from:
        _check_continues(path, Path(training.init_from))
    run_folder.check_same_settings(path, run.config)
    stored = run_folder.read_json(path / "config.json")
    check_same_data(stored["data"], dataset)
    if not (path / "metrics.json").is_file():
        return None
    metrics = run_folder.read_json(path / "metrics.json")
    if training.epochs != metrics.get("epochs", stored["training"].get("epochs")):  # finished with fewer
        return None
    if different := run_folder.different_models(path, {"metrics.json": metrics.get("model")}):
        raise InputError(f"the run in {path} was changed: {different}; delete the folder to train it again")
    return metrics


def _check_continues(path: Path, start: Path) -> None:
    """Raises `InputError` unless the run in `path` started from the weights that the run in `start` has now."""
    settings = path / "config.json"
    taken = run_folder.read_json(settings).get("training", {}).get("init_from_model")
    if different := run_folder.different_models(start, {f"init_from in {settings}": taken}):
        raise InputError(f"the run in {start} has changed since {path} started from it: {different}; delete {path}")


def _trained(run: PlannedRun, options: Options, callbacks: list, say_time_left: Callable[[float, float], None]) -> dict:
    from iwae_tf.training import run as training  # needs TensorFlow
    from iwae_tf.training.callbacks import TimeLeft
    from iwae_tf.training.evaluation import evaluate_training

    begun = (run.path / "config.json").is_file()
    options.report(
        f"{run.name}: {'resumes' if begun else 'starts'}, {run.config.training.epochs} passes, in {run.path}"
    )
    output = dataclasses.replace(options.output, output_dir=str(run.path), resume=begun)
    started = training.start(run.config, output, options.workers)
    try:
        clock = TimeLeft(started.total_steps, say_time_left)
        seconds = training.fit(started, output.verbose, [clock, *callbacks])
        metrics = evaluate_training(started, seconds, output.verbose, options.figure_format)
    finally:
        started.close()
    options.after(run.path)
    return metrics


def _cost(run: PlannedRun) -> float:
    """Returns the time of training in a unit of its own, within a third on two cores for the networks of the paper."""
    training = run.config.training
    return training.epochs * (1 + run.config.model.layers) * (8 + training.k)


def _time_left(name: str, later: tuple[float, int], scoring: list[float], report, left: float, whole: float) -> None:
    """Reports the time left, given that of a run: `left` of `whole` seconds of training.

    `later` has the cost of all later runs in units of the run's, and their number; `scoring` has measured seconds.
    """
    cost, number = later
    total = left + cost * whole + (1 + number) * (np.mean(scoring) if scoring else 0.0)
    and_others = f"; all {1 + number} runs left: about {_duration(total)}" if number else ""
    without = "" if scoring and number else ", scoring not included"
    report(f"{name}: about {_duration(left)} of training to go{and_others}{without}")


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(seconds / 60, 1):.0f} min"


# What settings achieve


def summary(found: Sequence[dict]) -> dict:
    """Returns what runs that differ in the seed alone achieve, from the `metrics.json` of each.

    Returns:
        Number of `refits`; the means over them of `bound`, L_k for the k of the scoring, and of `log_likelihood`, in
        nats, each with its standard deviation over refits, `..._sd`, None for one, and the standard error over rows of
        the first run, `..._standard_error`; the share of `reliable` scores in all runs, NaN if unknown; the range of
        `active_units` of each layer, and the mean `minutes` of training.
    """
    first, k = found[0], str(found[0]["num_samples"])
    units = [(min(layer), max(layer)) for layer in zip(*(metrics["active_units"] for metrics in found), strict=True)]
    counts = [metrics.get("reliability", {"reliable": math.nan, "num_rows": 1}) for metrics in found]
    return {
        "refits": len(found),
        **_over_refits("bound", [metrics["bounds"][k] for metrics in found], first["bound_standard_errors"][k]),
        **_over_refits("log_likelihood", [metrics["log_likelihood"] for metrics in found], first["standard_error"]),
        "reliable": sum(count["reliable"] for count in counts) / sum(count["num_rows"] for count in counts),
        "active_units": "+".join(f"{low}" if low == high else f"{low}-{high}" for low, high in units),
        "minutes": round(float(np.mean([metrics["train_seconds"] for metrics in found])) / 60, 1),
    }


def _over_refits(name: str, values: list[float], standard_error: float) -> dict[str, float | None]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {name: float(np.mean(values)), f"{name}_sd": spread, f"{name}_standard_error": standard_error}


def with_spread(mean: float, spread: float | None) -> str:
    """Returns "mean +- standard deviation", or the mean alone without a deviation."""
    return f"{mean:.2f}" if spread is None else f"{mean:.2f} +- {spread:.2f}"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Settings, each trained and scored with several seeds.

    Attributes:
        configs: of the settings, which differ in `VARIED` alone; their seeds do not matter.
        seeds: of the refits.
        folder: holds the run folders, named as `train` names them, and the table.
        name: of the table's files.
    """

    configs: Sequence[RunConfig]
    seeds: Sequence[int]
    folder: Path
    name: str = "sweep"

    @property
    def varied(self) -> list[str]:
        """Names of the settings with more than one value."""
        return [name for name in VARIED if len({getattr(config.training, name) for config in self.configs}) > 1]

    def file(self, ending: str) -> Path:
        """Returns the path of the table or the figure; a name may have a point, as in "beta0.05"."""
        return self.folder / f"{self.name}.{ending}"

    def planned(self, config: RunConfig, seed: int) -> PlannedRun:
        """Returns the run of a setting with a seed."""
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))
        name = run_folder.path_of(config, OutputConfig()).name
        if "learning_rate" in self.varied:
            rate = config.training.learning_rate
            name = f"{name.removesuffix(f'-seed{seed}')}-rate{rate}-seed{seed}"
        return PlannedRun(name, self.folder / name, config)


def run_sweep(wanted: Sweep, options: Options) -> tuple[str, list[Path]]:
    """Finishes every run, one seed of all settings after the other, and rewrites the table after each.

    Returns:
        The table, and the folders of the runs that failed.
    """
    found, failed, text = {}, [], ""
    plan = [wanted.planned(config, seed) for seed in wanted.seeds for config in wanted.configs]
    for path, metrics in finish(plan, options):
        if metrics is None:
            failed.append(path)
            continue
        found[path] = metrics
        text = _write_table(wanted, found, options.figure_format)
    return text, failed


def _write_table(wanted: Sweep, found: dict[Path, dict], figure_format: str) -> str:
    """Writes NAME.csv, NAME.md and, for several settings, the figure; returns the table in Markdown."""
    rows, scores = [], {}
    for config in wanted.configs:
        paths = [wanted.planned(config, seed).path for seed in wanted.seeds]
        if of_setting := [found[path] for path in paths if path in found]:
            rows.append({name: getattr(config.training, name) for name in VARIED} | summary(of_setting))
            label = ", ".join(f"{name.replace('_', ' ')} {rows[-1][name]}" for name in wanted.varied)
            scores[label] = [metrics["log_likelihood"] for metrics in of_setting]
    text = _markdown(wanted, rows, next(iter(found.values())))
    write_csv(wanted.file("csv"), rows)
    wanted.file("md").write_text(text, encoding="utf-8")
    for ending in FIGURE_FORMATS:  # of an earlier table
        wanted.file(ending).unlink(missing_ok=True)
    if wanted.varied:
        from iwae_tf import plots  # needs Matplotlib

        errors = [row["log_likelihood_standard_error"] for row in rows]
        title = f"{_measure(rows)} on {wanted.configs[0].data.dataset}"
        plots.save_sweep(wanted.file(figure_format), scores, errors, title, _fixed(wanted))
    return text


def write_csv(path: Path, rows: list[dict]) -> None:
    """Writes rows with the same names as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _measure(rows: list[dict]) -> str:
    """Returns the name of the scores: "log p(x)", if at least 90% are reliable in every setting."""
    return mean_name(min(row["reliable"] for row in rows), 1)


def _fixed(wanted: Sweep) -> str:
    """Returns the settings that all runs share, in words."""
    training = wanted.configs[0].training
    words = [f"{name.replace('_', ' ')} {getattr(training, name)}" for name in VARIED if name not in wanted.varied]
    return f"{', '.join(words)}{', ' if words else ''}{training.epochs} epochs"


def _markdown(wanted: Sweep, rows: list[dict], metrics: dict) -> str:
    varied, k = wanted.varied or ["k"], metrics["num_samples"]
    seeds = ", ".join(map(str, wanted.seeds))
    lines = [
        f"{metrics['dataset']}, {_fixed(wanted)}; seeds {seeds}; {metrics['num_test']} test rows; in nats.",
        "",
        "+-: standard deviation over refits, the runs of the seeds: how far another training moves the mean.",
        "Error over rows: standard error of the first seed's mean over the test rows: how far other rows move it.",
        "",
        f"| {' | '.join(name.replace('_', ' ') for name in varied)} | refits | L_{k} | error over rows | "
        f"{_measure(rows)} | error over rows | reliable | active units | minutes |",
        "|---" * (len(varied) + 8) + "|",
    ]
    for row in rows:
        words = [*(str(row[name]) for name in varied), str(row["refits"])]
        for name in ("bound", "log_likelihood"):
            words += [with_spread(row[name], row[f"{name}_sd"]), f"{row[f'{name}_standard_error']:.2f}"]
        words += [percent(row["reliable"]), row["active_units"], f"{row['minutes']:.1f}"]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"
