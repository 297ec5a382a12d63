"""Times what the package does against its floors: `python -m benchmarks [--only CASE ...]`."""

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

from benchmarks import bounds, memory, peers
from benchmarks.timing import measure, ratios_to

RESULTS = Path(__file__).with_name("results.json")
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "torch", "jax")


def rows_of(case: str, seconds: dict[str, list[float]]) -> list[dict]:
    """A row for every way of a case, with ratios to its floor: the fastest way whose name begins so."""
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


def machine() -> str:
    """Processor, cores in use and versions, in a line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    there = [package for package in PACKAGES if importlib.util.find_spec(package.replace("-", "_"))]
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in there)
    return f"{name}, {cores} cores; Python {platform.python_version()}, {versions}"


def _arguments(cases: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CASE", default=["*"], help=f"names or patterns of {cases}")
    parser.add_argument("--rounds", type=int, default=60, help="at most so many rounds (default: 60)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results.json")
    parser.add_argument("--short", action="store_true", help="under a minute, beside the ratios in bounds.json")
    parser.add_argument("--record", action="store_true", help="write these, and the counts, to bounds.json")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.only, arguments.rounds = list(bounds.SHORT), bounds.SHORT_ROUNDS
    arguments.chosen = [name for name in cases if any(fnmatch.fnmatch(name, pattern) for pattern in arguments.only)]
    if not arguments.chosen:
        parser.error(f"no case is called {' or '.join(arguments.only)}; there are {', '.join(cases)}")
    return arguments


def _timed(name: str, ways: dict, most_rounds: int) -> list[dict]:
    from benchmarks.cases import rounds_for

    for way in ways.values():
        way()  # traced
    return rows_of(name, measure(ways, rounds_for(ways, most_rounds)))


def line_of(row: dict) -> str:
    """A line of the table."""
    words = f"{row['case']:24} {row['candidate']:32} "
    if "peak_mib" in row:
        return words + f"{row['peak_mib']:10.0f} MiB, {row['before_mib']:.0f} before"
    low, high = row["spread"]
    return words + f"{row['median_ms']:10.2f} {row['ratio_to_floor']:8.2f}  {low:.2f} to {high:.2f}"


def main() -> int:
    """Runs the cases, prints the table, writes results.json."""
    from iwae_tf.threads import one_thread_for_an_operation

    one_thread_for_an_operation()  # as the commands do
    from benchmarks.cases import CASES

    arguments = _arguments([*CASES, *memory.SIZES])
    print(machine())
    if not arguments.short and (absent := peers.missing()):
        print(f"without {' and '.join(absent)}: pip install -e '.[bench]' to have them beside")
    print(f"{'case':24} {'candidate':32} {'median ms':>10} {'x floor':>8}  quartiles")
    rows = []
    for name in arguments.chosen:
        if name in memory.SIZES:
            found = memory.rows_of(name)
        else:
            ways = CASES[name].make()
            found = _timed(name, bounds.short_ways(name, ways) if arguments.short else ways, arguments.rounds)
        for row in found:
            print(line_of(row) + (bounds.beside(row) if arguments.short else ""), flush=True)
        rows += found
    if arguments.record:
        bounds.record(rows)
    if not arguments.short:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
