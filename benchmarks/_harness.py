"""Timing us against a peer: both in one process, taking turns, medians."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Timing(NamedTuple):
    """Medians of one comparison; `us` and `peer` in seconds a run, `items` worked on in each."""

    label: str
    items: int
    us: float
    peer: float

    @property
    def ratio(self) -> float:
        """How many times faster we are."""
        return self.peer / self.us


def nothing() -> None:
    """What `before` does where there is nothing to prepare."""


def compare(
    label: str,
    items: int,
    us: Callable[[], object],
    peer: Callable[[], object],
    *,
    rounds: int = 7,
    before: Callable[[], object] = nothing,
) -> Timing:
    """Run both in turns, `rounds` times after one that is not counted; `before` runs untimed before each."""
    taken: dict[Callable[[], object], list[float]] = {us: [], peer: []}
    for turn in range(rounds + 1):
        for work in (us, peer) if turn % 2 else (peer, us):  # neither always profits from what the other left
            before()
            gc.collect()
            start = time.perf_counter()
            work()
            if turn:
                taken[work].append(time.perf_counter() - start)
    return Timing(label, items, statistics.median(taken[us]), statistics.median(taken[peer]))


def report(name: str, timings: list[Timing], goal: float, *, peer: str, unit: str = "sample") -> None:
    """Print the table, and last the line `<name> ratio=<x> goal=<y>` for the first timing."""
    width = max(len(timing.label) for timing in timings)
    print(f"{'':{width}}  {'us':>9}  {peer:>12}  ratio   (us per {unit})")
    for timing in timings:
        ours, theirs = (1e6 * seconds / timing.items for seconds in (timing.us, timing.peer))
        print(f"{timing.label:{width}}  {ours:9.2f}  {theirs:12.2f}  {timing.ratio:5.1f}")
    print(f"{name} ratio={timings[0].ratio:.2f} goal={goal:g}")
