"""All that a bounded source gives: a thread reads ahead of whoever folds it."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

from stream_ad.batch import RawBatch
from stream_ad.io.seeks import FromTheStart
from stream_ad.protocols import Listener, Source

POLL_MS = 100


def read(source: Source, listener: Listener | None = None) -> Generator[list[RawBatch]]:
    """What one poll after the other answers, to the end; then, or when the iterator is closed, closes the source.

    Without a `listener` every partition is read from its beginning. Raises what the source raises.
    """

    def polled() -> tuple[list[RawBatch], bool]:
        return source.poll(POLL_MS), source.finished()

    try:
        source.open(listener or FromTheStart(source))
        with ThreadPoolExecutor(1, "reader") as thread:
            finished = False
            coming = thread.submit(polled)
            while not finished:
                batches, finished = coming.result()
                if not finished:
                    coming = thread.submit(polled)
                yield batches
    finally:
        source.close()
