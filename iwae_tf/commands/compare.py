"""Says which of two or more scored runs is better, by how much, and how surely.

Compares log p(x), or by --bound K the L_K that papers report, of the same rows under two runs, or under each of
several runs and the first: the mean difference in nats with its 95% interval, and a figure if asked for. A run is
scored by `train`, or by `evaluate`, which comes first. Runs that were scored under different protocols are not
compared. Groups of runs that differ in the seed of their training alone are compared by their means, with an interval
over rows and another one over refits.
"""

import itertools
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iwae_tf.commands import flags
from iwae_tf.commands.report import check_output
from iwae_tf.config import FIGURE_FORMATS
from iwae_tf.errors import InputError
from iwae_tf.report.record import check_paths, names_of
from iwae_tf.training.run_folder import check_trained, differences, different_models, read_json, refit_settings
from iwae_tf.training.scores_file import model_of, read_columns, wrong_columns

LETTERS = "ABCDEFGH"  # of the runs
# entries of a protocol that the checksum of its rows implies
OF_ROWS = ("dataset", "source", "split", "part", "binarization")
# entries of a protocol that no L_k depends on: its proposal is q(h|x), and its mean is that of k samples
NOT_OF_BOUNDS = ("proposal", "num_samples", "target_standard_error", "max_samples")
# column -> kind of its dtype
COLUMNS = {"row": "i", "log_likelihood": "f", "standard_error": "f", "reliable": "b"}


class ScoredRun(NamedTuple):
    """Scores in a run folder.

    Attributes:
        path: the folder.
        protocol: of the scores.
        columns: those of `COLUMNS` and of the bounds, in the order of rows.
        model: checksum of the scored model; None if it was not recorded.
    """

    path: Path
    protocol: dict
    columns: dict
    model: str | None


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    text = "folders of scored runs, two to 8; each is compared with the first"
    parser.add_argument("runs", metavar="RUN", nargs="*", type=Path, help=text)
    text = "runs of one setting with several seeds, in place of a RUN; give it for each setting"
    parser.add_argument("--group", dest="groups", action="append", default=[], metavar="RUN", nargs="+", help=text)
    parser.add_argument(
        "--bound", metavar="K", type=int, help="compare L_K, as papers do, instead of log p(x); e.g. 5000"
    )
    parser.add_argument("--force", action="store_true", help="compare even if the protocols differ, and say so")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write a figure to FILE; its suffix is the format")
    flags.add_figure_format(parser)


def run(arguments) -> int:
    """Compares, prints, draws; returns the exit code."""
    output, groups = arguments.output, _groups(arguments)
    if output and not output.suffix:
        output = output.with_suffix(f".{arguments.figure_format}")
    if output:
        check_output(output, tuple(f".{name}" for name in FIGURE_FORMATS))
    first, *others = runs = [[read_scored(path, arguments.bound) for path in group] for group in groups]
    from iwae_tf.evaluation.compare import Scores, compare_refits, compare_scores, mean_scores

    firsts = [group[0] for group in groups]
    names = names_of(firsts) if firsts[0] != firsts[1] else [firsts[0].resolve().name] * 2
    names = [
        f"{name} and {len(group) - 1} more" if group[1:] else name for name, group in zip(names, groups, strict=True)
    ]
    unlike = [
        protocol_differences(first[0], run, letter if len(group) == 1 else str(run.path))
        for letter, group in zip(LETTERS, runs, strict=False)
        for run in group
    ]
    unlike_words = "; ".join(itertools.chain(*unlike))
    if unlike_words and not arguments.force:
        listed = ", ".join(f"{group[0].path} ({letter})" for letter, group in zip(LETTERS, runs, strict=False))
        raise InputError(
            f"{listed} were not scored alike: {unlike_words}; score them under one protocol, or compare them all the "
            "same by --force"
        )
    for group in runs if arguments.groups else []:
        _check_refits(group)
        for run in group:
            if not same_rows(first[0], run):
                raise InputError(f"{run.path} was scored on other rows than {first[0].path}: groups need the same rows")
    of_runs = [[Scores(*(run.columns[name] for name in Scores._fields)) for run in group] for group in runs]
    scores = [mean_scores(group) if group[1:] else group[0] for group in of_runs]
    found = [
        compare_scores(scores[0], of_other, paired=same_rows(first[0], other[0]))
        for of_other, other in zip(scores[1:], others, strict=True)
    ]
    refits = [compare_refits(of_runs[0], group) for group in of_runs[1:]] if arguments.groups else []
    warning = f"FORCED: not scored alike, {unlike_words}" if unlike_words else ""
    if not all(comparison.paired for comparison in found):
        warning += "; the rows do not correspond: they are compared as two samples and NOT PAIRED"
    print(report(found, names, warning, first[0], arguments.bound, refits))
    if output:
        draw(output, found, scores, names, warning, arguments.bound)
        print(f"written: {output}")
    return 0


