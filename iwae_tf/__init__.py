"""Importance weighted autoencoders in TensorFlow/Keras: train them, and know log p(x).

`IWAE` is the model, `objectives` what it can maximise, `evaluation` the estimate of log p(x), `data` the images.
"""

import importlib
import os
import sys

__version__ = "0.1.0"
__all__ = ["IWAE", "InputError", "data", "evaluation", "objectives"]

from iwae_tf.errors import InputError


def _is_command() -> bool:
    """True in `python train.py` and `python -m iwae_tf`, which answer before TensorFlow is imported (5 s)."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "train.py")
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    return module == ["iwae_tf"] or (script is not None and os.path.abspath(script) == beside)


if not _is_command():
    # Keras finds the classes of a saved model only once they are registered, so `keras.saving.load_model` needs this.
    from iwae_tf import data, evaluation, objectives
    from iwae_tf.models.iwae import IWAE

    for _module, *_ in objectives.OBJECTIVES.values():
        importlib.import_module(_module)
