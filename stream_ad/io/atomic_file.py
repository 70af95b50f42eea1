"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_ad.errors import InputError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside `path` that is to be written; at the end of the block it becomes `path`, after an error it goes.

    What is no plain file (`/dev/stdout`, a pipe, a link) is written itself. Raises `InputError` where the
    disk is full; other errors of the block pass.
    """
    part = path.with_name(f"{path.name}.part")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        part = path
    try:
        yield part
        if part != path:
            part.replace(path)
    except BaseException as error:
        if part != path:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise InputError(f"{path}: cannot be written, and is left as it was: {os.strerror(error.errno)}") from None
        raise
