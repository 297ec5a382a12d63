"""TensorFlow without the log lines that it writes to stderr while it starts."""

import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Imports TensorFlow and looks for devices with stderr kept back; what it wrote is shown if that fails.

    The lines come from C++ before any logging setting is read, so the file descriptor itself is turned away.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept_back:
        os.dup2(kept_back.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            os.dup2(stderr, 2)
            kept_back.seek(0)
            os.write(2, kept_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
