"""`compare`: two evaluated runs, image by image."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.errors import InputError
from iwae_tf.training.run_folder import check_trained, read_json

SUMMARY = "say which of two evaluated runs is better, by how much, and how surely"
DESCRIPTION = """Compares log p(x) of the same images under two runs that `evaluate` has scored: the mean difference in
nats with its 95% interval, and a figure. Runs that were scored under different protocols are not compared."""

# Estimates under two seeds have independent noise, which the interval holds; all else has to agree.
MAY_DIFFER = ("seed",)
COLUMNS = ("row", "log_likelihood", "standard_error", "pareto_k")


class Evaluation(NamedTuple):
    """What `evaluate` left of a run: its folder, the protocol, and the columns of `COLUMNS` in the order of rows."""

    path: Path
    protocol: dict
    columns: dict


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("first", metavar="RUN_A", type=Path, help="folder of an evaluated run")
    parser.add_argument("second", metavar="RUN_B", type=Path, help="folder of another")
    parser.add_argument("--force", action="store_true", help="compare although the protocols differ, and say so")
    parser.add_argument(
        "--output", metavar="FILE.png", type=Path, help="the figure (default: compare-A-B.png in the current folder)"
    )


def run(arguments) -> int:
    """Compares, prints, draws; returns the exit code."""
    output = arguments.output or default_output(arguments.first, arguments.second)
    check_output(output)
    first, second = read_evaluation(arguments.first), read_evaluation(arguments.second)
    differences = protocol_differences(first.protocol, second.protocol) + row_differences(first, second)
    if differences and not arguments.force:
        raise InputError(
            f"{first.path} (A) and {second.path} (B) were not scored alike: {'; '.join(differences)}; score them under "
            "one protocol, or compare them all the same by --force"
        )
    import_tensorflow()
    from iwae_tf.evaluation.compare import Scores, compare_scores  # the package around it needs TensorFlow

    scores = [Scores(*(evaluation.columns[name] for name in COLUMNS[1:])) for evaluation in (first, second)]
    found = compare_scores(*scores, paired=same_images(first, second))
    warning = forced_words(differences, found.paired) if differences else ""
    names = names_of(first.path, second.path)
    print(report(found, names, warning, first))
    draw(output, found, scores, names, warning)
    print(f"written: {output}")
    return 0


def default_output(first: Path, second: Path) -> Path:
    """compare-A-B.png in the current folder, where A and B are the names of the runs."""
    words = (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") for name in names_of(first, second))
    return Path(f"compare-{'-'.join(words)}.png")


def names_of(first: Path, second: Path) -> tuple[str, str]:
    """The names of the two folders, or their paths where the names are the same."""
    names = (first.resolve().name, second.resolve().name)
    return names if names[0] != names[1] else (str(first), str(second))


def check_output(output: Path) -> None:
    """Raises `InputError` unless the figure can go there."""
    if output.suffix != ".png":
        raise InputError(f"--output {output}: unknown ending {output.suffix!r}; expected .png")
    if not output.parent.is_dir() or output.is_dir():
        raise InputError(f"--output {output} cannot be written: its folder is not there, or it is a folder itself")


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation in a run folder; raises `InputError` if there is none, or it is damaged."""
    if not path.is_dir():
        check_trained(path)  # raises, with the nearest name
    folder = path / "evaluation"
    missing = [name for name in ("report.json", "scores.parquet") if not (folder / name).is_file()]
    if missing:
        command = f"python -m iwae_tf evaluate {shlex.quote(str(path))}"
        raise InputError(f"{path} has no finished evaluation (no evaluation/{missing[0]}); make one by: {command}")
    content = read_json(folder / "report.json")
    protocol, mean = content.get("protocol"), content.get("log_likelihood")
    if not isinstance(protocol, dict) or "images" not in protocol or not isinstance(mean, float):
        raise _damaged(path, "report.json has no protocol, or no result")
    columns = _read_columns(path, folder / "scores.parquet")
    number, here = len(columns["row"]), columns["log_likelihood"].mean()
    # A mean of float64 may be taken in another order; NaN is equal to itself here.
    same = here == mean or abs(here - mean) <= 1e-9 * abs(mean) or (here != here and mean != mean)
    if number != protocol.get("num_images") or not same:
        raise _damaged(path, f"scores.parquet has {number} rows of mean {here:.6g} that are not the report's")
    return Evaluation(path, protocol, columns)


