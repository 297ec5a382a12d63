"""Imports TensorFlow for the commands, without its start-up log on stderr, and prints lines above progress bars."""

import logging
import os
import sys
import tempfile

import iwae_tf


def import_tensorflow(xla: bool = False) -> None:
    """Imports TensorFlow, finds devices and sets threads; stderr is shown only if that fails.

    With one intra-op thread XLA runs single-threaded, so a step that XLA compiles keeps all cores.

    TensorFlow's C++ code logs before it reads any logging setting, so the file descriptor itself is redirected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept_back:
        os.dup2(kept_back.fileno(), 2)
        try:
            iwae_tf.check_keras()
            import tensorflow as tf

            from iwae_tf.replicas import one_thread_per_operation

            tf.config.list_physical_devices()
            # Every run compiles functions of its own; after the fifth TensorFlow takes that for a mistake.
            logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in str(record.msg))
            if not xla:
                one_thread_per_operation()
        except iwae_tf.InputError:
            raise
        except BaseException:
            os.dup2(stderr, 2)
            kept_back.seek(0)
            os.write(2, kept_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def print_line(line: str) -> None:
    """Prints a line on stdout, above the progress bars on stderr."""
    from tqdm import tqdm

    tqdm.write(line)
    sys.stdout.flush()
