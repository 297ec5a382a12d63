"""Compares two versions of the package: a process for each takes its turn with the candidates of a case.

Both processes run the benchmarks of this checkout; `iwae_tf` comes from the one or the other. A round times both
versions of a candidate one right after the other and takes their ratio, so that a busy machine slows both.
"""

import statistics
import sys
from pathlib import Path

from benchmarks.timing import ROOT, Seconds, Worker, answer_requests, measure, repeats_of, rounds_for, turn

CASES = [
    *(f"train-l{layers}-b{b}-k{k}" for layers in (1, 2) for b in (20, 100) for k in (1, 5, 50)),
    *("evaluate-l1", "evaluate-l2", "serve-l1", "batches-n1000", "batches-n60000", "fit-k1", "fit-k50"),
]


def compare(directory: Path, cases: list[str], most_rounds: int) -> None:
    """Prints a line for every candidate: median, least and greatest ratio of this version's time to the other's.

    Args:
        directory: checkout of the other version.
        cases: names of `benchmarks.cases.CASES`.
        most_rounds: of a candidate; a slow one gets fewer.
    """
    workers = {str(root): Worker("benchmarks.against", str(root)) for root in (ROOT, directory.resolve())}
    print(f"{'case':18} {'candidate':40} {'this ms':>9} {'that ms':>9} {'ratio':>7}  least to greatest of the rounds")
    for case in cases:
        answers = {root: worker.ask({"case": case}) for root, worker in workers.items()}
        for root, answer in answers.items():
            if "error" in answer:
                print(f"{case:18} left out: {root} raises {answer['error']}", flush=True)
        this, that = (answer.get("candidates", []) for answer in answers.values())
        for name in (name for name in this if name in that):
            ways = {root: lambda w=worker, n=name: Seconds(w.ask({"time": n})) for root, worker in workers.items()}
            seconds = list(measure(ways, rounds_for(ways, most_rounds)).values())
            print(comparison_line(case, name, *seconds), flush=True)


def comparison_line(case: str, name: str, this: list[float], that: list[float]) -> str:
    """Returns the line of a candidate from its seconds in every round, by this version and by the other."""
    ratios = [one / other for one, other in zip(this, that, strict=True)]
    times = " ".join(f"{1e3 * statistics.median(seconds):9.2f}" for seconds in (this, that))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return f"{case:18} {name:40} {times} {statistics.median(ratios):7.3f}  {spread} ({len(ratios)})"


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
            repeats.update((name, repeats_of(way)) for name, way in ways.items())
        except Exception as error:  # the versions differ in what a case needs: the others are still compared
            return {"error": f"{type(error).__name__}: {error}"}
        return {"candidates": list(ways)}

    answer_requests(answer)


if __name__ == "__main__":
    main(sys.argv[1])
