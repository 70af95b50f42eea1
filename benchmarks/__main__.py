"""`make bench`: measures each stage alone and the full path, side by side in one run, on a real broker.

Compare the ratios: the figures of one machine do not hold for another. ARGS="--quick" runs a quarter
of the size; ARGS=recovery measures restores and rebalances instead, ARGS=scorers each scorer alone (on a CUDA device
too, where one is there), ARGS=calibration how far the realised rate of false alarms is from the stated one,
ARGS=budget which incidents a budget is given to, ARGS=attribution how often explanations name the field that moved.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import attribution, budget, calibration, load, recovery, scorers, stages
from tests.support.servers import kafka_broker, redis_server

WHAT = ("speed", "recovery", "scorers", "calibration", "budget", "attribution")
LEAST = {"full / consume": 0.15, "ensemble / autoencoder": 0.8, "1M keys / 1k keys": 0.6}
MOST = {"first score [s]": 5.0}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="make bench", description=__doc__)
    arguments.add_argument("what", nargs="?", choices=WHAT, default="speed")
    arguments.add_argument("--data", type=Path, help="for attribution: a folder with streams")
    arguments.add_argument("--only", nargs="*", choices=sorted(attribution.STREAMS), help="of these")
    arguments.add_argument("--quick", action="store_true", help="a quarter of the events and keys")
    arguments.add_argument("--rounds", type=int, default=5, help="how often to take each figure (median)")
    arguments.add_argument("--output", type=Path, default=Path("out/bench"), help="folder for bench.json and bench.svg")
    arguments.add_argument("--device", default="cpu", help="scoring.device: cpu, cuda or cuda:N")
    chosen = arguments.parse_args()
    scale = 4 if chosen.quick else 1
    console = Console()
    alone: dict[str, Callable[[], object]] = {
        "scorers": lambda: scorers.main(console, chosen.rounds, scale),
        "calibration": lambda: calibration.main(console, scale),
        "budget": lambda: budget.main(console),
        "attribution": lambda: attribution.main(console, chosen.data, chosen.only, scale),
    }
    if chosen.what in alone:
        measured = {"figures": alone[chosen.what](), "at": time.time()}
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / f"{chosen.what}.json").write_text(json.dumps(measured, indent=2))
        return
    with tempfile.TemporaryDirectory() as folder, kafka_broker() as brokers, redis_server() as redis:
        if chosen.what == "recovery":
            measured = recovery.main(brokers, redis, Path(folder), console, chosen.rounds, scale)
            chosen.output.mkdir(parents=True, exist_ok=True)
            (chosen.output / "recovery.json").write_text(json.dumps({**measured, "at": time.time()}, indent=2))
            return
        run = stages.Run(brokers, redis, Path(folder), console, chosen.device)
        scorers_of = {"few": [load.ALONE, load.ENSEMBLE], "many": [load.ENSEMBLE]}
        few, many = 1_000, 1_000_000 // scale
        events = 2_000_000 // scale
        for name, keys in (("few", few), ("many", many)):
            with console.status(f"filling a topic: {events:,} events of {keys:,} keys"):
                load.fill(brokers, name, events, keys)
            for scorer in scorers_of[name]:
                run.train(name, keys, scorer)
        stages_of_a_round = {
            "decode": lambda: run.decode("few"),
            "fold": lambda: run.fold("few", few),
            "score, autoencoder": lambda: run.score("few", few, load.ALONE),
            "score": lambda: run.score("few", few, load.ENSEMBLE),
            "consume": lambda: run.consume("few"),
            "full, autoencoder": lambda: run.full("few", few, load.ALONE),
            "full": lambda: run.full("few", few, load.ENSEMBLE),
            "full, many keys": lambda: run.full("many", many, load.ENSEMBLE),
        }
        figures: dict[str, list[float]] = {name: [] for name in stages_of_a_round}
        with console.status("warming up: full"):
            run.full("few", few, load.ENSEMBLE)
        for number in range(chosen.rounds):
            for name, measure in stages_of_a_round.items():
                with console.status(f"round {number + 1} of {chosen.rounds}: {name}"):
                    figures[name].append(measure())
        seconds = [run.first_score() for _ in range(chosen.rounds + 1)][1:]
        ratios = {
            "full / consume": paired(figures["full"], figures["consume"]),
            "ensemble / autoencoder": paired(figures["full"], figures["full, autoencoder"]),
            "1M keys / 1k keys": paired(figures["full, many keys"], figures["full"]),
            "first score [s]": seconds,
        }
        memory = run.memory(few)
    report(console, figures, ratios, memory)
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "bench.json").write_text(
        json.dumps({"events_per_s": figures, "ratios": ratios, "memory": memory, "at": time.time()}, indent=2)
    )
    stages.draw(figures, chosen.output / "bench.svg")
    console.print(f"{chosen.output}/bench.json, {chosen.output}/bench.svg")
    gc.unfreeze()  # at exit, libraries of torch report frozen objects as leaked


def paired(over: list[float], under: list[float]) -> list[float]:
    """The ratio of each round: it does not depend on the speed of the machine, which drifts between rounds."""
    return [a / b for a, b in zip(over, under, strict=True)]


def report(
    console: Console, figures: dict[str, list[float]], ratios: dict[str, list[float]], memory: dict[str, float]
) -> None:
    consume = statistics.median(figures["consume"])
    table = Table("stage (one process)", "events/s, median", "least", "most", "÷ consume", title="throughput")
    for name, values in figures.items():
        median = statistics.median(values)
        cells = [f"{value:,.0f}" for value in (median, min(values), max(values))]
        table.add_row(name, *cells, f"{median / consume:.2f}")
    console.print(table)
    goals = Table("ratio, by round", "median", "least", "most", "goal")
    for name, values in ratios.items():
        value = statistics.median(values)
        goal = f"≥ {LEAST[name]}" if name in LEAST else f"≤ {MOST[name]}"
        met = value >= LEAST[name] if name in LEAST else value <= MOST[name]
        cells = [f"{figure:.3f}" for figure in (value, min(values), max(values))]
        goals.add_row(name, *cells, f"{goal} {'✓' if met else '✗'}")
    console.print(goals)
    console.print(
        f"state: {memory['bytes_per_key']:,.0f} bytes per key, {memory['window_bytes']:,.0f} of them the raw window"
    )


if __name__ == "__main__":
    main()
