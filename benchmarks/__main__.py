"""Times what the package does against its floors: `python -m benchmarks [--only CASE ...]`."""

import argparse
import fnmatch
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.timing import measure, ratios_to

RESULTS = Path(__file__).with_name("results.json")
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy")


def rows_of(case: str, seconds: dict[str, list[float]]) -> list[dict]:
    """A row for every way of a case; the first way is its floor."""
    floor, *_ = seconds.values()
    rows = []
    for candidate, times in seconds.items():
        ratio, low, high = ratios_to(floor, times)
        rows.append(
            {
                "case": case,
                "candidate": candidate,
                "median_ms": round(1e3 * sorted(times)[len(times) // 2], 3),
                "floor_ms": round(1e3 * sorted(floor)[len(floor) // 2], 3),
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
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    return f"{name}, {cores} cores; Python {platform.python_version()}, {versions}"


def main() -> int:
    """Runs the cases, prints the table, writes results.json."""
    from benchmarks.cases import CASES, rounds_for

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CASE", default=["*"], help=f"names or patterns of {list(CASES)}")
    parser.add_argument("--rounds", type=int, default=60, help="at most so many rounds (default: 60)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results.json")
    arguments = parser.parse_args()
    chosen = [name for name in CASES if any(fnmatch.fnmatch(name, pattern) for pattern in arguments.only)]
    if not chosen:
        parser.error(f"no case is called {' or '.join(arguments.only)}; there are {', '.join(CASES)}")
    print(machine())
    print(f"{'case':18} {'candidate':42} {'median ms':>10} {'x floor':>8}  quartiles")
    rows = []
    for name in chosen:
        ways = CASES[name].make()
        for way in ways.values():
            way()  # traced
        rows += rows_of(name, measure(ways, rounds_for(ways, arguments.rounds)))
        for row in rows[-len(ways) :]:
            low, high = row["spread"]
            times = f"{row['median_ms']:10.2f} {row['ratio_to_floor']:8.2f}  {low:.2f} to {high:.2f}"
            print(f"{name:18} {row['candidate']:42} {times}", flush=True)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
