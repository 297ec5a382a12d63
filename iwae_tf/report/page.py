"""The page: all there is to say about runs in one HTML file that needs no other."""

import dataclasses
import os
from pathlib import Path

import jinja2

from iwae_tf.errors import InputError
from iwae_tf.report import gallery
from iwae_tf.report.bounds import bounds_figure, bounds_table
from iwae_tf.report.learning import learning_figure
from iwae_tf.report.png import drawable
from iwae_tf.report.record import Record
from iwae_tf.report.repeat import report_command, run_commands
from iwae_tf.report.result import result_table, state
from iwae_tf.report.settings import other_protocols, setting_tables
from iwae_tf.report.timing import timing_table
from iwae_tf.report.units import unit_figures, unit_lists
from iwae_tf.version import __version__

LETTERS = "ABCDEFGH"
NO_SCORES = "No score of each image is kept in this run folder; the command Evaluate below leaves them."


@dataclasses.dataclass(frozen=True)
class Run:
    """One run as the template shows it; `number` is that of its colour, from 1."""

    number: int
    letter: str
    name: str
    state: str
    note: str
    grids: dict[str, gallery.Picture]
    scored: dict[str, list[gallery.Scored]]
    no_scores: str
    units: list[list[tuple[int, str, bool]]]


def write_report(records: list[Record], output: Path) -> None:
    """Writes the page about one run or several, by `read_records`.

    Args:
        records: the runs; in this order they are named A, B, ...
        output: the HTML file; its folder exists.

    Raises:
        InputError: a model cannot be read, or the page cannot be written.
    """
    text = page(records)
    beside = output.with_name(output.name + ".part")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; give another --output") from None


def page(records: list[Record]) -> str:
    """The text of the page."""
    pictures = [_pictures(record) for record in records]
    activities = [_activities(record, drawn) for record, drawn in zip(records, pictures, strict=True)]
    runs = [
        _run(place, records, drawn, layers)
        for place, (drawn, layers) in enumerate(zip(pictures, activities, strict=True))
    ]
    results = result_table(records)
    differing, common = setting_tables(records)
    return _template().render(
        title=f"Run {runs[0].name}" if len(runs) == 1 else f"{len(runs)} runs side by side",
        runs=runs,
        results=results,
        result_rows=[(name, values) for name, _, values in results],
        other_protocols=other_protocols(records),
        learning=learning_figure(records, LETTERS),
        bounds=bounds_figure(records, LETTERS),
        bounds_rows=bounds_table(records),
        unit_figures=unit_figures(activities, LETTERS),
        kinds=gallery.KINDS,
        differing=differing,
        common=common,
        timing=timing_table(records),
        commands=_commands(records, [run.name for run in runs]),
        version=__version__,
    )


def _template() -> jinja2.Template:
    """The template beside this file; whatever is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def _pictures(record: Record):
    """What the model of a run draws; None before it is trained."""
    if not record.has_model:
        return None
    from iwae_tf.report.model_pictures import model_pictures  # needs TensorFlow

    return model_pictures(record)


def _activities(record: Record, drawn):
    if record.scores and record.scores.unit_activities:
        return record.scores.unit_activities
    return drawn.unit_activities if drawn else None


def _run(place: int, records: list[Record], drawn, activities) -> Run:
    record, shape = records[place], records[place].config["data"].get("image_shape", [])
    return Run(
        number=place + 1,
        letter=LETTERS[place],
        name=_name(record, records),
        state=state(record),
        note=_note(record, drawn, shape),
        grids=gallery.grids(drawn, shape) if drawn else {},
        scored=gallery.best_and_worst(record, drawn.x_test if drawn else None),
        no_scores=NO_SCORES if record.metrics else "This run is not evaluated yet.",
        units=unit_lists(activities) if activities else [],
    )


def _commands(records: list[Record], names: list[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A heading with commands for each run, and the page's own at the end."""
    report = report_command(records)
    if len(records) == 1:
        return [("", [*run_commands(records[0]), report])]
    headings = [f"{letter}  {name}" for letter, name in zip(LETTERS, names, strict=False)]
    return [*zip(headings, map(run_commands, records), strict=True), ("This page", [report])]


def _name(record: Record, records: list[Record]) -> str:
    """The name of the folder, or its path where two have the same name."""
    name = record.path.resolve().name
    return name if [other.path.resolve().name for other in records].count(name) == 1 else str(record.path)


def _note(record: Record, drawn, shape) -> str:
    """Why pictures are missing, in words; empty where none is."""
    if drawn is None:
        return "The model is kept when training ends; before that there is nothing to draw."
    if not drawable(shape):
        size = " x ".join(map(str, shape)) or "unknown"
        return f"A row of the data has the shape {size}, which is no grey image: there are no image grids."
    if drawn.x_test is None:
        return f"Without test images here, as they could not be read: {drawn.why_no_test}"
    return ""
