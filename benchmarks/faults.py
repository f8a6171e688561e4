"""Exactly once, at scale: rounds of one recipe whose driver and workers are killed at random moments.

    python -m benchmarks.faults [--kills 300] [--seed 1]

A round is one run of a recipe with a map that writes media, a model's batches, an expand, a filter, a gather and a
pack, in a fresh store. On its way about 4 drivers (the whole cluster goes with each) and 16 workers are killed with
SIGKILL, at moments spread over the run. What it publishes must be, byte for byte, what an uninterrupted run did.
300 kills take about a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from tests.e2e.harness import Toll, Work, check_conservation, harry

KILLS_A_ROUND = 20
DRIVERS_A_ROUND = 4
GOAL = 1.0


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--kills", type=int, default=300, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=1, help="decides the moments and the victims")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calm = Work(Path(folder, "calm"))
        started = time.monotonic()
        calm.run(seconds=180)
        check_conservation(calm)
        wanted, total = calm.tree(), calm.progress()
        print(f"uninterrupted: {time.monotonic() - started:.0f} s, {total} commits, {len(wanted)} files published")
        print(f"{'round':>5} {'drivers':>8} {'workers':>8} {'seconds':>8}  result", flush=True)
        rounds = same = kills = 0
        while kills < options.kills:
            wave = min(KILLS_A_ROUND, options.kills - kills)
            drivers = min(DRIVERS_A_ROUND, wave)
            started = time.monotonic()
            work, rng = Work(Path(folder, f"round-{rounds}")), random.Random(f"{options.seed}-{rounds}")
            verdict, toll = _round(work, rng, total, drivers, wave - drivers, wanted)
            if not toll.kills:
                raise SystemExit(f"nothing could be killed: {verdict}")
            rounds, same, kills = rounds + 1, same + verdict.startswith("identical"), kills + toll.kills
            seconds = time.monotonic() - started
            print(f"{rounds:>5} {toll.drivers:>8} {toll.workers:>8} {seconds:>8.0f}  {verdict}", flush=True)
    print(f"{kills} kills; {same} of {rounds} rounds published the same bytes")
    print(f"faults ratio={same / rounds:.2f} goal={GOAL:g}")


def _round(
    work: Work, rng: random.Random, total: int, drivers: int, workers: int, wanted: dict[str, str]
) -> tuple[str, Toll]:
    toll = Toll()
    try:
        harry(work, rng, total, drivers, workers, toll=toll, seconds=600)
        check_conservation(work)
    except (AssertionError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}", toll
    found = work.tree()
    if found != wanted:
        return f"{sum(found.get(n) != wanted.get(n) for n in {*found, *wanted})} files differ", toll
    return "identical" + (f" (cluster stayed: {len(toll.stragglers)})" if toll.stragglers else ""), toll


if __name__ == "__main__":
    main()
