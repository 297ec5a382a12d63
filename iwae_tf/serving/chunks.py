"""How many rows go into one request."""

FIRST_ROWS = 8
TARGET_SECONDS = 3.0  # a tenth of TF Serving's time-out for REST
MAX_BYTES = 1 << 20  # a quarter of gRPC's limit for a message, and what common proxies let through
MAX_ROWS = 256  # max_batch_size of export/serving/batching_parameters.txt; larger requests are refused


class ChunkSize:
    """The number of rows of the next request: small at first, then what takes a few seconds.

    Args:
        row_bytes: bytes of a row in a request.
    """

    def __init__(self, row_bytes: int):
        self._most = min(MAX_ROWS, max(1, MAX_BYTES // row_bytes))
        self.rows = min(FIRST_ROWS, self._most)

    def took(self, rows: int, seconds: float) -> None:
        """Learns from a request that was answered; grows to twice its rows at most."""
        aim = int(TARGET_SECONDS * rows / max(seconds, 1e-9))
        self.rows = max(1, min(aim, 2 * rows, self._most))

    def timed_out(self, rows: int) -> None:
        """Learns from a request of at least 2 rows that took too long, and never sends as many again."""
        self._most = rows - 1
        self.rows = rows // 2
