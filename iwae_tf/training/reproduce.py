"""The paper's tables as data, and their reproduction: trains the missing models and writes ours next to the paper's.

Reference: Burda, Grosse, Salakhutdinov (2016), tables 1 to 3, and section 5 for the protocol.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from iwae_tf import config as settings
from iwae_tf.config import FIGURE_FORMATS, PAPER_EPOCHS, PAPER_SAMPLES, DataConfig, EvaluationConfig
from iwae_tf.errors import InputError, finite_number, unknown_name
from iwae_tf.training.sweep import Options, PlannedRun, finish, summary, with_spread, write_csv

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

    def run_name(self, seed: int) -> str:
        """Returns the folder of its run: with one sample VAE and IWAE are the same model and share a run."""
        name = f"k1-l{self.layers}" if self.k == 1 and not self.start else self.name
        return f"{name}-seed{seed}" if seed else name

    def config(self, data: DataConfig, scale: float, evaluation: EvaluationConfig, seed: int, runs: Path):
        """Returns the `RunConfig` at `scale` times the paper's passes; `runs` holds the runs of all cells."""
        schedule = {"schedule": "paper", "epochs": passes(PAPER_EPOCHS, scale)}
        if self.start:
            schedule = {"epochs": passes(LAST_STAGE_EPOCHS, scale), "learning_rate": LAST_STAGE_RATE}
            schedule["init_from"] = str(runs / self.start.run_name(seed))
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
        seeds: of the refits of each cell.
        folder: where the runs and the table go.
    """

    table: str
    cells: list[Cell]
    data: DataConfig
    scale: float
    evaluation: EvaluationConfig
    seeds: Sequence[int]
    folder: Path

    def __post_init__(self):
        if not 0.0 < finite_number("scale", self.scale) <= 1.0:
            raise InputError(f"scale must be above 0 and at most 1, the paper's own length, got {self.scale}")

    @property
    def protocol(self) -> str:
        """A line for every output: the length of the runs, and the bound if it is another than the paper's."""
        samples = self.evaluation.eval_samples
        if self.scale == 1.0 and samples == PAPER_SAMPLES:
            return f"the paper's protocol: {PAPER_EPOCHS:,} passes over the data"
        bound = "" if samples == PAPER_SAMPLES else f", and -L_{samples} where it has -L_{PAPER_SAMPLES}"
        return (
            f"scale {self.scale:g}: {passes(PAPER_EPOCHS, self.scale):,} passes over the data where the paper has "
            f"{PAPER_EPOCHS:,}{bound}; not the paper's protocol, compare the order and not the level"
        )

    def planned(self, cell: Cell, seed: int) -> PlannedRun:
        """Returns the run of a cell with a seed."""
        path = self.folder / cell.run_name(seed)
        name = f"{cell.name}, seed {seed}" if len(self.seeds) > 1 else cell.name
        return PlannedRun(name, path, cell.config(self.data, self.scale, self.evaluation, seed, self.folder))


def reproduce(wanted: Reproduction, options: Options) -> tuple[list[dict], list[Path]]:
    """Finishes the runs of all cells, one seed after the other, and rewrites the table after each.

    Returns:
        The rows of the table, and the folders of the runs that failed.
    """
    options.report(f"{wanted.table} on {wanted.data.dataset}, {wanted.protocol}")
    needed = [each for cell in wanted.cells for each in ((cell.start, cell) if cell.start else (cell,))]
    plan, found, failed, rows = {}, {}, [], []
    for seed, cell in itertools.product(wanted.seeds, needed):
        run = wanted.planned(cell, seed)
        plan.setdefault(run.path, run)
    for path, metrics in finish([*plan.values()], options):
        if metrics is None:
            failed.append(path)
            continue
        found[path] = metrics
        rows = _rows(wanted, found)
        if rows:
            write_table(wanted, rows, options.figure_format)
    return rows, failed


def _rows(wanted: Reproduction, found: dict[Path, dict]) -> list[dict]:
    """Returns a row for each cell with a finished run."""
    rows = []
    for cell in wanted.cells:
        paths = [wanted.planned(cell, seed).path for seed in wanted.seeds]
        if of_cell := [found[path] for path in paths if path in found]:
            rows.append(_row(cell, summary(of_cell), wanted))
    return rows


def _row(cell: Cell, ours: dict, wanted: Reproduction) -> dict:
    return {
        "cell": cell.name,
        "refits": ours["refits"],
        "ours_nll": round(-ours["bound"], 3),
        "ours_sd": ours["bound_sd"] and round(ours["bound_sd"], 3),
        "ours_standard_error": round(ours["bound_standard_error"], 3),
        "paper_nll": cell.nll,
        "difference": round(-ours["bound"] - cell.nll, 3),
        "ours_active": ours["active_units"],
        "paper_active": "+".join(map(str, cell.active_units or ())),
        "minutes": ours["minutes"],
        "scale": f"{wanted.scale:g}",
        "num_samples": wanted.evaluation.eval_samples,
    }


def write_table(wanted: Reproduction, rows: list[dict], figure_format: str) -> None:
    """Writes TABLE.csv, TABLE.md and the figure into the folder."""
    from iwae_tf import plots  # needs Matplotlib

    path = wanted.folder / wanted.table
    write_csv(path.with_suffix(".csv"), rows)
    path.with_suffix(".md").write_text(markdown(wanted, rows), encoding="utf-8")
    title = f"{wanted.table} on {wanted.data.dataset}"
    refits, error = (True, "ours_sd") if len(wanted.seeds) > 1 else (False, "ours_standard_error")
    pairs = {row["cell"]: (row["ours_nll"], row[error], row["paper_nll"]) for row in rows}
    for ending in FIGURE_FORMATS:  # of an earlier table
        path.with_suffix(f".{ending}").unlink(missing_ok=True)
    plots.save_reproduction(path.with_suffix(f".{figure_format}"), pairs, title, wanted.protocol, refits)


def markdown(wanted: Reproduction, rows: list[dict]) -> str:
    """Returns the table in Markdown, ours, the paper's and the difference in columns, with its protocol."""
    seeds = ", ".join(map(str, wanted.seeds))
    spread = "+-: standard deviation over refits, the runs of the seeds. " if len(wanted.seeds) > 1 else ""
    lines = [
        f"{wanted.table} on {wanted.data.dataset}, -L_{wanted.evaluation.eval_samples} of the test images in nats;",
        f"{wanted.protocol}; seed {seeds}, batch 20.",
        f"{spread}Error over images: standard error of one run's mean over the test images.",
        "",
        "| cell | ours | error over images | the paper | difference | active units | the paper's | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = with_spread(row["ours_nll"], row["ours_sd"])
        ours += "" if row["refits"] == len(wanted.seeds) else f" ({row['refits']} of {len(wanted.seeds)} refits)"
        values = [f"{row['ours_standard_error']:.2f}", f"{row['paper_nll']:.2f}", f"{row['difference']:+.2f}"]
        values += [row["ours_active"], row["paper_active"], f"{row['minutes']:.1f}"]
        lines.append(f"| {row['cell']} | {ours} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"
