"""Fields of the settings' dataclasses: what a flag needs beside its name, and the checks of their values."""

import dataclasses
from typing import Any

from iwae_tf.errors import InputError, positive_integer


def setting(default: Any, text: str, **flag: Any) -> Any:
    """A dataclass field with its help text and what the flag needs beside its name.

    Args:
        default: the default value.
        text: the help text.
        **flag: `parse` (text -> value), `nargs`, `metavar`, `choices`, or `names`, the "module:NAMES" of a registry
            whose keys are the known values.
    """
    return dataclasses.field(default=default, metadata={"help": text, **flag})


def check_fields(settings: Any, *, positive: tuple[str, ...] = ()) -> None:
    """Raises `InputError` unless the fields named are integers >= 1 and fields with choices hold one of them."""
    for name in positive:
        positive_integer(name, getattr(settings, name))
    for field in dataclasses.fields(settings):
        choices, value = field.metadata.get("choices"), getattr(settings, field.name)
        if choices and value is not None and (isinstance(value, bool) or value not in choices):
            raise InputError(f"{field.name} must be one of {', '.join(map(str, choices))}, got {value!r}")
