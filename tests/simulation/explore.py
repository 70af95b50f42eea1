"""Runs schedules on all cores: `python -m tests.simulation.explore --schedules 100000 [--seed N]`."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulation.schedule import Step, run, schedule, shrunk
from tests.simulation.world import Rules

CHUNK = 500


@dataclass(frozen=True)
class Finding:
    seed: int
    wrong: str
    steps: list[Step]  # the few that matter

    def __str__(self) -> str:
        steps = "\n".join(f"    {step}" for step in self.steps)
        return f"schedule {self.seed}: {self.wrong}\n  cut down to:\n{steps}"


def first_of(seeds: range, rules: Rules) -> Finding | None:
    """The first schedule of `seeds` after which something is wrong."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for seed in seeds:
            steps = schedule(seed)
            if run(steps, rules) is not None:
                few = shrunk(steps, lambda fewer: run(fewer, rules) is not None)
                return Finding(seed, run(few, rules) or "", few)
        return None
    finally:
        logging.disable(before)


def explored(first: int, count: int, rules: Rules) -> Iterator[tuple[int, Finding | None]]:
    """How many schedules are done, and what was found in the latest of them."""
    chunks = [range(seed, min(seed + CHUNK, first + count)) for seed in range(first, first + count, CHUNK)]
    done = 0
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for chunk, finding in pool.imap(_chunk, [(chunk, rules) for chunk in chunks]):
            done += len(chunk)
            yield done, finding


def _chunk(task: tuple[range, Rules]) -> tuple[range, Finding | None]:
    return task[0], first_of(*task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 40))
    asked = parser.parse_args()
    print(f"{asked.schedules} schedules from seed {asked.seed}")
    begun = time.monotonic()
    for done, finding in explored(asked.seed, asked.schedules, Rules()):
        if finding is not None:
            sys.exit(f"\n{finding}\nagain: python -m tests.simulation.explore --schedules 1 --seed {finding.seed}")
        end = "\n" if done == asked.schedules else ""
        print(f"\r{done} schedules, {time.monotonic() - begun:.0f} s, nothing lost, nothing twice", end=end, flush=True)


if __name__ == "__main__":
    main()
