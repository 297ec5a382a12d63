"""The paper's experiments as data: which models, how they were trained, and what came out. No TensorFlow.

Reference: Burda, Grosse, Salakhutdinov (2016), tables 1 to 3, and section 5 for the protocol.
"""

import dataclasses
from pathlib import Path

from iwae_tf.config import (
    PAPER_EPOCHS,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    RunConfig,
    TrainingConfig,
)
from iwae_tf.errors import InputError, finite_number, unknown_name

LAST_STAGE_EPOCHS, LAST_STAGE_RATE = 3**7, 1e-4  # what a model of table 2 is trained on with
TABLES = ("table1", "table2", "table3")
# table -> the data sets that it is there for, the default first
DATASETS = {"table1": ("mnist", "omniglot"), "table2": ("mnist",), "table3": ("binarized_mnist",)}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model of a table.

    Attributes:
        objective: "vae" or "iwae".
        k: importance samples; the VAE averages its bound over them.
        layers: stochastic layers.
        nll: the paper's estimate of the negative log-likelihood of the test images, in nats.
        active_units: the paper's count for each layer, nearest x first; None where it gives none.
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
        """What the command line calls it."""
        swapped = f"{self.start.name}-then-" if self.start else ""
        return f"{swapped}{self.objective}-k{self.k}-l{self.layers}"

    @property
    def run_name(self) -> str:
        """The folder of its run: with one sample VAE and IWAE are the same model and share one."""
        return f"k1-l{self.layers}" if self.k == 1 and not self.start else self.name

    def config(self, data: DataConfig, scale: float, evaluation: EvaluationConfig, seed: int, runs: Path) -> RunConfig:
        """The settings of its run, at `scale` times the paper's passes, with the runs of all cells in a folder."""
        schedule = {"schedule": "paper", "epochs": passes(PAPER_EPOCHS, scale)}
        if self.start:
            schedule = {"epochs": passes(LAST_STAGE_EPOCHS, scale), "learning_rate": LAST_STAGE_RATE}
            schedule["init_from"] = str(runs / self.start.run_name)
        objective = "elbo" if self.objective == "vae" and self.k > 1 else "iwae"
        return RunConfig(
            data,
            ModelConfig(layers=self.layers),
            TrainingConfig(objective=objective, k=self.k, batch_size=20, seed=seed, **schedule),
            ObjectiveConfig(),
            evaluation,
        )


def passes(paper: int, scale: float) -> int:
    """Passes over the data at a scale: at least one."""
    return max(1, round(paper * scale))


def check_scale(scale: float) -> float:
    """The scale; raises `InputError` unless it is in (0, 1]."""
    if not 0.0 < finite_number("scale", scale) <= 1.0:
        raise InputError(f"scale must be above 0 and at most 1, the paper's own length, got {scale}")
    return scale


def _grid(vae: dict, iwae: dict) -> list[Cell]:
    """Cells of a table from (layers, k) -> NLL and active units."""
    return [
        Cell(objective, k, layers, *values)
        for (layers, k) in vae
        for objective, values in (("vae", vae[layers, k]), ("iwae", iwae[layers, k]))
    ]


_TABLE1_MNIST = _grid(
    vae={
        (1, 1): (86.76, (19,)),
        (1, 5): (86.47, (20,)),
        (1, 50): (86.35, (20,)),
        (2, 1): (85.33, (16, 5)),
        (2, 5): (85.01, (17, 5)),
        (2, 50): (84.78, (17, 5)),
    },
    iwae={
        (1, 1): (86.76, (19,)),
        (1, 5): (85.54, (22,)),
        (1, 50): (84.78, (25,)),
        (2, 1): (85.33, (16, 5)),
        (2, 5): (83.89, (21, 5)),
        (2, 50): (82.90, (26, 7)),
    },
)
_TABLE1_OMNIGLOT = _grid(
    vae={
        (1, 1): (108.11, (28,)),
        (1, 5): (107.62, (28,)),
        (1, 50): (107.80, (28,)),
        (2, 1): (107.58, (28, 4)),
        (2, 5): (106.31, (30, 5)),
        (2, 50): (106.30, (30, 5)),
    },
    iwae={
        (1, 1): (108.11, (28,)),
        (1, 5): (106.12, (34,)),
        (1, 50): (104.67, (41,)),
        (2, 1): (107.56, (30, 5)),
        (2, 5): (104.79, (38, 6)),
        (2, 50): (103.38, (44, 7)),
    },
)
_TABLE3 = _grid(
    vae={(1, 1): (88.71,), (1, 5): (88.83,), (1, 50): (89.05,), (2, 1): (88.08,), (2, 5): (87.63,), (2, 50): (87.86,)},
    iwae={(1, 1): (88.71,), (1, 5): (87.63,), (1, 50): (87.10,), (2, 1): (88.08,), (2, 5): (86.17,), (2, 50): (85.32,)},
)


def _swaps(grid: list[Cell]) -> list[Cell]:
    """Table 2: the VAE trained on as an IWAE, and the other way round."""
    cells = {cell.name: cell for cell in grid}
    vae, iwae = cells["vae-k1-l1"], cells["iwae-k50-l1"]
    return [vae, Cell("iwae", 50, 1, 84.88, (22,), start=vae), iwae, Cell("vae", 1, 1, 86.02, (23,), start=iwae)]


def cells_of(table: str, dataset: str, only: list[str] | None = None) -> list[Cell]:
    """The cells of a table.

    Args:
        table: one of `TABLES`.
        dataset: one of `DATASETS[table]`.
        only: names of cells; None for all.

    Raises:
        InputError: for an unknown table or cell, or a data set that the paper does not have the table for.
    """
    if table not in TABLES:
        raise unknown_name("table", table, TABLES)
    if dataset not in DATASETS[table]:
        raise InputError(f"{table} is there for {' and '.join(DATASETS[table])}, got {dataset!r}")
    grids = {("table1", "mnist"): _TABLE1_MNIST, ("table1", "omniglot"): _TABLE1_OMNIGLOT}
    grids |= {("table2", "mnist"): _swaps(_TABLE1_MNIST), ("table3", "binarized_mnist"): _TABLE3}
    cells = {cell.name: cell for cell in grids[table, dataset]}
    for name in only or ():
        if name not in cells:
            raise unknown_name("cell", name, cells)
    return [cell for name, cell in cells.items() if not only or name in only]
