"""The page: one HTML file about one run or several, with the figures of `iwae_tf.plots` inside."""

import base64
import os
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np

from iwae_tf.data.dataset import picture_shape
from iwae_tf.errors import InputError
from iwae_tf.plots import columns, curves, image_grid, style
from iwae_tf.report import tables
from iwae_tf.report.record import Record, names_of
from iwae_tf.version import __version__

PAIRS, STEPS = 4, 8  # rows of the interpolation, and images between its two ends
INTERPOLATION = "Test images at both ends, means of p(x | h) on the line between their posterior means"


class Picture(NamedTuple):
    """An image of the page: a data URI, and what it shows in words."""

    uri: str
    alt: str


@style.plain_settings()
def write_report(records: list[Record], output: Path) -> None:
    """Writes the page about the runs of `read_records`, which are named A, B, ... in this order.

    Raises:
        InputError: a model cannot be read, or the page cannot be written.
    """
    text = page(records)
    unfinished = output.with_name(output.name + ".part")  # an atomic rename: nobody reads half a page
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; give another --output") from None


def page(records: list[Record]) -> str:
    """Returns the text of the page."""
    models = [_Model(record) for record in records]
    names = names_of([record.path for record in records])
    letters = style.LETTERS if len(records) > 1 else [""]
    runs = [
        {
            "letter": letter,
            "color": color,
            "name": name,
            "state": tables.state(record),
            "notes": model.notes(),
            "pictures": model.pictures(),
            "scored": _scored(record),
            "units": [_unit_list(layer) for layer in model.activities or ()],
        }
        for letter, color, name, record, model in zip(letters, style.SERIES, names, records, models, strict=False)
    ]
    differing, common = tables.setting_tables(records)
    report = ("This page", [tables.report_command(records)])
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        title=f"Run {names[0]}" if len(runs) == 1 else f"{len(runs)} runs side by side",
        runs=runs,
        results=tables.result_table(records),
        result_notes=tables.RESULT_NOTES,
        other_protocols=tables.other_protocols(records),
        curves=_curves(records, models, letters),
        bounds=tables.bounds_table(records),
        differing=differing,
        common=common,
        timing=tables.timing_table(records),
        commands=[*zip(names, map(tables.run_commands, records), strict=True), report],
        version=__version__,
    )


def _picture(figure, kind: str = "png") -> Picture:
    """Returns a figure for the page, described by the words of its heading."""
    content = base64.b64encode(style.encode(figure, kind)).decode()
    words = " ".join(text.get_text() for text in figure.texts)
    return Picture(f"data:image/{'svg+xml' if kind == 'svg' else kind};base64,{content}", words)


def _curves(records: list[Record], models: list["_Model"], letters) -> list[Picture]:
    """Returns learning curves, bounds and activities of all runs that have them."""
    histories, bounds, activities = {}, {}, {}
    for letter, record, model in zip(letters, records, models, strict=False):
        if len(record.history["epoch"]):
            histories[letter] = record.history
        if record.metrics:
            bounds[letter] = record.metrics["bounds"], record.metrics["bound_standard_errors"]
        if model.activities:
            activities[letter] = model.activities
    figures = (curves.learning_figure, curves.bounds_figure, curves.activities_figure)
    drawn = zip(figures, (histories, bounds, activities), strict=True)
    return [_picture(draw(of_runs), "svg") for draw, of_runs in drawn if of_runs]


def _scored(record: Record) -> list[tuple[str, list[str]]]:
    """Returns numbers and scores of the rows with the highest and the lowest log p(x); empty without scores."""
    if record.scores is None:
        return []
    scores, errors = record.scores.log_likelihood, record.scores.standard_error
    groups = zip(("Highest", "Lowest"), image_grid.extremes(scores), strict=True)
    return [
        (name, [f"row {row}: {tables.with_error(scores[row], errors[row])}" for row in rows])
        for name, rows in groups
        if len(rows)
    ]


def _unit_list(layer: np.ndarray) -> list[str]:
    """Returns number and activity of every unit, the most active first."""
    return [
        f"unit {unit}: {layer[unit]:.3g}".replace("-", "\N{MINUS SIGN}")
        + ("" if layer[unit] > curves.ACTIVE else " inactive")
        for unit in np.argsort(-layer, kind="stable")
    ]


