"""A finished run that tests of a session share; a test that changes its folder copies it first."""

import contextlib
import functools
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from filelock import FileLock

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.config import ScoringConfig

# Small networks and few samples: the tests are about the way from flags to files.
SIZES = ["--hidden-units", "20,20", "--latent-units", "2", "--batch-size", "50", "--eval-samples", "60"]


class Trained(NamedTuple):
    """A run of `train`: its folder, its flags, and what was printed on stdout and stderr."""

    path: Path
    flags: list[str]
    stdout: str
    stderr: str


def printed_by(arguments: list[str]) -> tuple[int, str, str]:
    """Runs a command; returns exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that `make` fills once in a session, for all workers of pytest-xdist together."""
    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent  # each worker has a folder of its own in it
    with FileLock(root / f"{name}.lock"):
        if not (root / f"{name}.done").exists():
            shutil.rmtree(root / name, ignore_errors=True)  # another worker has failed
            (root / name).mkdir()
            make(root / name)
            (root / f"{name}.done").touch()
    return root / name


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Two epochs on the digits with seed 3, two latent units."""
    flags = ["--k", "5", "--epochs", "2", "--seed", "3", *SIZES, "--output-dir"]

    def train(folder):
        code, out, err = printed_by(["train", *flags, str(folder / "run")])
        assert code == 0, err
        (folder / "printed.json").write_text(json.dumps([out, err]))

    folder = made_once(tmp_path_factory, "trained", train)
    out, err = json.loads((folder / "printed.json").read_text())
    return Trained(folder / "run", [*flags, str(folder / "run")], out, err)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the shared run's folder."""
    return Path(shutil.copytree(trained.path, tmp_path / "run"))


def change_model(run: Path) -> None:
    """Scales the weights in a run's `model.keras`, which then is another model of the same networks."""
    import keras

    model = keras.saving.load_model(run / "model.keras", compile=False)
    model.set_weights([(weight * 0.9).astype(weight.dtype) for weight in model.get_weights()])
    model.save(run / "model.keras")


def skip_figures(patch: pytest.MonkeyPatch) -> None:
    """Makes runs and evaluations spend no seconds on figures and the report."""
    for name in ("training.evaluation._draw_training", "training.evaluation._draw_evaluation"):
        patch.setattr(f"iwae_tf.{name}", lambda *arguments: None)
    patch.setattr("iwae_tf.report.page.write_report", lambda records, path: None)


@pytest.fixture
def third_batch(monkeypatch):
    """Sends Ctrl-C while the third batch of images is scored, once; returns a list of the sizes of all batches."""
    checked, sizes = iwae_tf.IWAE.checked, []

    def signals(self, x):  # called for each batch
        sizes.append(len(x))
        if len(sizes) == 3:
            signal.raise_signal(signal.SIGINT)
        return checked(self, x)

    monkeypatch.setattr(iwae_tf.IWAE, "checked", signals)
    return sizes


@pytest.fixture
def without_figures(monkeypatch):
    skip_figures(monkeypatch)


def skip_refinement(patch: pytest.MonkeyPatch) -> None:
    """Makes `train` score with q(h | x); the graph that refines proposals takes 3 s more. The shared run refines."""
    quicker = functools.partial(ScoringConfig, refine="off")
    patch.setattr("iwae_tf.training.evaluation.ScoringConfig", quicker)


@pytest.fixture
def without_refinement(monkeypatch):
    skip_refinement(monkeypatch)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """An .npz file with 50 training, 7 validation and 20 test images of 5 x 6 pixels between 0 and 1."""
    path = tmp_path_factory.mktemp("images") / "mine.npz"
    rng = np.random.default_rng(0)
    np.savez(path, **{f"x_{split}": rng.random((n, 5, 6)) for split, n in (("train", 50), ("valid", 7), ("test", 20))})
    return str(path)
