"""The paper's tables as data, and their reproduction: trains the missing models and writes ours next to the paper's.

Reference: Burda, Grosse, Salakhutdinov (2016), tables 1 to 3, and section 5 for the protocol.
"""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

from iwae_tf import config as settings
from iwae_tf.config import PAPER_EPOCHS, DataConfig, EvaluationConfig
from iwae_tf.errors import InputError, finite_number, unknown_name
from iwae_tf.training import run_folder

LAST_STAGE_EPOCHS, LAST_STAGE_RATE = 3**7, 1e-4  # of the second training of a model in table 2


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model of a table.

    Attributes:
        objective: "vae" or "iwae".
        k: importance samples; the VAE averages its bound over them.
        layers: stochastic layers.
        nll: the paper's estimate of the negative log-likelihood of the test images, in nats.
        active_units: the paper's count for each layer, nearest x first; None if the paper gives none.
        start: the cell whose weights it starts from; None for the initial ones.
    """

    objective: str
    k: int
    layers: int
    nll: float
    active_units: tuple[int, ...] | None = None
    start: "Cell | None" = None

    @property
    def name(self) -> str:
        """Name on the command line."""
        swapped = f"{self.start.name}-then-" if self.start else ""
        return f"{swapped}{self.objective}-k{self.k}-l{self.layers}"

    @property
    def run_name(self) -> str:
        """Folder of its run: with one sample VAE and IWAE are the same model and share a run."""
        return f"k1-l{self.layers}" if self.k == 1 and not self.start else self.name

    def config(self, data: DataConfig, scale: float, evaluation: EvaluationConfig, seed: int, runs: Path):
        """Returns the `RunConfig` at `scale` times the paper's passes; `runs` holds the runs of all cells."""
        schedule = {"schedule": "paper", "epochs": passes(PAPER_EPOCHS, scale)}
        if self.start:
            schedule = {"epochs": passes(LAST_STAGE_EPOCHS, scale), "learning_rate": LAST_STAGE_RATE}
            schedule["init_from"] = str(runs / self.start.run_name)
        objective = {"vae": "elbo" if self.k > 1 else "iwae", "iwae": "iwae"}[self.objective]
        training = settings.TrainingConfig(objective=objective, k=self.k, batch_size=20, seed=seed, **schedule)
        return settings.RunConfig(
            data, settings.ModelConfig(layers=self.layers, likelihood="bernoulli"), training, evaluation=evaluation
        )


def passes(paper: int, scale: float) -> int:
    """Returns the passes over the data at a scale, at least one."""
    return max(1, round(paper * scale))


def _grid(vae: list[tuple], iwae: list[tuple]) -> list[Cell]:
    """Returns the cells of a table from (NLL, active units) for k = 1, 5, 50 with one layer, then with two."""
    sizes = [(layers, k) for layers in (1, 2) for k in (1, 5, 50)]
    return [
        Cell(objective, k, layers, *values)
        for (layers, k), *both in zip(sizes, vae, iwae, strict=True)
        for objective, values in zip(("vae", "iwae"), both, strict=True)
    ]


_MNIST = _grid(
    vae=[(86.76, (19,)), (86.47, (20,)), (86.35, (20,)), (85.33, (16, 5)), (85.01, (17, 5)), (84.78, (17, 5))],
    iwae=[(86.76, (19,)), (85.54, (22,)), (84.78, (25,)), (85.33, (16, 5)), (83.89, (21, 5)), (82.90, (26, 7))],
)
_OMNIGLOT = _grid(
    vae=[(108.11, (28,)), (107.62, (28,)), (107.80, (28,)), (107.58, (28, 4)), (106.31, (30, 5)), (106.30, (30, 5))],
    iwae=[(108.11, (28,)), (106.12, (34,)), (104.67, (41,)), (107.56, (30, 5)), (104.79, (38, 6)), (103.38, (44, 7))],
)
_BINARIZED_MNIST = _grid(
    vae=[(88.71,), (88.83,), (89.05,), (88.08,), (87.63,), (87.86,)],
    iwae=[(88.71,), (87.63,), (87.10,), (88.08,), (86.17,), (85.32,)],
)


def _swaps(grid: list[Cell]) -> list[Cell]:
    """Returns table 2: a VAE that is trained on as an IWAE, and the other way round."""
    cells = {cell.name: cell for cell in grid}
    vae, iwae = cells["vae-k1-l1"], cells["iwae-k50-l1"]
    return [vae, Cell("iwae", 50, 1, 84.88, (22,), start=vae), iwae, Cell("vae", 1, 1, 86.02, (23,), start=iwae)]


# table -> data set that the paper has it for, the default first -> cells
TABLES = {
    "table1": {"mnist": _MNIST, "omniglot": _OMNIGLOT},
    "table2": {"mnist": _swaps(_MNIST)},
    "table3": {"binarized_mnist": _BINARIZED_MNIST},
}


