"""Writes a model as a SavedModel that TensorFlow Serving loads, with warm-up requests, provenance and a model card."""

import errno
import importlib.metadata
import itertools
import json
import shutil
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from iwae_tf.config import ExportConfig
from iwae_tf.data import Column
from iwae_tf.errors import InputError
from iwae_tf.evaluation.estimate import refines
from iwae_tf.models.streaming import BLOCK, CHUNK
from iwae_tf.serving.client import recorded_columns
from iwae_tf.serving.held_out import scored_held_out
from iwae_tf.serving.model_card import MODEL_CARD, model_card
from iwae_tf.serving.model_folder import PROVENANCE, SAVED_MODEL, checksum, files_of, refused_in, versions
from iwae_tf.serving.row import INPUT_RULES, RowSettings, p_values, values_taken
from iwae_tf.serving.scores import STATUSES
from iwae_tf.serving.signatures import Signature, signatures
from iwae_tf.version import __version__

CHECKED_ROWS = 4
FALSE_ALARM_RATES = (0.001, 0.01, 0.05, 0.1)
PACKAGES = ("tensorflow", "keras", "numpy")
WARMUP_FILE = "tf_serving_warmup_requests"  # the name that TensorFlow Serving looks for
WARMUP_BATCH_SIZES = (1, 2, 3, 4)  # of the batches that export/serving/batching_parameters.txt allows
WARMUP_SAMPLES = 500  # enough to run both chunk sizes; only the first call of a graph is slow


