"""The paper's experiments, cell by cell: trains what is missing and puts ours beside the paper's."""

import csv
import dataclasses
from pathlib import Path

from iwae_tf import plots
from iwae_tf.config import PAPER_EPOCHS, DataConfig, EvaluationConfig, OutputConfig
from iwae_tf.training import run as training
from iwae_tf.training import run_folder
from iwae_tf.training.paper import Cell, passes
from iwae_tf.training.results import evaluate

COLUMNS = (
    "cell",
    "ours_nll",
    "ours_standard_error",
    "paper_nll",
    "difference",
    "ours_active",
    "paper_active",
    "minutes",
)


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """What a table is made with.

    Attributes:
        table: its name.
        cells: those wanted.
        data: the data set.
        scale: passes over the data as a share of the paper's.
        evaluation: how log p(x) is estimated.
        seed: of all runs.
        folder: where the runs and the table go.
    """

    table: str
    cells: list[Cell]
    data: DataConfig
    scale: float
    evaluation: EvaluationConfig
    seed: int
    folder: Path

    @property
    def protocol(self) -> str:
        """A line for every output: of what length the runs are."""
        if self.scale == 1.0:
            return f"the paper's protocol: {PAPER_EPOCHS:,} passes over the data"
        return (
            f"scale {self.scale:g}: {passes(PAPER_EPOCHS, self.scale):,} passes over the data where the paper has "
            f"{PAPER_EPOCHS:,}; not the paper's protocol, compare the order and not the level"
        )


def reproduce(wanted: Reproduction, verbose: int, report=print) -> list[dict]:
    """Trains and scores every cell that is not finished, and writes the table anew after each.

    Args:
        wanted: what to make.
        verbose: as of `train`.
        report: is told what happens, line by line.

    Returns:
        A row of `COLUMNS` for each cell.
    """
    report(f"{wanted.table} on {wanted.data.dataset}, {wanted.protocol}")
    rows = []
    for cell in wanted.cells:
        for needed in (cell.start, cell) if cell.start else (cell,):
            metrics = _finished(needed, wanted, verbose, report)
        rows.append(_row(cell, metrics))
        write_table(wanted, rows)
    return rows


def _finished(cell: Cell, wanted: Reproduction, verbose: int, report) -> dict:
    """The metrics of a cell's run, which goes on where it stopped or starts where there is none."""
    path = wanted.folder / cell.run_name
    config = cell.config(wanted.data, wanted.scale, wanted.evaluation, wanted.seed, wanted.folder)
    begun = (path / "config.json").is_file()
    if begun and (path / "metrics.json").is_file():
        run_folder.check_same_settings(path, config)
        report(f"{cell.name}: finished before, in {path}")
        return run_folder.read_json(path / "metrics.json")
    report(f"{cell.name}: {'goes on' if begun else 'starts'}, {config.training.epochs} passes, in {path}")
    run = training.start(config, OutputConfig(output_dir=str(path), resume=begun))
    try:
        return evaluate(run, training.fit(run, verbose), verbose)
    finally:
        run.close()


def _row(cell: Cell, metrics: dict) -> dict:
    ours = -metrics["log_likelihood"]
    values = (
        cell.name,
        round(ours, 3),
        round(metrics["standard_error"], 3),
        cell.nll,
        round(ours - cell.nll, 3),
        "+".join(map(str, metrics["active_units"])),
        "+".join(map(str, cell.active_units)) if cell.active_units else "",
        round(metrics["train_seconds"] / 60, 1),
    )
    return dict(zip(COLUMNS, values, strict=True))


def write_table(wanted: Reproduction, rows: list[dict]) -> None:
    """Writes TABLE.csv, TABLE.md and TABLE.png into the folder."""
    path = wanted.folder / wanted.table
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "scale"])
        writer.writeheader()
        writer.writerows({**row, "scale": f"{wanted.scale:g}"} for row in rows)
    path.with_suffix(".md").write_text(markdown(wanted, rows))
    title = f"{wanted.table} on {wanted.data.dataset}"
    pairs = {row["cell"]: (row["ours_nll"], row["ours_standard_error"], row["paper_nll"]) for row in rows}
    plots.save_reproduction(path.with_suffix(".png"), pairs, title, wanted.protocol)


def markdown(wanted: Reproduction, rows: list[dict]) -> str:
    """The table in Markdown, ours, the paper's and the difference side by side, with its protocol."""
    lines = [
        f"{wanted.table} on {wanted.data.dataset}, -L_{wanted.evaluation.eval_samples} of the test images in nats;",
        f"{wanted.protocol}; seed {wanted.seed}, batch 20.",
        "",
        "| cell | ours | the paper | difference | active units | the paper's | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = f"{row['ours_nll']:.2f} +- {row['ours_standard_error']:.2f}"
        values = (f"{row['paper_nll']:.2f}", f"{row['difference']:+.2f}", row["ours_active"], row["paper_active"])
        lines.append(f"| {row['cell']} | {ours} | {' | '.join(values)} | {row['minutes']:.1f} |")
    return "\n".join(lines) + "\n"
