"""Lists run folders with their main numbers.

Prints one line for each run in a folder and in its subfolders: data, objective, k, stochastic layers, seed, epochs
done, log p(x) with its standard error, L_k of the largest k, and the share of reliable scores. A folder that cannot be
read is listed as damaged, and why.
"""

import csv
import sys
from pathlib import Path
from typing import Any

from iwae_tf.commands import flags
from iwae_tf.errors import InputError
from iwae_tf.evaluation.compare import mean_name
from iwae_tf.report.record import read_summary
from iwae_tf.words import percent

COLUMNS = (
    *("run", "dataset", "objective", "k", "layers", "seed", "epochs_done", "epochs", "log_likelihood"),
    *("standard_error", "bound", "bound_k", "reliable", "state"),
)
HEADER = ("run", "dataset", "objective", "k", "layers", "seed", "epochs", "log p(x)", "L_k", "reliable", "state")


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("folder", metavar="DIR", nargs="?", default="runs", help="folder of runs (default: runs)")
    parser.add_argument("--csv", action="store_true", help="print CSV, with every digit")


def run(arguments) -> int:
    """Prints the list; returns the exit code."""
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give one that holds run folders")
    found = [summary(path.parent) for path in sorted(folder.rglob("config.json"))]
    if not found:
        raise InputError(f"{folder} holds no run, i.e. no folder with a config.json; give one that holds run folders")
    if arguments.csv:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        return 0
    lines = [HEADER, *map(_words, found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    return 0


def summary(path: Path) -> dict[str, Any]:
    """Returns a run's numbers by the names of `COLUMNS`; only what is known, and "state" says what is missing."""
    try:
        config, metrics, done = read_summary(path)
    except InputError as error:
        return {"run": str(path), "state": f"damaged: {' '.join(str(error).split())}"}
    training = config["training"]
    row = {"run": str(path), "dataset": config["data"]["dataset"], "layers": config["model"]["layers"]}
    row |= {name: training[name] for name in ("objective", "k", "seed", "epochs")}
    row["epochs_done"] = done if (path / "history.csv").is_file() or metrics is None else None
    if metrics is None:
        return row | {"state": "not finished"}
    largest = max(metrics["bounds"])
    row |= {name: metrics[name] for name in ("log_likelihood", "standard_error")}
    row |= {"bound": metrics["bounds"][largest], "bound_k": largest}
    row["reliable"] = None if metrics["reliable"] is None else metrics["reliable"] / metrics["num_test"]
    if metrics["epochs"] not in (None, training["epochs"]):
        return row | {"state": f"not finished, scores of {metrics['epochs']} epochs"}
    return row | {"state": "finished" if (path / "model.keras").is_file() else "without its model"}


def _words(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the entries of a line of the table."""
    words = {name: "-" if row.get(name) is None else str(row[name]) for name in COLUMNS}
    if "epochs" in row:
        words["epochs"] = f"{words['epochs_done']}/{row['epochs']}"
    if "bound" in row:
        words["log p(x)"] = f"{row['log_likelihood']:.2f} +- {row['standard_error']:.2f}"
        words["L_k"] = f"{row['bound']:.2f} (k={row['bound_k']})"
    if row.get("reliable") is not None:
        words["reliable"] = percent(row["reliable"])
        if mean_name(row["reliable"], 1) != "log p(x)":  # it is too low
            words["log p(x)"] = f">= {words['log p(x)']}"
    return tuple(words.get(name, "-") for name in HEADER)
