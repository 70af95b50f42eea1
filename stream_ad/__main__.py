"""`stream-ad`, or `python -m stream_ad`."""

from __future__ import annotations

import os
import sys

from stream_ad.errors import InputError, StreamAdError
from stream_ad.io.atomic_file import FULL


def main() -> None:
    try:
        from stream_ad.cli.commands import app

        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"error: the answer cannot be written: {error.strerror}", file=sys.stderr)
        os._exit(InputError.exit_code)  # a normal exit would flush again and print a stack trace
    except StreamAdError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
