"""Worker processes of one pipeline, forked from a server that has loaded what they need."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from stream_ad.config import Config
from tests.chaos import points, wrong
from tests.chaos.points import Plan

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["stream_ad.service.preload"])
STOP_S = 40.0
# 8: something had to be left undone; SIGTERM: it had not got as far as to listen
OBEYED = (0, 8, -signal.SIGTERM, -signal.SIGKILL)  # the last at a fault point on its way out


def work(config: Config, index: int, plan: Plan | None, rule: str, log: Path) -> None:
    """A worker as `stream-ad run` starts it, but for the faults that are put around it."""
    with log.open("ab", buffering=0) as out:
        os.dup2(out.fileno(), sys.stderr.fileno())
    from stream_ad.service import worker

    points.install(plan)
    wrong.install(rule)
    worker.main(config, index, None)


class Fleet:
    """Workers by index; each has its log."""

    def __init__(self, config: Config, rule: str, folder: Path) -> None:
        self._config, self._rule, self._folder = config, rule, folder
        self._processes: dict[int, BaseProcess] = {}
        self.frozen: set[int] = set()
        self.odd: list[str] = []  # workers that ended as none should

    def start(self, index: int, plan: Plan | None = None) -> None:
        log = self._folder / f"worker-{index}.log"
        process = CONTEXT.Process(target=work, args=(self._config, index, plan, self._rule, log), daemon=True)
        process.start()
        self._processes[index] = process

    def alive(self) -> list[int]:
        return [index for index, process in self._processes.items() if process.is_alive()]

    def dead(self) -> list[int]:
        """Those that died since they were started; an end that nobody caused is noted."""
        found = [index for index, process in self._processes.items() if not process.is_alive()]
        for index in found:
            code = self._processes.pop(index).exitcode
            self.frozen.discard(index)
            if code not in (-signal.SIGKILL, 0):
                self.odd.append(f"worker {index} ended with {code}")
        return found

    def kill(self, index: int) -> None:
        process = self._processes.get(index)
        self._signal(index, signal.SIGKILL)
        if process is not None:
            wait([process.sentinel], 5)  # its exit code can be read once, by `dead`

    def freeze(self, index: int) -> None:
        self._signal(index, signal.SIGSTOP)
        self.frozen.add(index)

    def thaw(self, index: int) -> None:
        self._signal(index, signal.SIGCONT)
        self.frozen.discard(index)

    def stop(self, index: int) -> None:
        """As a user would; it has to obey."""
        process = self._processes.pop(index)
        process.terminate()
        process.join(STOP_S)
        if process.exitcode not in OBEYED:
            self.odd.append(f"worker {index} was asked to stop and ended with {process.exitcode}")
            process.kill()

    def stop_all(self) -> None:
        for index in list(self._processes):
            if index in self.frozen:
                self.thaw(index)
            process = self._processes[index]
            if process.is_alive():
                process.terminate()
        deadline = time.monotonic() + STOP_S
        for index, process in list(self._processes.items()):
            process.join(max(0.1, deadline - time.monotonic()))
            if process.exitcode is None:
                self.odd.append(f"worker {index} did not stop within {STOP_S:.0f} s")
                process.kill()
            elif process.exitcode not in OBEYED:
                self.odd.append(f"worker {index} ended with {process.exitcode}")
        self._processes.clear()

    def _signal(self, index: int, number: int) -> None:
        process = self._processes.get(index)
        if process is not None and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
