"""Numbers, durations and settings as the page writes them."""

import math

MINUS, ABSENT = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float, digits: int = 2) -> str:
    """A value with so many decimals and a true minus sign; in words where it is not finite."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.{digits}f}".replace("-", MINUS)


def with_error(value: float, standard_error: float, digits: int = 2) -> str:
    """A value with its standard error."""
    error = number(standard_error, digits) if math.isfinite(standard_error) else "not known"
    return f"{number(value, digits)} ± {error}"


def small(value: float) -> str:
    """A variance, in three digits."""
    return f"{value:.3g}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds in the units that one would say."""
    if not math.isfinite(seconds):
        return "not known"
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def setting(value) -> str:
    """A value of `config.json`: lists in a line, the lists inside them with commas."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        nested = any(isinstance(item, list) for item in value)
        return (" | " if nested else ", ").join(setting(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {setting(item)}" for name, item in value.items())
    return str(value)
