"""Files that are complete or not there at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_ad.errors import InputError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields a temporary file for the block to write. It replaces `path` at the end; after an error it is deleted.

    Where `path` is no plain file (`/dev/stdout`, a pipe, a link), yields `path` itself. Raises `InputError` when the
    disk is full; other errors of the block pass.
    """
    # a name that nobody can foretell: a link that waits under it would have another file written
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
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
            raise InputError(f"{path}: cannot be written and is unchanged: {os.strerror(error.errno)}") from None
        raise
