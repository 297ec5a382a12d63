"""TensorFlow as the commands use it, without the log lines that it writes to stderr while it starts."""

import os
import sys
import tempfile


def import_tensorflow(xla: bool = False) -> None:
    """Imports TensorFlow, looks for devices and sets threads, with stderr kept back unless that fails.

    XLA, where a step is compiled, has one thread for all of it if an operation has one, and so is left all cores.

    The lines come from C++ before any logging setting is read, so the file descriptor itself is turned away.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept_back:
        os.dup2(kept_back.fileno(), 2)
        try:
            import tensorflow as tf

            from iwae_tf.threads import one_thread_for_an_operation

            tf.config.list_physical_devices()
            if not xla:
                one_thread_for_an_operation()
        except BaseException:
            os.dup2(stderr, 2)
            kept_back.seek(0)
            os.write(2, kept_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
