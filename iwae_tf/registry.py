"""Classes by name, imported when they are asked for, so that names can be listed without TensorFlow."""

import importlib
from collections.abc import Mapping

from iwae_tf.errors import unknown_name


def registered_class(kind: str, name: str, registry: Mapping[str, tuple[str, str, str]]) -> type:
    """The class behind a name.

    Args:
        kind: what the name stands for, for the error.
        name: a key of `registry`.
        registry: name -> (module, class, when one would use it).

    Returns:
        The class.

    Raises:
        InputError: for an unknown name, with the nearest one.
    """
    if name not in registry:
        raise unknown_name(kind, name, registry)
    module, cls, _ = registry[name]
    return getattr(importlib.import_module(module), cls)
