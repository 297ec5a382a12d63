"""Times of several ways to do one thing, taken in turns, and their ratios within a round."""

import random
import statistics
import time
from collections.abc import Callable


def measure(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round; a step has to wait for its own result."""
    seconds = {name: [] for name in steps}
    names = list(steps)
    for name in names * 2:
        steps[name]()  # traced, and once warm
    for number in range(rounds):
        random.Random(number).shuffle(names)
        for name in names:
            begin = time.perf_counter()
            steps[name]()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratios_to(reference: list[float], seconds: list[float]) -> tuple[float, float, float]:
    """Median and quartiles over the rounds of the ratio to the reference."""
    ratios = [one / other for one, other in zip(seconds, reference, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return median, low, high
