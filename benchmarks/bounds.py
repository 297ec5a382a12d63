"""`bounds.json`: what can be counted may not exceed it, and ratios of a quiet machine to see others beside."""

import json
from pathlib import Path

from benchmarks.peers import PEERS

BOUNDS = Path(__file__).with_name("bounds.json")
BYTES_SLACK = 1.01  # another version of TensorFlow may write a little more; products and rows are exact
SHORT = {  # case -> its candidate; seconds each
    "train-l1-b20-k1": "iwae-tf",
    "train-l1-b20-k50": "iwae-tf",
    "train-l2-b20-k50": "iwae-tf",
    "evaluate-l1": "log_likelihood, float32",
}
SHORT_ROUNDS = 5


def read() -> dict[str, dict]:
    """`counts`, {case: {count: bound}}, and `ratios`, {case: ratio to the floor}."""
    return json.loads(BOUNDS.read_text())


def short_ways(case: str, ways: dict) -> dict:
    """The floors and the one candidate of a case, all in this process."""
    named = {name: way for name, way in ways.items() if name.startswith("floor") or name == SHORT[case]}
    return {name: way for name, way in named.items() if name not in PEERS}


def beside(row: dict) -> str:
    """The recorded ratio of a row's case, in words."""
    recorded = read()["ratios"].get(row["case"]) if row["candidate"] == SHORT.get(row["case"]) else None
    return "" if recorded is None else f"  (recorded: {recorded:.2f})"


def record(rows: list[dict]) -> None:
    """Writes the ratios of a short run, and what is counted today."""
    from benchmarks.counted_work import CASES

    counts = {}
    for name, work in CASES.items():
        counts[name] = work()._asdict()
        counts[name]["bytes_written"] = round(BYTES_SLACK * counts[name]["bytes_written"])
    ratios = {row["case"]: row["ratio_to_floor"] for row in rows if row["candidate"] == SHORT.get(row["case"])}
    BOUNDS.write_text(json.dumps({"counts": counts, "ratios": ratios}, indent=1) + "\n")