def _read_columns(path: Path, file: Path) -> dict:
    import numpy as np
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
        columns = {name: table.column(name).to_numpy() for name in COLUMNS}
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        raise _damaged(path, f"{file.name} cannot be read: {error}") from None
    kinds = {"row": "i", **dict.fromkeys(COLUMNS[1:], "f")}
    wrong = [name for name, kind in kinds.items() if columns[name].dtype.kind != kind]
    if wrong or len(np.unique(columns["row"])) < max(len(columns["row"]), 1):
        raise _damaged(
            path, f"{file.name} holds no numbers in {wrong}" if wrong else f"{file.name}: no row, or one twice"
        )
    order = np.argsort(columns["row"])
    return {name: values[order] for name, values in columns.items()}


def _damaged(path: Path, what: str) -> InputError:
    command = f"python -m iwae_tf evaluate {shlex.quote(str(path))} --overwrite"
    return InputError(f"the evaluation in {path} is damaged ({what}); make it anew by: {command}")


def protocol_differences(first: dict, second: dict) -> list[str]:
    """Every entry but the seed in which two protocols differ, with both values in words."""
    return [
        f"{name} is {_words(first, name)} in A and {_words(second, name)} in B"
        for name in {**first, **second}
        if name not in MAY_DIFFER and first.get(name) != second.get(name)
    ]


def _words(protocol: dict, name: str) -> str:
    if name not in protocol:
        return "absent"
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]+", r"\1...", repr(protocol[name]))


def row_differences(first: Evaluation, second: Evaluation) -> list[str]:
    """What parts the rows, if they are as many but not the same: nothing to pair then."""
    a, b = (list(evaluation.columns["row"]) for evaluation in (first, second))
    return [f"rows are {a[0]} to {a[-1]} in A and {b[0]} to {b[-1]} in B"] if len(a) == len(b) and a != b else []


def same_images(first: Evaluation, second: Evaluation) -> bool:
    """Whether row i of both is one image, to the last pixel."""
    same_number = len(first.columns["row"]) == len(second.columns["row"])
    same_rows = same_number and not row_differences(first, second)
    return same_rows and first.protocol["images"] == second.protocol["images"]


def forced_words(differences: list[str], paired: bool) -> str:
    """What forced output says first."""
    how = "" if paired else "; the images do not correspond, so they are compared as two samples and NOT PAIRED"
    return f"FORCED: not scored alike, {'; '.join(differences)}{how}"


def report(found, names: tuple[str, str], warning: str, first: Evaluation) -> str:
    """What the command prints."""
    protocol, number = first.protocol, found.num_images[0]
    lines = [warning, ""] if warning else []
    if not warning:
        lines += [f"log p(x) of {number} {protocol.get('part')} images of {protocol.get('dataset')}, in nats", ""]
    values = zip("AB", found.means, found.mean_errors, names, found.num_images, strict=True)
    lines += [
        f"{letter:<5} {mean:10.3f} +- {error:.3f}   {name}, {n} images" for letter, mean, error, name, n in values
    ]
    lines.append(
        f"A - B {found.difference:10.3f} +- {found.standard_error:.3f}   {found.interval_words()}, "
        f"{'paired by image' if found.paired else 'NOT PAIRED'}"
    )
    lines += ["", f"of the error of A - B, by the samples: {found.monte_carlo_error:.4f}"]
    if found.better:
        lines.append(f"better for A on {found.better[0]:.1%} of the images, for B on {found.better[1]:.1%}")
    lines.append(doubtful_words(found))
    return "\n".join([*lines, "", f"{'FORCED: ' if warning else ''}{found.conclusion(names)}"])


def doubtful_words(found) -> str:
    """How many rows are not to be relied on."""
    rows = found.num_images[0] if found.paired else sum(found.num_images)
    return f"Pareto k above {RELIABLE_PARETO_K} or not known, score probably too low: {found.doubtful} of {rows} rows"


def draw(output: Path, found, scores, names: tuple[str, str], warning: str) -> None:
    """Writes the figure, whose title is the conclusion, with what makes it doubtful."""
    from iwae_tf import plots

    values = [part.log_likelihood for part in scores]
    title = found.conclusion(names) + (f"; {doubtful_words(found)}" if found.doubtful else "")
    try:
        if found.paired:
            plots.save_differences(output, *values, names, found.interval, title, warning)
        else:
            plots.save_distributions(output, *values, names, title, warning)
    except OSError as error:
        raise InputError(f"--output {output} cannot be written: {error.strerror}; give another") from None
