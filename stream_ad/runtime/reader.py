"""Polls and decodes in a thread of its own, so that reading and folding overlap."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

from stream_ad.codec.decoded import Decoded
from stream_ad.protocols import Codec, Listener, Source

DEPTH_BATCHES = 32
DEPTH_BYTES = 64 << 20  # of records; one batch is let in however large it is
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


Read: TypeAlias = Decoded | Question | Finished | BaseException


class Reader:
    """A queue between the source and the pipeline; `get` gives items in the order of the source."""

    def __init__(self, source: Source, codec: Codec) -> None:
        self._source, self._codec = source, codec
        self._waiting: deque[Read] = deque()
        self._held = 0  # bytes that wait
        self._changed = threading.Condition()
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
            item = self._next(0.05)
            if isinstance(item, Question):
                item.done.set()
        self._source.close()

    def get(self, timeout_s: float) -> Decoded | Question | Finished | None:
        """The next item, or None when nothing came in time. Raises what the reading thread raised."""
        item = self._next(timeout_s)
        if isinstance(item, BaseException):
            raise item
        return item

    def _next(self, timeout_s: float) -> Read | None:
        with self._changed:
            if not self._waiting and timeout_s > 0:
                self._changed.wait(timeout_s)
            if not self._waiting:
                return None
            item = self._waiting.popleft()
            self._held -= _nbytes(item)
            self._changed.notify_all()
            return item

    def crowded(self) -> bool:
        """Whether the queue is half full: the pipeline is slower than the source."""
        return len(self._waiting) >= DEPTH_BATCHES // 2 or self._held >= DEPTH_BYTES // 2

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

    def _put(self, item: Read) -> None:
        with self._changed:
            while len(self._waiting) >= DEPTH_BATCHES or self._held >= DEPTH_BYTES:
                if self._stop.is_set():
                    return
                self._changed.wait(0.1)
            self._waiting.append(item)
            self._held += _nbytes(item)
            self._changed.notify_all()

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


def _nbytes(item: Read) -> int:
    return item.nbytes if isinstance(item, Decoded) else 0
