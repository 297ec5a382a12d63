"""Measurements of whole processes: imports, the first step of `train.py`, and peak memory."""

import fcntl
import importlib.util
import os
import pty
import resource
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import ROOT, Ways, images

# Of the package, not of the benchmarks: `--against` puts another version on the path.
PACKAGE_ROOT = Path(importlib.util.find_spec("iwae_tf").origin).resolve().parents[1]
MEMORY = {  # case -> task, B, k
    **{f"memory-train-b20-k{k}": ("train", 20, k) for k in (1, 5, 50, 500)},
    **{f"memory-train-b{b}-k50": ("train", b, 50) for b in (100, 500)},
    **{f"memory-evaluate-b20-k{k}": ("evaluate", 20, k) for k in (50, 500, 5000, 50_000)},
    **{f"memory-evaluate-b{b}-k500": ("evaluate", b, 500) for b in (100, 500)},
}


def imports_floor() -> Ways:
    """Returns a process that imports TensorFlow and Keras."""
    return {"floor: TensorFlow and Keras": _python("import tensorflow, keras")}


def imports() -> Ways:
    """Returns a process that imports the package."""
    return {"iwae_tf": _python("import iwae_tf")}


def _python(code: str) -> Callable[[], object]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    words = [sys.executable, "-c", code]
    return lambda: subprocess.run(words, cwd=PACKAGE_ROOT, check=True, env=environment, stderr=subprocess.DEVNULL)


def first_step() -> Ways:
    """Returns `train.py` on a terminal until its bar shows the bound of its first steps."""
    return {"train.py": _train_until_first_step}


def _train_until_first_step() -> None:
    ours, terminal = pty.openpty()
    size = struct.pack("4H", 40, 120, 0, 0)  # lines and columns: a new terminal has none
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "train.py", "--epochs", "1", "--output-dir", folder + "/run"]
        process = subprocess.Popen(words, cwd=PACKAGE_ROOT, stdout=subprocess.DEVNULL, stderr=terminal)
        os.close(terminal)
        shown = b""
        try:
            while b"bound" not in shown:
                shown += os.read(ours, 4096)
        except OSError as error:  # Linux raises EIO where the other end of a terminal is closed
            raise RuntimeError(f"train.py ended before its first step: {shown.decode()}") from error
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def memory_row(case: str) -> dict:
    """Returns a row of results.json: peak memory of a process with a network of one stochastic layer, MiB."""
    words = [sys.executable, "-m", "benchmarks.processes", *map(str, MEMORY[case])]
    process = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    before, peak = (round(float(number), 1) for number in process.stdout.split())
    return {"case": case, "candidate": "iwae-tf", "peak_mib": peak, "before_mib": before}


def peak_mib() -> float:
    """Returns the peak memory of this process until now."""
    try:  # Linux inherits ru_maxrss from the parent process; VmHWM is this process alone
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main(task: str, batch_size: int, k: int) -> None:
    """Prints the peak before and after three steps or scores."""
    import tensorflow as tf

    from benchmarks import package
    from benchmarks.cases import network, step_of
    from iwae_tf.objectives import IWAEBound

    package.set_threads()
    x, model = tf.constant(images(batch_size)), network(1)
    model.compile(objective=IWAEBound(k) if task == "train" else None)
    before, step = peak_mib(), step_of(model, x)
    for _ in range(3):
        step() if task == "train" else model.log_likelihood(x, k).numpy()
    print(before, peak_mib())


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
