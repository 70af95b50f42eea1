"""The demo: starts broker, store, worker and simulator, shows what happens, writes the report.

It keeps nothing but the report. A signal only sets a flag that every wait checks, so that the demo stops all that it
started, in order, at whatever moment the signal comes.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from stream_ad.demo import view
from stream_ad.demo.feed import Feed
from stream_ad.demo.measure import ReceivedAlert
from stream_ad.demo.scenarios import SCENARIOS
from stream_ad.demo.settings import environment, needed, propose
from stream_ad.demo.watch import Watch
from stream_ad.demo.worker import Worker, free_port
from stream_ad.errors import StreamAdError
from stream_ad.io.embedded import Broker, Tail, store
from stream_ad.service.stop import Stop

INTERRUPTED = 130
RATE = 2000.0  # events/s, on average over a simulated day
HISTORY_RECORDS = 80_000
STATISTICAL_S = 7.0  # of live stream before there is enough to train on
AFTER_SWAP_S = 60.0
GIVE_UP_S = 480.0  # of live stream without a trained model; slow machines take minutes
TICK_S = 0.1
SAMPLE_S = 0.5
PLAIN_S = 5.0
SETTLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    scenario: str
    seconds: float | None  # of live stream; None = a minute after the trained model took over
    forever: bool
    report: Path
    plain: bool
    as_json: bool
    seed: int


def run(options: Options) -> int:
    """Returns the exit code: 0, or 130 when interrupted. Raises `StreamAdError`."""
    console = Console(stderr=options.as_json)
    with _stopping() as stop:
        watch = _play(options, console, stop)
        if watch is None or not watch.feed.live_records:
            if not stop.asked():
                raise StreamAdError("demo: ended before the live stream began")
            console.print("interrupted before the live stream began: no report")
            return INTERRUPTED
        _summarise(options, console, watch)
        if watch.swapped_s is None and watch.refused is None and options.seconds is None and not stop.asked():
            raise StreamAdError(
                f"demo: no trained model took over within {GIVE_UP_S:.0f} s of live stream; see the report"
            )
        return INTERRUPTED if stop.asked() else 0


def _play(options: Options, console: Console, stop: Stop) -> Watch | None:
    """Starts all servers, follows the stream, and stops them; None when interrupted before the worker starts."""
    scenario = SCENARIOS[options.scenario]
    topic = name = scenario.name  # `init` calls the pipeline after its topic
    console.print(f"{scenario.title}: starts an embedded broker and store; nothing leaves this machine", soft_wrap=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream_ad_demo_")))
        url = stack.enter_context(store())
        broker = Broker()
        partitions = broker.create(topic)
        outputs = {role: broker.create(f"{name}.{role}") for role in ("alerts", "rejects", "models", "bundles")}
        feed = Feed(broker, topic, partitions, scenario, options.seed, HISTORY_RECORDS, RATE)
        stack.callback(feed.stop)
        feed.start()
        port, config = free_port(), folder / "stream_ad.toml"
        beside = needed(broker.address, url, port, _enough())
        proposed = propose(topic, scenario.name, config, beside, stop) if _has_history(feed, stop) else None
        if proposed is None:
            return None
        settings, said = proposed
        console.print(escape(f"$ {settings.command}\n{said}"), soft_wrap=True, highlight=False)
        worker = Worker(config, folder / "worker.log", port, environment(beside))
        stack.callback(worker.stop)
        tail = stack.enter_context(
            Tail(broker.address, {f"{name}.alerts": outputs["alerts"], f"{name}.models": outputs["models"]})
        )
        watch = Watch(scenario, feed, worker, tail, f"{name}.alerts", f"{name}.models", settings)
        with _shown(options, console, watch) as show:
            _follow(options, watch, worker, stop, show)
            feed.stop()
            show("judging the last events", [])
            _settle(watch, stop)
        worker.stop()
        time.sleep(SAMPLE_S)  # the tail reads what the worker published at its end
        watch.listen()
        return watch


def _has_history(feed: Feed, stop: Stop) -> bool:
    """Whether the quiet history came to its end, for `init` to look at; False when interrupted."""
    while not feed.history_sent.is_set():
        _check(feed)
        if stop.wait(TICK_S):
            return False
    return True


def _check(feed: Feed) -> None:
    if feed.error is not None:
        raise StreamAdError(f"demo: the simulator failed: {feed.error}")


def _follow(options: Options, watch: Watch, worker: Worker, stop: Stop, show: Show) -> None:
    """Shows the stream until it is time to end."""
    sampled = 0.0
    live_since: float | None = None
    while not stop.wait(TICK_S):
        if worker.exit_code() is not None:
            raise StreamAdError(f"demo: the worker ended with code {worker.exit_code()}:\n{worker.log_tail(15)}")
        _check(watch.feed)
        new = watch.listen()
        now = time.monotonic()
        if now - sampled >= SAMPLE_S:
            sampled = now
            watch.sample()
        judged = watch.figures.events if watch.figures is not None else 0
        if live_since is None and watch.feed.history_sent.is_set() and judged >= HISTORY_RECORDS:
            live_since = now
            watch.feed.go_live()
        show(_phase(watch, live_since, judged), new)
        if live_since is None or options.forever:
            continue
        if options.seconds is not None:
            if now - live_since >= options.seconds:
                return
        elif decided_s := watch.swapped_s or (watch.refused and watch.refused[0]):
            if watch.elapsed_s() - decided_s >= AFTER_SWAP_S:
                return
        elif now - live_since >= GIVE_UP_S:
            return


def _phase(watch: Watch, live_since: float | None, judged: int) -> str:
    if watch.figures is None:
        return "the worker starts (the first time it compiles its kernels)"
    if live_since is None:
        return f"quiet history: {judged:,} of {HISTORY_RECORDS:,} events"
    if watch.swapped_s is not None:
        return "live, the trained model judges"
    if watch.refused is not None:
        return "live, statistical scorer: its trial refused the trained model"
    if judged < _enough():
        return f"live, statistical scorer; training begins at {_enough():,} events"
    return "live, statistical scorer; the first model is being trained"


def _settle(watch: Watch, stop: Stop) -> None:
    """Waits until all records that were sent are judged, at most `SETTLE_S`."""
    deadline = time.monotonic() + SETTLE_S
    while not stop.asked() and time.monotonic() < deadline:
        watch.sample()
        watch.listen()
        if watch.figures is not None and not watch.lag():
            watch.settle()
            return
        stop.wait(TICK_S)


Show = Callable[[str, list[ReceivedAlert]], None]


@contextlib.contextmanager
def _shown(options: Options, console: Console, watch: Watch) -> Iterator[Show]:
    """Yields a function that shows the phase and new alerts, on a live screen or as lines."""
    drawn = -1e9
    if console.is_terminal and not options.plain:
        with Live(console=console, screen=True, auto_refresh=False) as live:

            def draw(phase: str, new: list[ReceivedAlert]) -> None:
                nonlocal drawn
                if new or time.monotonic() - drawn >= SAMPLE_S:
                    drawn = time.monotonic()
                    live.update(view.screen(watch, phase, console.height, console.width), refresh=True)

            yield draw
        return

    def write(phase: str, new: list[ReceivedAlert]) -> None:
        nonlocal drawn
        for alert in new:
            if alert.phase != "resolved":
                console.print(escape(view.alert_line(alert)), soft_wrap=True, highlight=False)
        if time.monotonic() - drawn >= PLAIN_S:
            drawn = time.monotonic()
            console.print(view.line(watch, phase), soft_wrap=True, highlight=False)

    yield write


def _summarise(options: Options, console: Console, watch: Watch) -> None:
    from stream_ad.demo import report

    console.print(view.summary(watch))
    if watch.refused is not None:
        console.print(escape(f"the trained model was refused: {watch.refused[1]}"), soft_wrap=True, highlight=False)
    if watch.history_alerts:
        console.print(f"the quiet history had {watch.history_alerts} incidents more, all of them false")
    report.write(options.report, watch)
    console.print(f"report: {options.report}", soft_wrap=True)
    if options.as_json:
        import orjson

        print(orjson.dumps(report.figures(watch), option=orjson.OPT_INDENT_2).decode())


def _enough() -> int:
    return HISTORY_RECORDS + round(STATISTICAL_S * RATE)


@contextlib.contextmanager
def _stopping() -> Iterator[Stop]:
    """Yields a stop that SIGINT, SIGTERM and SIGHUP ask for, however often they come."""
    stop = Stop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.ask()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