def cells_of(table: str, dataset: str, only: list[str] | None = None) -> list[Cell]:
    """Returns the cells of a table, or those named in `only`.

    Raises:
        InputError: for an unknown table or cell, or a data set for which the paper does not have the table.
    """
    if table not in TABLES:
        raise unknown_name("table", table, TABLES)
    if dataset not in TABLES[table]:
        raise InputError(f"{table} exists for {' and '.join(TABLES[table])}, got {dataset!r}")
    cells = {cell.name: cell for cell in TABLES[table][dataset]}
    for name in only or ():
        if name not in cells:
            raise unknown_name("cell", name, cells)
    return [cell for name, cell in cells.items() if not only or name in only]


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The settings of a table's reproduction.

    Attributes:
        table: its name.
        cells: the cells asked for.
        data: the data set.
        scale: passes over the data as a share of the paper's, in (0, 1].
        evaluation: how log p(x) is estimated.
        seed: of all runs.
        folder: where the runs and the table go.
        figure_format: "png", "pdf" or "svg".
    """

    table: str
    cells: list[Cell]
    data: DataConfig
    scale: float
    evaluation: EvaluationConfig
    seed: int
    folder: Path
    figure_format: str = "png"

    def __post_init__(self):
        if not 0.0 < finite_number("scale", self.scale) <= 1.0:
            raise InputError(f"scale must be above 0 and at most 1, the paper's own length, got {self.scale}")

    @property
    def protocol(self) -> str:
        """A line for every output: the length of the runs."""
        if self.scale == 1.0:
            return f"the paper's protocol: {PAPER_EPOCHS:,} passes over the data"
        return (
            f"scale {self.scale:g}: {passes(PAPER_EPOCHS, self.scale):,} passes over the data where the paper has "
            f"{PAPER_EPOCHS:,}; not the paper's protocol, compare the order and not the level"
        )


def reproduce(wanted: Reproduction, verbose: int, report: Callable[[str], None] = print) -> list[dict]:
    """Trains and scores every cell that is not finished, and rewrites the table after each; returns its rows.

    Args:
        wanted: the settings.
        verbose: as of `train`.
        report: called with a line about each step.
    """
    from iwae_tf.training.building import load_data  # needs TensorFlow

    report(f"{wanted.table} on {wanted.data.dataset}, {wanted.protocol}")
    dataset, rows = load_data(vars(wanted.data)), []
    for cell in wanted.cells:
        for needed in (cell.start, cell) if cell.start else (cell,):
            metrics = _finished(needed, wanted, dataset, verbose, report)
        rows.append(_row(cell, metrics, wanted.scale))
        write_table(wanted, rows)
    return rows


def _finished(cell: Cell, wanted: Reproduction, dataset, verbose: int, report) -> dict:
    """Returns the metrics of a cell's run, which is resumed, or started if there is none.

    Raises:
        InputError: a run in its folder has other settings or data, continues another model than that of the cell that
            it starts from, or has metrics of another model than its own.
    """
    from iwae_tf.training import run as training  # needs TensorFlow
    from iwae_tf.training.building import check_same_data
    from iwae_tf.training.evaluation import evaluate_training

    path = wanted.folder / cell.run_name
    config = cell.config(wanted.data, wanted.scale, wanted.evaluation, wanted.seed, wanted.folder)
    begun = (path / "config.json").is_file()
    if begun and cell.start:
        _check_continues(path, wanted.folder / cell.start.run_name)
    if begun and (path / "metrics.json").is_file():
        run_folder.check_same_settings(path, config)
        check_same_data(run_folder.read_json(path / "config.json")["data"], dataset)
        metrics = run_folder.read_json(path / "metrics.json")
        if different := run_folder.different_models(path, {"metrics.json": metrics.get("model")}):
            raise InputError(f"the run in {path} was changed: {different}; delete the folder to train it again")
        report(f"{cell.name}: finished before, in {path}")
        return metrics
    report(f"{cell.name}: {'resumes' if begun else 'starts'}, {config.training.epochs} passes, in {path}")
    run = training.start(config, settings.OutputConfig(output_dir=str(path), resume=begun))
    try:
        return evaluate_training(run, training.fit(run, verbose), verbose, wanted.figure_format)
    finally:
        run.close()


def _check_continues(path: Path, start: Path) -> None:
    """Raises `InputError` unless the run in `path` started from the weights that the run in `start` has now."""
    settings = path / "config.json"
    taken = run_folder.read_json(settings).get("training", {}).get("init_from_model")
    if different := run_folder.different_models(start, {f"init_from in {settings}": taken}):
        raise InputError(f"the run in {start} has changed since {path} started from it: {different}; delete {path}")


def _row(cell: Cell, metrics: dict, scale: float) -> dict:
    k = str(metrics["num_samples"])
    ours = -metrics["bounds"][k]
    return {
        "cell": cell.name,
        "ours_nll": round(ours, 3),
        "ours_standard_error": round(metrics["bound_standard_errors"][k], 3),
        "paper_nll": cell.nll,
        "difference": round(ours - cell.nll, 3),
        "ours_active": "+".join(map(str, metrics["active_units"])),
        "paper_active": "+".join(map(str, cell.active_units or ())),
        "minutes": round(metrics["train_seconds"] / 60, 1),
        "scale": f"{scale:g}",
    }


def write_table(wanted: Reproduction, rows: list[dict]) -> None:
    """Writes TABLE.csv, TABLE.md and the figure into the folder."""
    from iwae_tf import plots  # needs Matplotlib

    path = wanted.folder / wanted.table
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".md").write_text(markdown(wanted, rows), encoding="utf-8")
    title = f"{wanted.table} on {wanted.data.dataset}"
    pairs = {row["cell"]: (row["ours_nll"], row["ours_standard_error"], row["paper_nll"]) for row in rows}
    plots.save_reproduction(path.with_suffix(f".{wanted.figure_format}"), pairs, title, wanted.protocol)


def markdown(wanted: Reproduction, rows: list[dict]) -> str:
    """Returns the table in Markdown, ours, the paper's and the difference in columns, with its protocol."""
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
