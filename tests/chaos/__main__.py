"""`python -m tests.chaos`: batters a pipeline on a real broker and a real Redis, and compares its alerts with a replay.

A long run is made of rounds, each with a broker, a topic and a seed of its own; `--resume` goes on with the rounds
that are missing in a folder.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import report
from tests.chaos.faults import FAULTS, ONCE
from tests.chaos.points import KILL, POINTS
from tests.chaos.run import Injected, Outcome, Run, Settings
from tests.chaos.servers import Servers


def settings_of(seed: int, number: int, asked: argparse.Namespace) -> Settings:
    faults = [name for name in FAULTS if name not in ONCE] * asked.times + sorted(ONCE) + [KILL] * asked.kills
    points = POINTS * asked.hits
    # the most; with a worker's start of about 2 s at every point, spread over three workers
    limit_s = asked.limit or 6.0 * len(faults) + 3.5 * len(points)
    return Settings(
        seed=seed * 1000 + number,
        events=asked.events,
        rate=max(500.0, 0.8 * asked.events / limit_s),
        faults=tuple(faults),
        points=tuple(points),
        limit_s=limit_s,
        protocol=asked.protocol,
    )


def one(settings: Settings, folder: Path) -> Outcome:
    """A run on servers of its own; its files stay in `folder`, with those of the broker where harm was done."""
    folder.mkdir(parents=True, exist_ok=True)
    servers = Servers()
    try:
        outcome = Run(settings, servers, folder, lambda text: print(text, flush=True)).go()
        if outcome.violations:
            servers.broker.kill()
            shutil.copytree(servers.broker.folder, folder / "broker")
        return outcome
    finally:
        servers.close()


def loaded(folder: Path) -> list[Outcome]:
    found = json.loads((folder / "chaos.json").read_text()) if (folder / "chaos.json").exists() else []
    outcomes = []
    for data in found:
        settings = Settings(**{name: tuple(v) if isinstance(v, list) else v for name, v in data["settings"].items()})
        outcomes.append(
            Outcome(**{**data, "settings": settings, "injected": [Injected(**i) for i in data["injected"]]})
        )
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--events", type=int, default=1_000_000, help="of a round")
    parser.add_argument("--times", type=int, default=4, help="each fault, in a round")
    parser.add_argument("--kills", type=int, default=16, help="further kill -9 of workers, in a round")
    parser.add_argument("--hits", type=int, default=5, help="each fault point, in a round")
    parser.add_argument(
        "--limit", type=float, default=0.0, help="seconds of faults in a round; 0 = as long as it takes"
    )
    parser.add_argument("--protocol", choices=("consumer", "classic"), default="consumer", help="of the group")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None, help="default out/chaos-SEED")
    parser.add_argument("--resume", type=Path, default=None, help="a folder of an earlier run")
    asked = parser.parse_args()
    folder = asked.resume or asked.out
    if asked.resume is not None:
        saved = json.loads((asked.resume / "asked.json").read_text())
        asked = argparse.Namespace(**{**vars(asked), **saved})
    seed = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    folder = folder or Path("out") / f"chaos-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: getattr(asked, name) for name in ("rounds", "events", "times", "kills", "hits", "limit", "protocol")}
    (folder / "asked.json").write_text(json.dumps({**kept, "seed": seed}))
    outcomes = loaded(folder)
    print(f"seed {seed}; go on with it by: make chaos ARGS='--resume {folder}'", flush=True)
    for number in range(len(outcomes), asked.rounds):
        print(f"── round {number + 1} of {asked.rounds}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"round-{number}-", dir=folder) as inner:
            outcomes.append(one(settings_of(seed, number, asked), Path(inner)))
            if outcomes[-1].violations:
                kept_folder = folder / f"round-{number}-failed"
                Path(inner).rename(kept_folder)
                Path(inner).mkdir()
        report.write(outcomes, folder)
        print(report.summary(outcomes), flush=True)
    print(report.table(outcomes))
    print(f"\n{report.summary(outcomes)}\n{folder}/chaos.png, chaos.txt, chaos.json")
    sys.exit(1 if any(outcome.violations for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
