"""Polls and decodes in a thread of its own, so that reading and folding overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from stream_ad.codec.decoded import Decoded
from stream_ad.protocols import Codec, Listener, Source

DEPTH_BATCHES = 32
POLL_MS = 100


@dataclass(slots=True)
class Question:
    """A call of the source's listener that the pipeline's thread makes, by `settle`."""

    ask: Callable[[Listener], None]
    done: threading.Event = field(default_factory=threading.Event)

    def settle(self, listener: Listener) -> None:
        try:
            self.ask(listener)
        finally:
            self.done.set()


class Finished:
    """The last item of a bounded source."""


class Reader:
    """A queue between the source and the pipeline; `get` gives items in the order of the source."""

    def __init__(self, source: Source, codec: Codec) -> None:
        self._source, self._codec = source, codec
        self._queue: queue.Queue[Decoded | Question | Finished | BaseException] = queue.Queue(DEPTH_BATCHES)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                item = self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(item, Question):
                item.done.set()
        self._source.close()

    def get(self, timeout_s: float) -> Decoded | Question | Finished | None:
        """The next item, or None when nothing came in time. Raises what the reading thread raised."""
        try:
            item = self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        return item

    def crowded(self) -> bool:
        """Whether the queue is half full: the pipeline is slower than the source."""
        return self._queue.qsize() >= DEPTH_BATCHES // 2

    def assigned(self, partitions: Sequence[int]) -> None:
        self._asked(lambda listener: listener.assigned(partitions))

    def revoked(self, partitions: Sequence[int]) -> None:
        self._asked(lambda listener: listener.revoked(partitions))

    def lost(self, partitions: Sequence[int]) -> None:
        self._asked(lambda listener: listener.lost(partitions))

    def _asked(self, ask: Callable[[Listener], None]) -> None:
        question = Question(ask)
        if not self._stop.is_set():
            self._put(question)
            while not question.done.wait(0.1):
                if self._stop.is_set():
                    break

    def _put(self, item: Decoded | Question | Finished | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            self._source.open(self)
            while not self._stop.is_set():
                for raw in self._source.poll(POLL_MS):
                    self._put(Decoded.of(self._codec, raw))
                if self._source.finished():
                    self._put(Finished())
                    return
        except BaseException as error:
            self._put(error)
