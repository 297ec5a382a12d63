"""What the three ways to a model have in common: REST, gRPC and the SavedModel's folder."""

from typing import Protocol

import numpy as np


class RequestTimeoutError(Exception):
    """A request took longer than the server or the client allows; one with fewer rows may do."""


class Backend(Protocol):
    """A way to a model.

    Attributes:
        version: the version that every request asks for; None where the server has none, or has not told yet.
        bytes_per_value: what a float takes in a request.
    """

    version: str | None
    bytes_per_value: int

    def data_dim(self, signature: str) -> int | None:
        """D, the values of one image, or None where the server does not tell."""

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a signature.

        Args:
            signature: its name, e.g. "serving_default".
            inputs: arrays by name, each with a leading batch dimension.

        Returns:
            Arrays by name, each with a leading batch dimension.

        Raises:
            RequestTimeoutError: ask for fewer rows.
            InputError: anything else that went wrong.
        """

    def close(self) -> None:
        """Gives connections back."""


def shapes(inputs: dict[str, np.ndarray]) -> str:
    """Names and shapes of what was sent, for messages, e.g. "x [8, 784]"."""
    return ", ".join(f"{name} {list(values.shape)}" for name, values in inputs.items())
