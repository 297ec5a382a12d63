"""Times the package against its floors, or with --against another version of it."""

import argparse
import fnmatch
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import against, peers
from benchmarks.processes import MEMORY, memory_row
from benchmarks.timing import measure, ratios_to, rounds_for

RESULTS = Path(__file__).with_name("results.json")
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "torch", "jax")
SHORT = {  # case -> its candidate; seconds each
    "train-l1-b20-k1": "iwae-tf",
    "train-l1-b20-k50": "iwae-tf",
    "train-l2-b20-k50": "iwae-tf",
    "evaluate-l1": "log_likelihood, float32",
}
SHORT_ROUNDS = 5


def rows_of(case: str, seconds: dict[str, list[float]]) -> list[dict]:
    """Returns a row of results.json for every way; ratios are to the fastest way whose name begins with "floor"."""
    floor = min((times for name, times in seconds.items() if name.startswith("floor")), key=statistics.median)
    rows = []
    for candidate, times in seconds.items():
        ratio, low, high = ratios_to(floor, times)
        rows.append(
            {
                "case": case,
                "candidate": candidate,
                "median_ms": round(1e3 * statistics.median(times), 3),
                "floor_ms": round(1e3 * statistics.median(floor), 3),
                "ratio_to_floor": round(ratio, 3),
                "spread": [round(low, 3), round(high, 3)],
                "rounds": len(times),
            }
        )
    return rows


def measured(name: str, short: bool, most_rounds: int) -> list[dict]:
    """Returns the rows of a case; with `short`, of its floors and one candidate in this process."""
    from benchmarks.cases import CASES

    if name in MEMORY:
        return [memory_row(name)]
    case = CASES[name]
    ways = case.floors() | case.candidates()
    if short:
        ways = {way: call for way, call in ways.items() if way.startswith("floor") or way == SHORT[name]}
    else:
        ways |= case.peers()
    for call in ways.values():
        call()  # traced
    return rows_of(name, measure(ways, rounds_for(ways, most_rounds)))


def machine() -> str:
    """Returns processor, cores in use and versions, as one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    installed = [package for package in PACKAGES if importlib.util.find_spec(package.replace("-", "_"))]
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in installed)
    return f"{name}, {cores} cores; Python {platform.python_version()}, {versions}"


def table_line(row: dict, recorded: float | None = None) -> str:
    """Returns a line of the table, with the recorded ratio if there is one."""
    words = f"{row['case']:24} {row['candidate']:32} "
    if "peak_mib" in row:
        return words + f"{row['peak_mib']:10.0f} MiB, {row['before_mib']:.0f} before"
    low, high = row["spread"]
    words += f"{row['median_ms']:10.2f} {row['ratio_to_floor']:8.2f}  {low:.2f} to {high:.2f}"
    return words if recorded is None else f"{words}  (recorded: {recorded:.2f})"


def _arguments(cases: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CASE", help=f"names or patterns of {', '.join(cases)}")
    parser.add_argument("--rounds", type=int, default=60, help="most rounds of a case (default: 60)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results.json")
    parser.add_argument("--short", action="store_true", help="four cases in a minute, with the ratios of bounds.json")
    parser.add_argument("--record", action="store_true", help="write these ratios, and the counts, to bounds.json")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="print the ratio of this version to the checkout in DIR instead"
    )
    arguments = parser.parse_args()
    if arguments.short:
        arguments.only, arguments.rounds = list(SHORT), SHORT_ROUNDS
    patterns = arguments.only or (against.CASES if arguments.against else ["*"])
    cases = [name for name in cases if name not in MEMORY] if arguments.against else cases
    arguments.chosen = [name for name in cases if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not arguments.chosen:
        parser.error(f"no case is called {' or '.join(patterns)}; there are {', '.join(cases)}")
    if arguments.against and not (arguments.against / "iwae_tf").is_dir():
        parser.error(f"--against needs a checkout of this repository, got {arguments.against} without iwae_tf/")
    return arguments


def main() -> int:
    """Runs the cases, prints the table, writes results.json."""
    from benchmarks import package, work
    from benchmarks.cases import CASES

    package.set_threads()
    arguments = _arguments([*CASES, *MEMORY])
    print(machine())
    if arguments.against:
        against.compare(arguments.against, arguments.chosen, arguments.rounds)
        return 0
    if not arguments.short and (absent := peers.missing()):
        print(f"without {' and '.join(absent)}: pip install -e '.[bench]' times them too")
    print(f"{'case':24} {'candidate':32} {'median ms':>10} {'x floor':>8}  quartiles")
    rows = []
    for name in arguments.chosen:
        for row in measured(name, arguments.short, arguments.rounds):
            is_short = arguments.short and row["candidate"] == SHORT[name]
            print(table_line(row, work.read_bounds()["ratios"].get(name) if is_short else None), flush=True)
            rows.append(row)
    if arguments.record:
        work.record({row["case"]: row["ratio_to_floor"] for row in rows if row["candidate"] == SHORT.get(row["case"])})
    if not arguments.short:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
