"""Importance weighted autoencoders in TensorFlow/Keras: train them, and know log p(x).

`IWAE` is the model, `objectives` what it can maximise, `evaluation` the estimate of log p(x), `data` the images,
`serving` SavedModels that score.
"""

import importlib
import sys
from pathlib import Path

__all__ = ["IWAE", "InputError", "__version__", "data", "evaluation", "layers", "objectives", "serving"]

from iwae_tf.errors import InputError
from iwae_tf.version import __version__


def _is_command() -> bool:
    """True in `python -m iwae_tf`, train.py and export/*.py: they answer before TensorFlow is imported (5 s)."""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    script = Path(getattr(sys.modules.get("__main__"), "__file__", None) or ".").resolve()
    root = Path(__file__).resolve().parents[1]
    return module == ["iwae_tf"] or script == root / "train.py" or script.parent == root / "export"


if not _is_command():
    # Keras finds the classes of a saved model only once they are registered, so `keras.saving.load_model` needs this.
    from iwae_tf import data, evaluation, layers, objectives, serving
    from iwae_tf.models.iwae import IWAE

    for _module, *_ in objectives.OBJECTIVES.values():
        importlib.import_module(_module)
