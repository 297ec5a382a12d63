"""Peak memory of evaluation, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import resource, sys
import numpy as np
from iwae_tf import IWAE

def peak():
    # Linux starts ru_maxrss of a new program at the peak of the process that started it (pytest with TensorFlow,
    # a gigabyte); VmHWM is the program's own.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS

model = IWAE.one_layer(784)
print(peak())
x = (np.random.default_rng(0).random((4, 784)) < 0.2).astype(np.float32)
for num_samples in (200, 20_000):
    assert np.isfinite(model.log_likelihood(x, num_samples=num_samples)).all()
    print(peak())
"""


@pytest.mark.slow
def test_a_hundred_times_the_samples_take_no_more_memory():
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    before, few, many = (float(number) for number in run.stdout.split())
    print(f"peak memory: {before:.0f} MiB before, {few:.0f} MiB with 200 samples, {many:.0f} MiB with 20,000")
    # The process itself takes most of it: were the rest to grow with the number of samples, the layers of 80,000
    # rows of 784 pixels would take 250 MB each.
    assert few > before
    assert many < 1.1 * few
