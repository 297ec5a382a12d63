"""Peak memory of a process that takes a training step, or scores images: each figure from a process of its own."""

import resource
import subprocess
import sys

from benchmarks.peers import ROOT

SIZES = {
    **{f"memory-train-b20-k{k}": ("train", 20, k) for k in (1, 5, 50, 500)},
    **{f"memory-train-b{b}-k50": ("train", b, 50) for b in (100, 500)},
    **{f"memory-evaluate-b20-k{k}": ("evaluate", 20, k) for k in (50, 500, 5000, 50_000)},
    **{f"memory-evaluate-b{b}-k500": ("evaluate", b, 500) for b in (100, 500)},
}


def rows_of(case: str) -> list[dict]:
    """One row, of a network with one stochastic layer; MiB."""
    words = [sys.executable, "-m", "benchmarks.memory", *map(str, SIZES[case])]
    process = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    before, peak = (round(float(number), 1) for number in process.stdout.split())
    return [{"case": case, "candidate": "iwae-tf", "peak_mib": peak, "before_mib": before}]


def peak_mib() -> float:
    """Of this process so far."""
    try:  # Linux starts ru_maxrss of a new program at the peak of the process that started it; VmHWM is its own
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main(what: str, batch_size: str, k: str) -> None:
    """Prints the peak before and after."""
    from iwae_tf.threads import one_thread_for_an_operation

    one_thread_for_an_operation()  # as the commands do
    import tensorflow as tf

    from benchmarks.sizes import images
    from benchmarks.steps import network, step_of
    from iwae_tf.objectives import IWAEBound

    x, model = tf.constant(images(int(batch_size))), network(1)
    model.compile(objective=IWAEBound(int(k)) if what == "train" else None)
    before, step = peak_mib(), step_of(model, x)
    for _ in range(3):
        step() if what == "train" else model.log_likelihood(x, int(k)).numpy()
    print(before, peak_mib())


if __name__ == "__main__":
    main(*sys.argv[1:])