def _groups(arguments) -> list[list[Path]]:
    """Returns the folders of each group, a group of its own for each run without `--group`; raises `InputError`."""
    runs, groups = arguments.runs, [[Path(path) for path in group] for group in arguments.groups]
    if runs and groups:
        raise InputError(f"{runs[0]} and --group: give runs, or a --group for each setting")
    groups = groups or [[path] for path in runs]
    if len(groups) < 2:
        raise InputError(f"give two runs or more, or --group twice or more, got {len(groups)}; see compare --help")
    firsts, paths = [group[0] for group in groups], list(itertools.chain(*groups))
    check_paths(list(dict.fromkeys(firsts)) if len(runs) == 2 else firsts)  # a run may be compared with itself
    if arguments.groups:
        check_paths(paths, most=len(paths))
    return groups


def _check_refits(group: list[ScoredRun]) -> None:
    """Raises `InputError` unless the runs of a group differ in the seed of their training, and in nothing else."""
    first, *others = group
    settings = [refit_settings(run.path) for run in group]
    for run, other in zip(others, settings[1:], strict=True):
        if found := differences(settings[0], other):
            raise InputError(
                f"{run.path} is no refit of {first.path}, which differs in the seed alone: {found}; give each setting "
                "a --group of its own"
            )
    models = [run.model for run in group]
    twice = [str(run.path) for run in group if run.model and models.count(run.model) > 1]
    if twice:
        raise InputError(f"{' and '.join(twice)} have the same weights: a refit needs another seed")


def read_scored(path: Path, bound: int | None = None) -> ScoredRun:
    """Returns the scores of `evaluate`, else of `train`, in a run folder, or L_k for k = `bound` as scores.

    Raises:
        InputError: there are none, they are damaged or of another model than the run's, or that bound is not among
            them.
    """
    if not path.is_dir():
        check_trained(path)  # raises, with the nearest name
    kept = None
    for folder, name in ((path / "evaluation", "report.json"), (path, "metrics.json")):
        if not ((folder / name).is_file() and (folder / "scores.parquet").is_file()):
            continue
        content = read_json(folder / name)
        protocol, mean = content.get("protocol"), content.get("log_likelihood")
        if not isinstance(protocol, dict) or "content" not in protocol or not isinstance(mean, float):
            raise _damaged(path, f"{name} has no protocol, or no result")
        columns = _read_columns(path, folder / "scores.parquet")
        recorded = {name: content.get("model"), "scores.parquet": model_of(folder / "scores.parquet")}
        if different := different_models(path, recorded):
            raise _unusable(path, f"not of one model: {different}")
        number, found = len(columns["row"]), columns["log_likelihood"].mean()
        # A float64 mean may be summed in another order.
        same = np.isclose(found, mean, rtol=1e-9, atol=0.0, equal_nan=True)
        if number != protocol.get("num_rows") or not same:
            raise _damaged(path, f"scores.parquet has {number} rows of mean {found:.6g}, unlike {name}")
        found = ScoredRun(path, protocol, columns, content.get("model"))
        if bound is None:
            return found
        if f"bound_{bound}" in columns:
            return _of_bound(found, bound)
        own = [name.removeprefix("bound_") for name in columns if name.startswith("bound_")]
        kept = dict.fromkeys([*(kept or ()), *own])
    if kept is not None:
        known = ", ".join(kept) or "none"
        raise InputError(f"{path} has no L_{bound}: --bound can be {known}; make others by evaluate --num-samples")
    command = f"python -m iwae_tf evaluate {shlex.quote(str(path))}"
    raise InputError(f"{path} has no scores (no scores.parquet with its metrics.json); make them by: {command}")


