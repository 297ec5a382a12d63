"""Writes a model as a SavedModel that TensorFlow Serving loads, with where it came from beside it."""

import errno
import importlib.metadata
import itertools
import json
import os
import shutil
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import keras

from iwae_tf.errors import InputError
from iwae_tf.scoring_config import ExportConfig
from iwae_tf.serving.model_folder import PROVENANCE, checksum, versions
from iwae_tf.serving.row import CHUNK, FIRST_CHUNK, INPUT_RULES, RowSettings
from iwae_tf.serving.scores import STATUSES
from iwae_tf.serving.signatures import signatures
from iwae_tf.serving.warmup import write_warmup_requests
from iwae_tf.version import __version__

PACKAGES = ("tensorflow", "keras", "numpy")


def export_saved_model(
    model,
    directory,
    *,
    num_samples: int = ExportConfig.num_samples,
    max_samples: int = ExportConfig.max_samples,
    input_rule: str | None = ExportConfig.input,
    run: dict | None = None,
) -> Path:
    """Writes the next version of a model for TensorFlow Serving.

    The version is written beside and renamed in whole, so that a server that watches the folder sees all of it or
    nothing; versions that are there are left alone.

    Args:
        model: an `iwae_tf.IWAE`.
        directory: the model's folder, `.../NAME`; the version becomes `.../NAME/<version>`.
        num_samples: importance samples of `serving_default`.
        max_samples: the most that a request of `log_prob_k` may ask for; it sets the memory for the tail of weights.
        input_rule: what is done with values between 0 and 1: "binary" (the default for Bernoulli pixels) draws the
            pixel from its intensity, "intensity" scores the expected log-likelihood. None for other likelihoods.
        run: `config` and `metrics` of the training run, for the provenance.

    Returns:
        The version's folder.

    Raises:
        InputError: (a `ValueError`) for numbers out of range, a rule that does not fit the likelihood or a folder that
            cannot be written.
    """
    ExportConfig(num_samples, max_samples, input_rule)  # refuses what is out of range
    settings = RowSettings(int(num_samples), int(max_samples), _fitting_rule(input_rule, model.likelihood_name))
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".part-", dir=directory))
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror}; give another folder") from None
    try:
        _write(model, beside, directory.resolve().name, settings, run or {})
        beside.chmod(0o755)  # mkdtemp's folders are for their owner alone; a server runs as somebody else
        return _rename_in(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fitting_rule(rule: str | None, likelihood: str) -> str:
    if likelihood == "bernoulli":
        return rule or "binary"
    if rule is not None:
        raise InputError(f"the input rule {rule} is for Bernoulli pixels; this model's likelihood is {likelihood}")
    return "real"


def _write(model, folder: Path, name: str, settings: RowSettings, run: dict) -> None:
    functions = signatures(model, settings)
    archive = keras.export.ExportArchive()  # finds the variables of the functions by itself
    for signature_name, signature in functions.items():
        archive.add_endpoint(signature_name, signature.function, signature.inputs)
    archive.write_out(folder, verbose=False)
    write_warmup_requests(folder, name, functions, settings.max_samples)
    provenance = {
        "model_name": name,
        "exported": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data_dim": model.data_dim,
        "latent_units": list(model.latent_units),
        "latent": model.latent,
        "likelihood": model.likelihood_name,
        "levels": model.levels,
        "observations": model.generative_network.likelihood_stage.head.support,
        "input": settings.input_rule,
        "input_rule": INPUT_RULES[settings.input_rule],
        "num_samples": settings.num_samples,
        "max_samples": settings.max_samples,
        "seed": settings.seed,
        "chunk": [FIRST_CHUNK, CHUNK],
        "random_numbers": "philox, from (fingerprint of x xor seed, chunk of samples)",
        "statuses": {str(status): text for status, text in STATUSES.items()},
        "config": run.get("config"),
        "metrics": run.get("metrics"),
        "versions": {"iwae-tf": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        "checksum": checksum(folder),
    }
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")


def _rename_in(beside: Path, directory: Path) -> Path:
    """Gives the folder the next free version number; another export may take it at the same time."""
    for version in itertools.count(max(versions(directory), default=0) + 1):
        target = directory / str(version)
        if target.exists():
            continue
        try:
            os.rename(beside, target)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue
            raise
        return target
    raise AssertionError("numbers do not end")
