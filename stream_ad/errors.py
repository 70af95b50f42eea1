"""What can go wrong for a user, as a tree; everything else is a bug and keeps its stack trace.

StreamAdError                 exit code 1
├── ConfigError               2   the configuration file, an option, an environment variable
├── ConnectionFailed          3   Kafka or Redis cannot be reached or refuses us
│   ├── Unreachable           3   no broker answers: waiting may help
│   └── StoreRefuses          3   Redis answers, but with an error
│       └── NotAllowed        3   until somebody changes the user, its rights or a certificate
├── InputError                4   a file or topic that cannot be read as configured, a file that cannot be written
├── ModelError                5   a bundle or a version that cannot be used
├── StateError                6   a snapshot that cannot be restored
├── TransactionFailed         7   a commit that failed: drop the shards, restore, go on
│   ├── Fenced                7   another process works under the same name: the same, once
│   └── Stalled               7   a partition that stands still: the same
├── Unfinished                8   a stop that left something to be judged again
└── MemoryShort               9   too little memory is left to go on safely

A worker that its watchdog ends, because its pipeline is stuck, has the exit code STUCK = 10.
"""

from __future__ import annotations

STUCK = 10


def printable(text: str) -> str:
    """Without what a terminal or a log would act on."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class StreamAdError(Exception):
    """A user's problem: what is wrong, where, and what to do."""

    exit_code = 1

    def __init__(self, text: str) -> None:
        # names and values come from files and topics: they must not control the terminal
        super().__init__("\n".join(map(printable, text.split("\n"))))


class ConfigError(StreamAdError):
    exit_code = 2


class ConnectionFailed(StreamAdError):
    exit_code = 3


class Unreachable(ConnectionFailed):
    """No broker answers. A run that has begun waits until they do."""


class StoreRefuses(ConnectionFailed):
    """Redis answers with an error: it is full or read-only, or a right is missing."""


class NotAllowed(StoreRefuses):
    """Redis does not accept us, or we do not accept its certificate. Waiting does not help."""


class InputError(StreamAdError):
    exit_code = 4


class ModelError(StreamAdError):
    exit_code = 5


class StateError(StreamAdError):
    exit_code = 6


class TransactionFailed(StreamAdError):
    exit_code = 7


class Fenced(TransactionFailed):
    """Another live process fences this one; or, once, a late request of its own does (confluentinc/librdkafka#5423)."""


class Stalled(TransactionFailed):
    """A partition stands still. The worker drops what is uncommitted, as after a failed commit."""


class Unfinished(StreamAdError):
    exit_code = 8


class MemoryShort(StreamAdError):
    exit_code = 9