def _read_columns(path: Path, file: Path) -> dict:
    columns = read_columns(file)
    if wrong := wrong_columns(columns, COLUMNS):
        raise _damaged(path, f"{file.name} holds no values in {wrong}")
    columns = {name: columns[name] for name in columns if name in COLUMNS or name.startswith("bound_")}
    if len(np.unique(columns["row"])) < max(len(columns["row"]), 1):
        raise _damaged(path, f"{file.name}: no row, or one twice")
    order = np.argsort(columns["row"])
    return {name: values[order] for name, values in columns.items()}


def _of_bound(run: ScoredRun, bound: int) -> ScoredRun:
    """Returns L_k as the scores; its error is not known, and nothing is doubtful."""
    rows = run.columns["row"]
    known = {"log_likelihood": run.columns[f"bound_{bound}"], "standard_error": np.full(len(rows), np.nan)}
    known |= {"row": rows, "reliable": np.full(len(rows), True)}
    protocol = {name: value for name, value in run.protocol.items() if name not in NOT_OF_BOUNDS}
    return run._replace(protocol=protocol, columns=known)


def _damaged(path: Path, why: str) -> InputError:
    return _unusable(path, f"damaged ({why})")


def _unusable(path: Path, why: str) -> InputError:
    command = f"python -m iwae_tf evaluate {shlex.quote(str(path))} --overwrite"
    return InputError(f"the scores in {path} are {why}; make them again by: {command}")


def protocol_differences(first: ScoredRun, other: ScoredRun, letter: str) -> list[str]:
    """Returns every entry but the seed in which the protocols differ, and other rows, with both values in words.

    Where the rows have the same values, it does not matter how their data set, file or split is called.
    """
    a, b = first.protocol, other.protocol
    implied = OF_ROWS if a["content"] == b["content"] else ()
    ignored = ("seed", *implied)  # the interval holds the independent noise of two seeds
    found = [
        f"{name} is {_words(a, name)} in A and {_words(b, name)} in {letter}"
        for name in {**a, **b}
        if name not in ignored and a.get(name) != b.get(name)
    ]
    a, b = (list(run.columns["row"]) for run in (first, other))
    if len(a) == len(b) and a != b:
        found.append(f"rows are {a[0]} to {a[-1]} in A and {b[0]} to {b[-1]} in {letter}")
    return found


def _words(protocol: dict, name: str) -> str:
    if name not in protocol:
        return "absent"
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]+", r"\1...", repr(protocol[name]))


def same_rows(first: ScoredRun, other: ScoredRun) -> bool:
    """Returns True if row i of both is the same, to the last value."""
    return list(first.columns["row"]) == list(other.columns["row"]) and (
        first.protocol["content"] == other.protocol["content"]
    )


