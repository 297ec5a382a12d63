"""Ctrl-C and SIGTERM, held back until what is under way can be kept."""

import signal
import threading

from iwae_tf.errors import Stopped


class StopSignals:
    """A context in which Ctrl-C and SIGTERM wait for `check`, which raises `Stopped`; a second one ends at once.

    An exception raised anywhere can land in TensorFlow's own code, which drops it or makes another error of it; and
    between two steps or two batches the weights and the files are those of one moment.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested = None

    def __enter__(self):
        self.handlers = {number: signal.getsignal(number) for number in self.SIGNALS}
        self._install(dict.fromkeys(self.SIGNALS, self._request))
        return self

    def __exit__(self, *exception):
        self._install(self.handlers)

    def check(self) -> None:
        """Raises `Stopped` if a signal came."""
        if self.requested is not None:
            raise Stopped(self.requested)

    def _request(self, number, frame):
        self.requested = number
        self._install(self.handlers)

    @staticmethod
    def _install(handlers: dict) -> None:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number, handler in handlers.items():
                signal.signal(number, handler)
