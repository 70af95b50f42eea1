"""A swap: from one offset on another version judges a partition. Its thresholds are carried over to the new scores."""

from __future__ import annotations

import logging

from stream_ad import metrics
from stream_ad.checkpoint.assignment import Assignment
from stream_ad.checkpoint.save import Saver
from stream_ad.runtime.models import Models

log = logging.getLogger(__name__)


def repeat(models: Models, assignment: Assignment, version: str) -> None:
    """Repeats a swap that the log holds for `next_offset`; the built-in scorer stands for a version that no longer
    fits. Raises `ConnectionFailed` where the bundle cannot be reached; then nothing has changed."""
    _swap(models, assignment, models.standing(version))


def make(models: Models, saver: Saver, assignment: Assignment, version: str) -> None:
    """Makes a swap that the log does not hold yet, and saves it before the new version judges anything. Where it cannot
    be saved, the old version goes on. Raises `ModelError` or `ConnectionFailed` where `version` cannot be loaded; then
    nothing has changed."""
    shard, old, thresholds = assignment.shard, assignment.shard.version, assignment.shard.thresholds()
    models.load(version)
    _swap(models, assignment, version)
    if saver.save_swap(assignment):
        assignment.announce()
        log.info("partition %d: model %s from offset %d on", assignment.partition, version, shard.next_offset)
        return
    shard.put_back(old, thresholds)
    metrics.model(assignment.partition, version, old)
    log.debug("partition %d: stays with model %s until the swap can be saved", assignment.partition, old)


def _swap(models: Models, assignment: Assignment, version: str) -> None:
    shard, old = assignment.shard, assignment.shard.version
    if version != old:
        shard.swap(version, *models.compared(shard, version))
        metrics.model(assignment.partition, old, version)