class _Model:
    """Model and test rows of a run, for its pictures; both None before training has finished. Needs TensorFlow.

    Attributes:
        shape: (height, width) or (height, width, 3) of an image, or None for rows that are no images.
        x_test: test rows as scored, [N, D], or None where they cannot be read.
        why_not: the reason, in words.
        activities: of the latent units, one array a layer, measured only where no file of the run holds them.
    """

    def __init__(self, record: Record):
        self.record, self.model, self.x_test, self.why_not = record, None, None, ""
        shape, colours = record.config["data"].get("image_shape", []), record.config["data"].get("colours", False)
        self.shape = picture_shape(shape, colours) if len(shape) == 2 and min(shape) > 1 else None
        self.dataset = None
        self.activities = record.scores.unit_activities if record.scores else ()
        if not record.has_model:
            return
        from iwae_tf import evaluation
        from iwae_tf.config import ScoringConfig
        from iwae_tf.training.evaluation import evaluation_images
        from iwae_tf.training.run_folder import TrainedRun, read_model

        self.model = read_model(record.path)
        try:
            trained = TrainedRun(record.path, record.config, record.metrics, self.model)
            self.x_test, self.dataset = evaluation_images(trained, ScoringConfig(), "test")
        except (InputError, KeyError) as error:
            self.why_not = f"config.json has no {error}" if isinstance(error, KeyError) else str(error)
            return
        if not self.activities:
            self.activities = evaluation.unit_activities(
                self.model, self.x_test, seed=record.config["training"]["seed"]
            )

    def notes(self) -> list[str]:
        """Returns the reasons why pictures and scores are missing."""
        found = []
        if self.model is None:
            found.append("The model is written when training ends; there are no pictures before.")
        elif self.shape is None and not self.record.config["data"].get("table_columns"):
            size = " x ".join(map(str, self.record.config["data"].get("image_shape", []))) or "unknown"
            found.append(f"A row of the data has the shape {size}, which is no image: there are no image grids.")
        elif self.x_test is None:
            found.append(f"No test rows, because they could not be read: {self.why_not}")
        if self.record.scores is None:
            evaluated = "No scores of single rows in this run folder; the command Evaluate below writes them."
            found.append(evaluated if self.record.metrics else "This run is not evaluated yet.")
        elif self.record.metrics and self.record.scores.protocol != self.record.metrics["protocol"]:
            scores, scored = self.record.scores, {"num_samples": 0, **self.record.scores.protocol}
            found.append(
                f"The scores of single rows are those of the command evaluate, not of the results above: "
                f"{scored['num_samples']:,} samples, proposal {scored.get('proposal')}, "
                f"{np.count_nonzero(scores.reliable):,} of {len(scores.reliable):,} reliable."
            )
        return found

    def pictures(self) -> list[Picture]:
        """Returns samples, reconstructions, interpolations, and the best and worst scored rows."""
        x, seed = self.x_test, self.record.config["training"]["seed"]
        if self.model is not None and self.shape is None and self.dataset is not None and self.dataset.columns:
            draws = self.model.sample(columns.DRAWS, seed)
            return [_picture(columns.columns_figure(self.dataset.columns, x, draws, f"{len(x):,} test rows"))]
        if self.model is None or self.shape is None:
            return []
        shape = self.shape

        def grey(images):
            return image_grid.as_grey(images, x if x is not None and self.dataset.columns else None)

        found = [image_grid.samples_figure(grey(self.model.sample(100, seed, mean=True)), shape)]
        if x is not None:
            shown, means = grey(x), grey(self.model.reconstruct(x[:20]))
            found.append(image_grid.reconstructions_figure(shown[:20], means, shape))
            rows = [image_grid.as_pictures(grey(row), shape) for row in interpolations(self.model, x)]
            found.append(image_grid.grid_figure(rows, INTERPOLATION))
            scores = self.record.scores
            if scores is not None and len(scores.log_likelihood) == len(x):
                found.append(image_grid.extremes_figure(shown, scores.log_likelihood, shape))
        return [_picture(figure) for figure in found]


def interpolations(model, x: np.ndarray) -> np.ndarray:
    """Returns test images, and between them means of p(x | h) on the line between their posterior means.

    h = (1 - t) E_q[h | x_a] + t E_q[h | x_b] for t = 0, 1/7, ..., 1, in the layer nearest x.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [N, D], N >= 2; rows 0 and 1, 2 and 3, ... are the pairs.

    Returns:
        float [n, 10, D] for the first n <= 4 pairs.
    """
    pairs = min(len(x) // 2, PAIRS)
    ends = np.asarray(x[: 2 * pairs], np.float32)
    first, last = model.inference_network.stages[0], model.generative_network.likelihood_stage
    means = np.reshape(first.head.mean(first(model.checked(ends))), [pairs, 2, -1])  # [n, 2, H]
    t = np.linspace(0.0, 1.0, STEPS, dtype=np.float32)[None, :, None]
    h = (1.0 - t) * means[:, :1] + t * means[:, 1:]  # [n, 8, H]
    between = last.head.mean(last(h)).numpy()  # [n, 8, D]
    ends = ends.reshape(pairs, 2, -1)
    return np.concatenate([ends[:, :1], between, ends[:, 1:]], axis=1)