def report(found, names: list[str], warning: str, first: ScoredRun, bound: int | None, refits) -> str:
    """Returns the printed text: a line for each run, one for each difference, and what makes it doubtful.

    `refits` are the comparisons over refits; without groups it is empty.
    """
    measure = measure_name(bound)
    rows = f"{found[0].num_rows[0]} {first.protocol.get('part')} rows of {first.protocol.get('dataset')}"
    lines = [warning or f"{measure} of {rows}, in nats", ""]
    pairs = [(found[0], 0), *((comparison, 1) for comparison in found)]
    for letter, name, (comparison, side) in zip(LETTERS, names, pairs, strict=False):
        mean, error = comparison.means[side], comparison.mean_errors[side]
        lines.append(f"{letter:<5} {mean:10.3f} +- {error:.3f}   {name}, {comparison.num_rows[side]} rows")
    for letter, comparison in zip(LETTERS[1:], found, strict=False):
        lines.append(
            f"A - {letter} {comparison.difference:10.3f} +- {comparison.standard_error:.3f}   "
            f"{comparison.interval_words().replace('A - B', f'A - {letter}')}, "
            f"{'paired by row' if comparison.paired else 'NOT PAIRED'}"
        )
    for letter, comparison in zip(LETTERS[1:], refits, strict=False):
        if min(comparison.num_rows) == 1:
            continue
        lines.append(
            f"A - {letter} {comparison.difference:10.3f} +- {comparison.standard_error:.3f}   "
            f"{comparison.interval_words().replace('A - B', f'A - {letter}')}, over "
            f"{comparison.num_rows[0]} and {comparison.num_rows[1]} refits"
        )
    of_refits = [*refits, *[None] * (len(found) - len(refits))]
    for letter, name, comparison, other_seeds in zip(LETTERS[1:], names[1:], found, of_refits, strict=False):
        lines.append("")
        if not np.isnan(comparison.monte_carlo_error):
            lines.append(f"of the error of A - {letter}, by the samples: {comparison.monte_carlo_error:.4f}")
        if comparison.better:
            a, b = comparison.better
            lines.append(f"better for A on {a:.1%} of the rows, for {letter} on {b:.1%}")
        lines.append(
            doubtful_words(comparison)
            if bound is None
            else f"{measure} is a lower bound on log p(x), which depends on the inference network as well"
        )
        forced = "FORCED: " if warning else ""
        if other_seeds is None:
            lines += ["", f"{forced}{comparison.conclusion((names[0], name))}"]
            continue
        over_refits = "not known, as a group has one run"
        if min(other_seeds.num_rows) > 1:
            over_refits = other_seeds.conclusion((names[0], name))
        lines += ["", f"{forced}would these runs differ on other rows? {comparison.conclusion((names[0], name))}"]
        lines += [f"{forced}would runs of other seeds differ on these rows? {over_refits}"]
    return "\n".join(lines)


def measure_name(bound: int | None) -> str:
    """Returns the name of the scores: log p(x), or L_k for k = `bound`."""
    return "log p(x)" if bound is None else f"L_{bound}"


def doubtful_words(found) -> str:
    """Returns how many rows are unreliable."""
    rows = found.num_rows[0] if found.paired else sum(found.num_rows)
    return f"scores that are not reliable and may be too low: {found.doubtful} of {rows} rows"


def draw(output: Path, found, scores, names: list[str], warning: str, bound: int | None) -> None:
    """Writes the figure with the conclusions and what makes them doubtful."""
    from iwae_tf import plots

    notes = [
        comparison.conclusion(("A", letter)).replace("A - B", f"A - {letter}")
        + (f"; {doubtful_words(comparison)}" if comparison.doubtful else "")
        for letter, comparison in zip(LETTERS[1:], found, strict=False)
    ]
    values = [of_run.log_likelihood for of_run in scores]
    try:
        if all(comparison.paired for comparison in found):
            intervals = [comparison.interval for comparison in found]
            plots.save_differences(output, values, names, intervals, notes, warning, measure_name(bound))
        else:
            plots.save_distributions(output, values, names, notes, warning, measure_name(bound))
    except OSError as error:
        raise InputError(f"--output {output} cannot be written: {error.strerror}; give another") from None
