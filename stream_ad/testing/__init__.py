"""The laws of `stream_ad.protocols` as functions: call them on your own parts.

Each raises `AssertionError` with what broke, and answers nothing otherwise. A law that saw nothing, since the
batch is empty, no row is scored or nothing is cut, fails too.

    check_threshold(lambda: MyThreshold(options))
    check_codec(MyCodec(record, ["amount"], ["shop"]), encode, numeric=1, categorical=1)
    check_scorer_pure(scorer, w, f, torch.from_numpy)
"""

from stream_ad.testing.batches import cut, events_of
from stream_ad.testing.codecs import Encoder, check_codec, check_codec_isolation
from stream_ad.testing.folds import (
    check_carry,
    check_keys_independent,
    check_snapshot,
    check_split_invariance,
    check_threshold,
)
from stream_ad.testing.samples import judged_stream, raw_batch, scores
from stream_ad.testing.scorers import check_scorer_pure

__all__ = [
    "Encoder",
    "check_carry",
    "check_codec",
    "check_codec_isolation",
    "check_keys_independent",
    "check_scorer_pure",
    "check_snapshot",
    "check_split_invariance",
    "check_threshold",
    "cut",
    "events_of",
    "judged_stream",
    "raw_batch",
    "scores",
]
