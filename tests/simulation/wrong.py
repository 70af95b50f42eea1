"""The protocol with one of its rules taken away: the simulation has to notice each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from stream_ad.checkpoint.assignment import Assignment
from stream_ad.checkpoint.restore import Recovery
from stream_ad.protocols import Swap
from stream_ad.runtime.loop import Pipeline
from stream_ad.state.shard import Shard
from tests.simulation.toy import FOLDS
from tests.simulation.world import Rules


class SavesFirst(Pipeline):
    """A snapshot before the commit: the state may lead the log."""

    def checkpoint(self, assignments: Sequence[Assignment] | None = None) -> None:
        self.finish()
        self.recovery.saver.finish(self.folding)
        self.commit()


class Trusts(Recovery):
    """Takes any snapshot, even one that contradicts the log."""

    def _restored(
        self,
        partition: int,
        committed: int | None,
        known: list[Swap],
        parts: Iterable[bytes] | None,
        has: Callable[[str], bool],
    ) -> tuple[Shard, int] | None:
        return None if parts is None or committed is None else Shard.restore(FOLDS, partition, parts)


RULES = {
    # a snapshot ahead of the log is refused as well, so both have to be gone before harm is done
    "snapshot before commit": Rules(pipeline=SavesFirst, recovery=Trusts),
    "offsets committed early": Rules(together=False),
    "no fencing": Rules(fenced=False),
    "commits without a name": Rules(named=False),
}
TRUSTING = Rules(recovery=Trusts)
