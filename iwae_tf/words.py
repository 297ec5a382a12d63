"""Numbers in words, for tables, figures and messages."""


def percent(share: float) -> str:
    """Returns a share with one decimal; some but not all is never 0.0% nor 100.0%."""
    return f"{min(max(100 * share, 0.1), 99.9) if 0.0 < share < 1.0 else 100 * share:.1f}%"
