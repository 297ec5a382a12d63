"""The scoring client: images in, scores out, from a server or from a SavedModel's folder."""

import os
import time
from collections.abc import Callable, Iterator

import numpy as np

from iwae_tf.errors import InputError, check_seed, positive_integer
from iwae_tf.serving.backend import Backend, RequestTimeoutError
from iwae_tf.serving.chunks import ChunkSize
from iwae_tf.serving.images import as_rows
from iwae_tf.serving.model_url import ModelURL, parse_model_url
from iwae_tf.serving.scores import Scores, concatenate, from_outputs

_DTYPES = {"x": np.float32, "num_samples": np.int32, "seed": np.int64}
_MAX_SAMPLES = 2**31 - 1  # num_samples is an int32


class ScoringClient:
    """Asks one version of one model.

    Args:
        url: `http(s)://HOST:PORT/v1/models/NAME` or `grpc://HOST:PORT/NAME`, each with `/versions/N` or `/labels/L` at
            its end or without; or a folder of versions, or of one version.
        timeout: seconds to wait for the answer to a request.
        retry_seconds: seconds spent waiting between tries of a request, at most, while a server is down or busy.

    Attributes:
        url: the URL without version and label.

    Raises:
        InputError: the URL is none, or there is no such model, or no server.
    """

    def __init__(self, url: str | os.PathLike, timeout: float = 30.0, retry_seconds: float = 30.0):
        place = parse_model_url(os.fspath(url))
        self.url = place.base
        try:
            self._backend = _connect(place, timeout, retry_seconds)
        except RequestTimeoutError as error:
            raise InputError(f"{error}; is it the right address, and a server of models?") from error

    @property
    def version(self) -> str | None:
        """The version that all requests go to; None where the server has none, or has not told yet."""
        return self._backend.version

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
        """Estimates log p(x) of images.

        Args:
            x: [N, D] or [N, H, W], see `images.as_rows`.
            num_samples: k, importance samples for each image; None for what the model was exported with.
            seed: of the samples, with `num_samples` only.
            progress: called with the number of rows of each chunk that is finished.

        Returns:
            `Scores` in the order of the images; they do not depend on how the images were divided into requests.

        Raises:
            InputError: the images do not fit the model, or the server failed.
        """
        chunks = []
        for chunk in self.score_chunks(x, num_samples, seed):
            chunks.append(chunk)
            if progress is not None:
                progress(len(chunk.status))
        return concatenate(chunks)

    def score_chunks(self, x: np.ndarray, num_samples: int | None = None, seed: int = 0) -> Iterator[Scores]:
        """Like `score`, but yields the scores of consecutive rows as they come."""
        x = as_rows(np.asarray(x))
        check_samples(num_samples, seed)
        signature = signature_of(num_samples)
        dim = self._backend.data_dim(signature)
        if dim is not None and dim != x.shape[1]:
            raise InputError(f"the images have {x.shape[1]} values each, the model at {self.url} takes {dim}")
        return self._chunks(x, signature, num_samples, seed)

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls any signature of the model in a single request.

        Args:
            signature: "encode", "reconstruct", "sample", or those of scores.
            inputs: by name: `x` [B, D] as float32, `num_samples` and `seed` [B].

        Returns:
            The outputs by name, each [B, ...].

        Raises:
            InputError: the inputs do not fit, the server failed, or the request took too long.
        """
        arrays = {name: np.asarray(values, _DTYPES.get(name)) for name, values in inputs.items()}
        try:
            return self._backend.predict(signature, arrays)
        except RequestTimeoutError as error:
            raise InputError(f"{error}; send fewer rows, or raise the time-out") from error

    def close(self) -> None:
        """Gives the connections back."""
        self._backend.close()

    def __enter__(self) -> "ScoringClient":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _chunks(self, x: np.ndarray, signature: str, num_samples: int | None, seed: int) -> Iterator[Scores]:
        size = ChunkSize(x.shape[1] * self._backend.bytes_per_value)
        done = 0
        while done < len(x):
            rows = x[done : done + size.rows]
            inputs = {"x": rows}
            if num_samples is not None:
                inputs["num_samples"] = np.full(len(rows), num_samples, np.int32)
                inputs["seed"] = np.full(len(rows), seed, np.int64)
            start = time.perf_counter()
            try:
                outputs = self._backend.predict(signature, inputs)
            except RequestTimeoutError as error:
                if len(rows) == 1:
                    raise _too_slow(error) from error
                size.timed_out(len(rows))
                continue
            size.took(len(rows), time.perf_counter() - start)
            yield from_outputs(outputs, len(rows))
            done += len(rows)


def check_samples(num_samples: int | None, seed: int) -> None:
    """Raises `InputError` for numbers that no model takes, and for a seed that nothing would be drawn with."""
    check_seed(seed)
    if num_samples is None and seed != 0:
        raise InputError(f"seed {seed} without num_samples: give both, or neither for the model's own")
    if num_samples is not None and positive_integer("num_samples", num_samples) > _MAX_SAMPLES:
        raise InputError(f"num_samples must be at most {_MAX_SAMPLES}, got {num_samples}")


def signature_of(num_samples: int | None) -> str:
    """The signature that scores: with the model's own number of samples, or with the caller's."""
    return "serving_default" if num_samples is None else "log_prob_k"


def _connect(url: ModelURL, timeout: float, retry_seconds: float) -> Backend:
    # Each is imported when it is asked for: the first two import TensorFlow, and REST shall not.
    if url.scheme == "folder":
        from iwae_tf.serving.saved_model_folder import FolderBackend

        return FolderBackend(url)
    if url.scheme == "grpc":
        from iwae_tf.serving.grpc_backend import GrpcBackend

        return GrpcBackend(url, timeout, retry_seconds)
    from iwae_tf.serving.rest import RestBackend

    return RestBackend(url, timeout, retry_seconds)


def _too_slow(error: RequestTimeoutError) -> InputError:
    return InputError(
        f"a single row took too long ({error}): ask for fewer samples by --num-samples, or raise the time-out, here "
        "by --timeout and for REST at the server too by --rest_api_timeout_in_ms"
    )
