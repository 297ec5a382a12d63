"""Time of a training step on one core, on two, and shared by two workers or replicas with a core each.

    python -m benchmarks.scaling [--rounds 3] [--out docs/results]

The one-layer network of the paper on 28x28 images, k = 50, steps of `fit`. A case is one or two processes bound to
their cores. Every round starts each case once; the table has the median over the rounds of the ratio of the median
step to one core in the same round, with least and greatest. Writes `scaling.md`.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.timing import DIM, ROOT, images

BATCH_SIZES = (20, 100, 500)
STEPS, WARM_UP, K = 30, 10, 50
CASES = {  # name: cores of each process, and replicas in a process
    "one core": ([[0]], 1),
    "two cores, one model": ([[0, 1]], 1),
    "two workers, a core each": ([[0], [1]], 1),
    "two replicas in one process, two cores": ([[0, 1]], 2),
}


def measure(cores: list[int], replicas: int) -> dict[int, float]:
    """Returns milliseconds of a step for every batch size, in this process; `TF_CONFIG` names the other workers."""
    os.sched_setaffinity(0, cores)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import keras
    import tensorflow as tf

    import iwae_tf

    tf.config.threading.set_intra_op_parallelism_threads(1)  # as the commands do
    tf.config.threading.set_inter_op_parallelism_threads(len(cores))
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif replicas > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])
    else:
        strategy = tf.distribute.get_strategy()
    with strategy.scope():
        model = iwae_tf.IWAE.one_layer(DIM)
        model.compile(objective=iwae_tf.objectives.IWAEBound(K))
    milliseconds, ends = {}, []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    for size in BATCH_SIZES:
        ends.clear()
        batches = tf.data.Dataset.from_tensors(images(size)).repeat()
        model.fit(batches, steps_per_epoch=STEPS + WARM_UP, callbacks=[clock], verbose=0)
        milliseconds[size] = 1e3 * float(np.median(np.diff(ends[WARM_UP - 1 :])))
    return milliseconds


def run(name: str) -> dict[int, float]:
    """Runs a case in processes of its own; returns the times of the first, which waits for the other in every step."""
    cores, replicas = CASES[name]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in cores]
    workers = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for index, own in enumerate(cores):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, **({"TF_CONFIG": json.dumps(task)} if len(cores) > 1 else {})}
        command = [sys.executable, "-m", "benchmarks.scaling", "--measure", json.dumps([own, replicas])]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    printed = [process.communicate()[0] for process in processes]
    return {int(size): value for size, value in json.loads(printed[0].splitlines()[-1]).items()}


def table(rounds: list[dict[str, dict[int, float]]]) -> str:
    """Returns the Markdown table: milliseconds on one core, and of the other cases the ratio to them."""
    sizes = " | ".join(f"B = {size}" for size in BATCH_SIZES)
    lines = [f"| case | {sizes} |", "|---|" + "---|" * len(BATCH_SIZES)]
    first, *others = CASES
    cells = [f"1 ({np.median([times[first][size] for times in rounds]):.0f} ms)" for size in BATCH_SIZES]
    lines.append(f"| {first} | {' | '.join(cells)} |")
    for name in others:
        cells = []
        for size in BATCH_SIZES:
            ratios = [times[name][size] / times[first][size] for times in rounds]
            cells.append(f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of every case (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="default: docs/results")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    rounds = [{name: run(name) for name in CASES} for _ in range(arguments.rounds)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "scaling.md").write_text(table(rounds))
    print(table(rounds), end="")


if __name__ == "__main__":
    main()
