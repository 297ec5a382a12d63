"""Times of several ways to do one thing, taken in turns, and their ratios within a round."""

import random
import statistics
import time
from collections.abc import Callable

LEAST_SECONDS = 0.02  # of a turn: a step of a millisecond is taken so often that the caches are its own again


class Seconds(float):
    """What a way took by its own clock: what it returns where it is computed in another process."""


def turn(way: Callable[[], object], repeats: int) -> float:
    """Seconds of one call, the mean of so many; a way has to wait for its own result."""
    begin = time.perf_counter()
    results = [way() for _ in range(repeats)]
    return float(results[0]) if isinstance(results[0], Seconds) else (time.perf_counter() - begin) / repeats


def repeats_of(way: Callable[[], object]) -> int:
    """How often to call in a turn; 1 where the way has a clock of its own. Calls twice, of which the first traces."""
    way()
    begin = time.perf_counter()
    own_clock = isinstance(way(), Seconds)
    return 1 if own_clock else max(1, round(LEAST_SECONDS / (time.perf_counter() - begin)))


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round."""
    seconds = {name: [] for name in ways}
    repeats = {name: repeats_of(way) for name, way in ways.items()}
    names = list(ways)
    for number in range(rounds):
        random.Random(number).shuffle(names)
        for name in names:
            seconds[name].append(turn(ways[name], repeats[name]))
    return seconds


def ratios_to(reference: list[float], seconds: list[float]) -> tuple[float, float, float]:
    """Median and quartiles over the rounds of the ratio to the reference."""
    ratios = [one / other for one, other in zip(seconds, reference, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return median, low, high
