"""Commands whose standard streams are closed, full, no longer read or ASCII, without docstrings, locale and HOME."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
PLUGIN = """
import os, sys

for number in range(3):
    os.fstat(number)  # or the next file that is opened would be written to by mistake
for stream in (sys.stdin, sys.stdout, sys.stderr):
    stream.fileno()
print("\u00e4")
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("objectives --plugin plugin >&-", 0),
        ("objectives --plugin plugin 2>&- <&-", 0),
        ("objectives --plugin plugin >&- 2>&- <&-", 0),
        ("compare none other 2>&-", 2),
        ("compare none other 2>/dev/full", 2),
        ("objectives >/dev/full", 2),
        ("objectives | exec 0<&-", 141),  # the reader is gone
        ("--help", 0),
    ],
)
def test_the_exit_code_is_the_same_whatever_happens_to_the_output(words, code, tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    command = f"set -o pipefail; {sys.executable} -OO -m iwae_tf {words}"
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "LC_ALL": "C", "HOME": "/proc/none", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") <= 1


def test_a_backend_of_matplotlib_that_does_not_exist_is_named(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", "import iwae_tf.plots"],
        env={"PYTHONPATH": str(ROOT), "MPLBACKEND": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "InputError: matplotlib cannot be imported (Key backend: 'none'" in ended.stderr
    assert "correct MPLBACKEND" in ended.stderr


def test_an_ignored_interrupt_as_of_a_job_in_the_background_is_heard_again(capsys):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["objectives"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