def export_saved_model(
    model,
    directory,
    *,
    num_samples: int = ExportConfig.num_samples,
    max_samples: int = ExportConfig.max_samples,
    input_rule: str | None = ExportConfig.input,
    refine: str = ExportConfig.refine,
    held_out: np.ndarray | None = None,
    held_out_scores: np.ndarray | None = None,
    run: dict | None = None,
) -> Path:
    """Writes the next version of a model for TensorFlow Serving.

    The version appears by an atomic rename, so that a server that watches the folder never sees an incomplete one.
    Existing versions are left alone.

    Args:
        model: an `iwae_tf.IWAE`.
        directory: the model's folder, `.../NAME`; the version becomes `.../NAME/<version>`.
        num_samples: importance samples of `serving_default`.
        max_samples: the most that a request of `log_prob_k` may ask for; it sets the memory for the tail of weights.
        input_rule: the treatment of values between 0 and 1: "binary" (the default for Bernoulli pixels) draws the
            pixel from its intensity, "intensity" scores the expected log-likelihood. None for other likelihoods.
        refine: "auto" lets `serving_default` score with a proposal refined for each row if the latent units are
            Gaussian, "on" also raises an error if they are not, "off" scores with q(h | x).
        held_out: rows that the model was not trained on, [N, D], as a client sends them. `serving_default` then also
            returns `p_value`, and there is a signature `explain`.
        held_out_scores: estimates of log p(x) of these rows with the same `num_samples` and `refine`, [N]; None scores
            the first 1000 rows.
        run: `config` and `metrics` of the training run, for the provenance. If it was on a table, there is a signature
            `score_columns`.

    Returns:
        The version's folder.

    Raises:
        InputError: (a `ValueError`) for numbers out of range, a rule that does not fit the likelihood, a model whose
            scores are not finite or whose graph may touch files, processes or Python, or a folder that cannot be
            written.
    """
    ExportConfig(num_samples, max_samples, input_rule, refine)  # raises for values out of range
    if model.likelihood_head.binarised:
        rule = input_rule or "binary"
    elif input_rule is None:
        rule = "real"
    else:
        raise InputError(
            f"the input rule {input_rule} is for Bernoulli pixels; this model's likelihood is {model.likelihood_name}"
        )
    columns = _table_columns(run or {})
    settings = RowSettings(int(num_samples), int(max_samples), rule, refines(model, refine), columns=columns)
    _check_scores(model)
    if held_out is not None:
        settings = settings._replace(held_out=scored_held_out(model, held_out, settings, held_out_scores))
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=directory))
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror}; give another folder") from None
    try:
        _write(model, temporary, directory.resolve().name, settings, run or {})
        temporary.chmod(0o755)  # mkdtemp gives access to its owner alone; a server runs as another user
        return _rename_to_next_version(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _table_columns(run: dict) -> tuple[Column, ...]:
    """Returns the columns that a run was trained on; empty for pixels, and for arrays, whose columns have no names."""
    columns = recorded_columns((run.get("config") or {}).get("data"))
    named = [column.name for column in columns] != [str(i) for i in range(len(columns))]
    return tuple(columns) if named else ()


def _check_scores(model) -> None:
    """Raises `InputError` unless the model's scores of rows that it draws itself are finite."""
    x = model.sample(CHECKED_ROWS)  # [N, D]
    finite = np.isfinite(x).all(axis=1)
    if finite.all():
        finite = np.isfinite(model.log_likelihood(x, BLOCK))
    if not finite.all():
        raise InputError(
            f"the model scores {np.count_nonzero(~finite)} of {CHECKED_ROWS} rows that it draws itself as NaN or "
            "infinite, as after training that diverged; export a model that evaluates to finite scores"
        )


def _write(model, folder: Path, name: str, settings: RowSettings, run: dict) -> None:
    functions = signatures(model, settings)
    archive = keras.export.ExportArchive()  # tracks the variables of the functions; a tf.Module's are lost to servers
    for signature_name, signature in functions.items():
        archive.add_endpoint(signature_name, signature.function, signature.inputs)
    archive.write_out(folder, verbose=False)
    for signature_name, signature in functions.items():
        if signature.columns:
            _name_inputs(folder, signature_name, signature)
    refused = refused_in(folder)
    if refused:
        raise InputError(
            f"the model's graph has {', '.join(refused)}, which may touch files, processes or Python, so `score` and "
            "`serve` would refuse it: leave them out of its networks"
        )
    write_warmup_requests(folder, name, functions, settings.max_samples)
    provenance = {
        "model_name": name,
        "exported": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data_dim": model.data_dim,
        "latent_units": list(model.latent_units),
        "latent": model.latent,
        "likelihood": model.likelihood_name,
        "levels": model.levels,
        "observations": model.likelihood_head.support,
        "scale": model.scale,
        "values": values_taken(model),
        "columns": None if model.columns is None else [column._asdict() for column in model.columns],
        "missing": model.missing,
        "input": settings.input_rule,
        "input_rule": INPUT_RULES[settings.input_rule],
        "num_samples": settings.num_samples,
        "max_samples": settings.max_samples,
        "refine": settings.refine,
        "held_out": None if settings.held_out is None else _described(settings.held_out.scores),
        "seed": settings.seed,
        "signatures": list(functions),
        "chunk": [BLOCK, CHUNK],
        "random_numbers": "philox, from (fingerprint of the pixels xor seed, block of 50 samples)",
        "statuses": {str(status): text for status, text in STATUSES.items()},
        "config": run.get("config"),
        "metrics": run.get("metrics"),
        "versions": {"iwae-tf": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
    }
    (folder / MODEL_CARD).write_text(model_card(provenance), encoding="utf-8")
    provenance |= {"files": files_of(folder), "checksum": checksum(folder)}
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")


def _name_inputs(folder: Path, name: str, signature: Signature) -> None:
    """Gives the inputs of a signature of a SavedModel the names of their columns, which TensorFlow would change."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

    content = saved_model_pb2.SavedModel.FromString((folder / SAVED_MODEL).read_bytes())
    inputs = content.meta_graphs[0].signature_def[name].inputs
    numbered = dict(inputs)
    inputs.clear()
    for column, spec in zip(signature.columns, signature.inputs, strict=True):
        inputs[column.name].CopyFrom(numbered[spec.name])
    (folder / SAVED_MODEL).write_bytes(content.SerializeToString(deterministic=True))
    write_fingerprint(str(folder))


def _described(scores: np.ndarray) -> dict:
    """Returns the number of held-out rows, and for false alarm rates the log_prob below which a row alarms."""
    allowed = {rate: int((p_values(len(scores)) <= np.float32(rate)).sum()) for rate in FALSE_ALARM_RATES}
    thresholds = {f"{rate:g}": float(scores[number - 1]) for rate, number in allowed.items() if number}
    return {"rows": len(scores), "alarm_below": thresholds}


def write_warmup_requests(folder: Path, model_name: str, functions: dict[str, Signature], max_samples: int) -> None:
    """Writes the requests that a server replays at its start: each signature at each batch size."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2  # lazy import: 0.3 s

    defaults = {"x": 0.0, "num_samples": min(WARMUP_SAMPLES, max_samples), "seed": 0}
    path = folder / "assets.extra" / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for (name, signature), size in itertools.product(functions.items(), WARMUP_BATCH_SIZES):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = name
            named = {column.name: (column.categories or (0.0,))[0] for column in signature.columns} or {
                spec.name: defaults[spec.name] for spec in signature.inputs
            }
            for (input_name, value), spec in zip(named.items(), signature.inputs, strict=True):
                values = np.full([size, *spec.shape[1:]], value, spec.dtype.as_numpy_dtype)
                request.inputs[input_name].CopyFrom(tf.make_tensor_proto(values))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _rename_to_next_version(folder: Path, directory: Path) -> Path:
    for version in itertools.count(max(versions(directory), default=0) + 1):
        target = directory / str(version)
        if target.exists():  # a rename would replace an empty folder
            continue
        try:
            return folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # those of an export at the same time
                raise
    raise AssertionError("numbers do not end")
