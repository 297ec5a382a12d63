"""Compares two versions of the package: a process for each takes its turn with the candidates of a case.

Both processes run the benchmarks of this checkout; `iwae_tf` comes from the one or the other. A round times both
versions of a candidate one right after the other and takes their ratio, so that a busy machine slows both. Several
pairs of processes follow each other, since processes of one version differ as well.
"""

import itertools
import statistics
import sys
from pathlib import Path

from benchmarks.timing import ROOT, Seconds, Worker, answer_requests, measure, repeats_of, rounds_for, turn

PAIRS = 3  # of processes: six processes of one version had a score at 1.24 to 1.32 of its floor
TURN_SECONDS = 0.1  # several time slices of the scheduler, so that another process slows both turns of a round
CASES = [
    *(f"train-l{layers}-b{b}-k{k}" for layers in (1, 2) for b in (20, 100) for k in (1, 5, 50)),
    *("evaluate-l1", "evaluate-l2", "serve-l1", "batches-n1000", "batches-n60000", "fit-k1", "fit-k50"),
]


def compare(directory: Path, cases: list[str], most_rounds: int) -> None:
    """Prints a line for every candidate: median, least and greatest ratio of this version's time to the other's.

    Args:
        directory: checkout of the other version.
        cases: names of `benchmarks.cases.CASES`.
        most_rounds: of a candidate, in all pairs of processes; a slow one gets fewer.
    """
    found = {}
    for pair in range(PAIRS):
        print(f"pair {pair + 1} of {PAIRS}", flush=True)
        workers = [Worker("benchmarks.against", str(root)) for root in (ROOT, directory.resolve())]
        for case in cases:
            for name, seconds in _timed(workers, case, -(-most_rounds // PAIRS)).items():
                found.setdefault((case, name), []).append(seconds)
        for worker in workers:
            worker.close()
    print(f"{'case':18} {'candidate':40} {'this ms':>9} {'that ms':>9} {'ratio':>7}  rounds; medians of the pairs")
    for (case, name), pairs in found.items():
        print(comparison_line(case, name, pairs))


def _timed(workers: list[Worker], case: str, most_rounds: int) -> dict[str, list[list[float]]]:
    """Returns the seconds of every round of this version and of the other, for the candidates that both have."""
    answers = [worker.ask({"case": case}) for worker in workers]
    for version, answer in zip(("this version", "that version"), answers, strict=True):
        if "error" in answer:
            print(f"{case} left out: {version} raises {answer['error']}", flush=True)
    this, that = (answer.get("candidates", []) for answer in answers)
    found = {}
    for name in (name for name in this if name in that):
        ways = {str(n): lambda w=worker, name=name: Seconds(w.ask({"time": name})) for n, worker in enumerate(workers)}
        found[name] = list(measure(ways, rounds_for(ways, most_rounds)).values())
    return found


def comparison_line(case: str, name: str, pairs: list[list[list[float]]]) -> str:
    """Returns the line of a candidate from the seconds of every pair of processes: [pairs, 2 versions, rounds]."""
    ratios = [[one / other for one, other in zip(this, that, strict=True)] for this, that in pairs]
    pooled = [ratio for rounds in ratios for ratio in rounds]
    times = " ".join(f"{1e3 * statistics.median(itertools.chain(*own)):9.2f}" for own in zip(*pairs, strict=True))
    medians = " ".join(f"{statistics.median(rounds):.2f}" for rounds in ratios)
    spread = f"{min(pooled):.2f} to {max(pooled):.2f}; {medians}"
    return f"{case:18} {name:40} {times} {statistics.median(pooled):7.3f}  {spread}"


def main(root: str) -> None:
    """Answers {"case": name} with its candidates, then {"time": candidate} with the seconds of a call."""
    sys.path.insert(0, root)
    import iwae_tf

    if Path(iwae_tf.__file__).resolve().parents[1] != Path(root):
        raise ImportError(f"iwae_tf must come from {root}, got {iwae_tf.__file__}")
    from benchmarks import package
    from benchmarks.cases import CASES as KNOWN

    package.set_threads()
    ways, repeats = {}, {}

    def answer(request):
        if "time" in request:
            return turn(ways[request["time"]], repeats[request["time"]])
        ways.clear()
        try:
            ways.update(KNOWN[request["case"]].candidates())
            repeats.update((name, repeats_of(way, TURN_SECONDS)) for name, way in ways.items())
        except Exception as error:  # the versions differ in what a case needs: the others are still compared
            return {"error": f"{type(error).__name__}: {error}"}
        return {"candidates": list(ways)}

    answer_requests(answer)


if __name__ == "__main__":
    main(sys.argv[1])
