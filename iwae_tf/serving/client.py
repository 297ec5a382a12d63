"""The scoring client: rows in, scores out, from a server or from a SavedModel's folder."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from iwae_tf.data import Column, files, images
from iwae_tf.data.dataset import picture_shape
from iwae_tf.errors import InputError, check_seed, checked_samples, missing_package
from iwae_tf.serving.backends import Backend, RequestTimeoutError, RestBackend, parse_model_url, shapes
from iwae_tf.serving.scores import SCORE_COLUMNS, Scores, concatenate, from_outputs

FIRST_ROWS = 8
TARGET_SECONDS = 3.0  # of a request: a tenth of TF Serving's time-out for REST
MAX_BYTES = 1 << 20  # of a request: a quarter of gRPC's limit, and accepted by common proxies
MAX_ROWS = 256  # max_batch_size of export/serving/batching_parameters.txt; larger requests are refused
_INTEGERS = {"num_samples": np.dtype(np.int32), "seed": np.dtype(np.int64)}  # inputs of signatures


class ScoringClient:
    """Scores rows by one version of one model.

    Args:
        url: `http(s)://HOST:PORT/v1/models/NAME` or `grpc://HOST:PORT/NAME`, each optionally followed by `/versions/N`
            or `/labels/L`; or the folder of a model or of a version.
        timeout: seconds to wait for the whole answer to a request.
        retry_seconds: upper limit of the seconds spent waiting between tries of a request while a server is down or
            busy; at most 5 if it has never answered.

    Attributes:
        url: the URL without version and label.

    Raises:
        InputError: the URL is malformed, or there is no such model or server.
    """

    def __init__(self, url: str | os.PathLike, timeout: float = 30.0, retry_seconds: float = 30.0):
        address = parse_model_url(os.fspath(url))
        self.url = address.base
        self._backend: Backend
        try:  # lazy imports: a folder and gRPC need TensorFlow (5 s), REST does not
            if address.scheme == "folder":
                from iwae_tf.serving.model_folder import FolderBackend

                self._backend = FolderBackend(address)
            elif address.scheme == "grpc":
                from iwae_tf.serving.grpc_backend import GrpcBackend

                self._backend = GrpcBackend(address, timeout, retry_seconds)
            else:
                self._backend = RestBackend(address, timeout, retry_seconds)
        except ModuleNotFoundError as error:
            raise missing_package(error) from None
        except RequestTimeoutError as error:
            raise InputError(f"{error}; is it the right address, and a server of models?") from error

    @property
    def version(self) -> str | None:
        """The version that all requests go to; None if the server has no versions or has not named one yet."""
        return self._backend.version

    @property
    def checksum(self) -> str | None:
        """The checksum of the model's files, which changes with the model; None on a server."""
        return self._backend.checksum

    def pin(self, version: str) -> None:
        """Sends all further requests to `version`."""
        self._backend.version = version

    def score(
        self,
        x: np.ndarray,
        num_samples: int | None = None,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Scores:
        """Estimates log p(x) of rows.

        Args:
            x: [N, D] or [N, H, W], with the values of the training data; see `as_rows`.
            num_samples: k, importance samples for each row; None for the number that the model was exported with.
            seed: of the samples, with `num_samples` only.
            progress: called with the number of rows of each finished request.

        Returns:
            `Scores` in the order of the rows; they do not depend on how the rows are divided into requests.

        Raises:
            InputError: the rows do not fit the model, or the server failed.
        """
        finished = []
        for scores in self.score_chunks(x, num_samples, seed):
            finished.append(scores)
            if progress is not None:
                progress(len(scores.status))
        return concatenate(finished)

    def score_chunks(self, x: np.ndarray, num_samples: int | None = None, seed: int = 0) -> Iterator[Scores]:
        """Like `score`, but yields the scores of each request as it is answered."""
        x = as_rows(np.asarray(x))
        check_samples(num_samples, seed)
        inputs = {"x": x}
        if num_samples is not None:
            inputs["num_samples"] = np.full(len(x), num_samples, np.int32)
            inputs["seed"] = np.full(len(x), seed, np.int64)
        for outputs, rows in self._requests(signature_of(num_samples), inputs):
            yield from_outputs(outputs, rows)

    def explain(self, x: np.ndarray) -> np.ndarray:
        """Returns what each value of each row adds to its score, compared with held-out rows; the strangest are lowest.

        Args:
            x: [N, D] or [N, H, W], with the values of the training data; see `as_rows`.

        Returns:
            Contributions in nats, float32 [N, D]: the expected log-likelihood of the value given the row, minus its
            mean over held-out rows. NaN for a row that the model cannot score.

        Raises:
            InputError: the model was exported without held-out rows, the rows do not fit it, or the server failed.
        """
        x, found = as_rows(np.asarray(x)), []
        for outputs, rows in self._requests("explain", {"x": x}):
            values = outputs.get("contribution")
            if values is None or values.shape != (rows, x.shape[1]) or values.dtype.kind not in "iuf":
                raise InputError(f"the model at {self.url} answered explain without contributions of {rows} rows")
            found.append(values.astype(np.float32))
        return np.concatenate(found)

    def _requests(self, signature: str, inputs: dict[str, np.ndarray]) -> Iterator[tuple[dict[str, np.ndarray], int]]:
        """Yields the outputs and the number of rows of each request; its size follows the time of the one before."""
        x = inputs["x"]
        dim = self._backend.data_dim(signature)
        if dim is not None and dim != x.shape[1]:
            raise InputError(f"the rows have {x.shape[1]} values each, the model at {self.url} takes {dim}")
        most = min(MAX_ROWS, max(1, MAX_BYTES // (x.shape[1] * self._backend.bytes_per_value)))
        done, size = 0, min(FIRST_ROWS, most)
        while done < len(x):
            of_request = {name: values[done : done + size] for name, values in inputs.items()}
            rows = len(of_request["x"])
            start = time.perf_counter()
            try:
                outputs = self._backend.predict(signature, of_request)
            except RequestTimeoutError as error:
                if rows == 1:
                    raise InputError(
                        f"a single row took too long ({error}): ask for fewer samples by --num-samples, or raise the "
                        "time-out, of the client by --timeout and for REST of the server too by "
                        "--rest_api_timeout_in_ms"
                    ) from error
                most, size = rows - 1, rows // 2
                continue
            aim = int(TARGET_SECONDS * rows / max(time.perf_counter() - start, 1e-9))
            size = max(1, min(aim, 2 * rows, most))
            yield outputs, rows
            done += rows

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls any signature of the model in a single request.

        Args:
            signature: "encode", "reconstruct", "sample", "serving_default", "log_prob_k" or "score_columns".
            inputs: by name: `x` [B, D], `num_samples` and `seed` [B]; of "score_columns" each column, numbers or text
                [B], where NaN and the empty text are missing.

        Returns:
            The outputs by name, each [B, ...].

        Raises:
            InputError: the inputs do not fit, the server failed, or the request took too long.
        """
        if signature == SCORE_COLUMNS:
            arrays = {name: _as_column(name, _as_array(name, values)) for name, values in inputs.items()}
        else:
            arrays = {name: _as_input(name, _as_array(name, values)) for name, values in inputs.items()}
        if len({array.shape[:1] for array in arrays.values()}) > 1:
            raise InputError(f"the inputs have different numbers of rows: {shapes(arrays)}")
        try:
            return self._backend.predict(signature, arrays)
        except RequestTimeoutError as error:
            raise InputError(f"{error}; send fewer rows, or raise the time-out") from error

    def close(self) -> None:
        """Closes the connections."""
        self._backend.close()

    def __enter__(self) -> "ScoringClient":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def check_samples(num_samples: int | None, seed: int) -> None:
    """Raises `InputError` for a number or a seed out of range, and for a seed without a number of samples."""
    check_seed(seed)
    if num_samples is None and seed != 0:
        raise InputError(f"seed {seed} without num_samples: give both, or neither for the model's own")
    if num_samples is not None:
        checked_samples(num_samples)


def signature_of(num_samples: int | None) -> str:
    """Returns the scoring signature: with the model's own number of samples (None), or with the caller's."""
    return "serving_default" if num_samples is None else "log_prob_k"


def read_rows(
    path: Path, data: Mapping | None = None, array: str | None = None, id_column: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the rows of a file as float32 [N, D], and their identifiers or None.

    Args:
        path: a table (`.csv`, `.parquet`), an array (`.npy`), an `.npz` with an array `x`, a single array, or the one
            named by `array`; or a folder of images, whose identifiers are their paths in it.
        data: what is recorded of the model's training data (`model_folder.trained_data`), for the columns of a table.
            None if unknown.
        array: a name in an `.npz`.
        id_column: of a table.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    if not path.exists():
        raise InputError(f"there is no file or folder {path}: correct the path")
    if path.suffix.lower() not in (".csv", ".parquet"):
        if id_column is not None:
            raise InputError(f"--id-column {id_column} is for tables, {path} is none: leave it out")
        if path.is_dir():
            if array is not None:
                raise InputError(f"--array {array} is for .npz files, {path} is a folder of images: leave it out")
            paths = images.all_paths(path)
            ids = np.array([file.relative_to(path).as_posix() for file in paths])
            shape = tuple((data or {}).get("image_shape") or ()) if (data or {}).get("colours") else ()
            return _as_trained(images.read_images(paths, shape), str(path), data), ids
        x, name = _read_array(path, array)
        return _as_trained(x, name, data), None
    if data is None:
        raise InputError(
            f"{path} is a table, whose columns are found by the names that the model was trained on: give --data-of "
            "with the folder of the run, or of the exported model"
        )
    if not data.get("table_columns"):
        raise InputError(f"{path} is a table, and the model was trained on {data.get('dataset')}, which is none")
    if array is not None:
        raise InputError(f"--array {array} is for .npz files, {path} is a table: leave it out")
    from iwae_tf.data.tables import read_rows as read_table  # lazy import: pyarrow takes 0.2 s, and 170 MB of disk

    return read_table(path, recorded_columns(data), id_column)


def _as_trained(x: np.ndarray, name: str, data: Mapping | None) -> np.ndarray:
    """Returns rows as float32 [N, D]; raises `InputError` for images of another shape than those of training."""
    rows, wanted = as_rows(x, name), tuple((data or {}).get("image_shape") or ())
    shape = (x.shape[1], int(np.prod(x.shape[2:])))
    if x.ndim > 2 and len(wanted) == 2 and wanted[0] > 1 and shape != wanted:
        raise InputError(
            f"{name} has images of shape {list(x.shape[1:])}; the model was trained on "
            f"{list(picture_shape(wanted, bool(data.get('colours'))))}"
        )
    return rows


def recorded_columns(data: Mapping | None) -> list[Column]:
    """Returns the columns of a model's training data as recorded; empty if they were no table or are not known."""
    columns = (data or {}).get("table_columns") or ()
    return [Column(column["name"], column["kind"], tuple(column["categories"])) for column in columns]


def _read_array(path: Path, array: str | None) -> tuple[np.ndarray, str]:
    """Returns the array of a file, and its name for messages."""
    if path.suffix.lower() not in (".npy", ".npz"):
        raise InputError(f"{path}: unknown ending {path.suffix!r}; expected .npy, .npz, .csv or .parquet")
    if path.suffix.lower() == ".npy" and array is not None:
        raise InputError(f"--array {array}: {path} holds one array without a name; leave --array out")
    # Pickled objects can run code when they are loaded, so they are not allowed.
    with files.reading(path, "a file as np.save or np.savez writes it"):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, str(path)
        with loaded:
            names = ", ".join(loaded.files) or "(none)"
            if array is None:
                array = loaded.files[0] if len(loaded.files) == 1 else "x"
                if array not in loaded.files:
                    raise InputError(f"{path} has the arrays {names}; name that of the rows by --array")
            elif array not in loaded.files:
                raise InputError(f"{path} has no array {array!r}; it has {names}")
            return loaded[array], f"{path}: {array}"


def as_integers(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns integers of a signature's input in its dtype; raises `InputError` for others, or out of its range.

    Numbers of samples out of range are out of range for the model, too, which says so in the row's status.
    """
    if array.dtype.kind not in "iuf" or not np.array_equal(array, np.trunc(array)):
        raise InputError(f"{name} must hold integers ({dtype})")
    limits = np.iinfo(dtype)
    if name == "num_samples":
        return np.clip(array.astype(np.float64), limits.min, limits.max).astype(dtype)
    if array.dtype.kind == "f" or not limits.min <= array.min() <= array.max() <= limits.max:
        raise InputError(f"{name} must hold integers from {limits.min} to {limits.max}")
    return array.astype(dtype)


def _as_array(name: str, values) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError(f"{name} has rows of different lengths") from None


def _as_input(name: str, array: np.ndarray) -> np.ndarray:
    if name == "x" and array.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {array.dtype}; expected numbers: convert it with .astype")
    if name in _INTEGERS and array.size:
        return as_integers(name, array, _INTEGERS[name])
    with np.errstate(over="ignore"):  # a float64 above 3.4e38 becomes inf, and its row gets a status
        return array.astype(np.float32) if name == "x" else array


def _as_column(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "U" or all(isinstance(value, str) for value in values.flat):
        return values.astype(str)
    if values.dtype.kind not in "biuf":
        raise InputError(f"column {name!r} has dtype {values.dtype}; expected numbers or text, all of one kind")
    with np.errstate(over="ignore"):  # a float64 above 3.4e38 becomes inf, and its row gets a status
        return values.astype(np.float32)


def as_rows(x: np.ndarray, name: str = "x") -> np.ndarray:
    """Returns rows as float32 [N, D]; their values stay as they are.

    Args:
        x: [N, D], [N, H, W] or [N, H, W, C], numbers; bool is 0/1.
        name: the array's, for error messages.

    Raises:
        InputError: another shape or dtype, or no rows.
    """
    if x.ndim not in (2, 3, 4):
        raise InputError(f"{name} has shape {list(x.shape)}; expected [N, D], [N, H, W] or [N, H, W, C]: reshape it")
    if x.size == 0:
        raise InputError(f"{name} is empty, shape {list(x.shape)}; expected at least one row")
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {x.dtype}; expected numbers: convert it with .astype")
    with np.errstate(over="ignore"):  # a float64 above 3.4e38 becomes inf, and its row gets a status
        return np.ascontiguousarray(x.reshape(len(x), -1).astype(np.float32))
