"""`stream-ad`, or `python -m stream_ad`."""

from __future__ import annotations

import sys

from stream_ad.errors import StreamAdError


def main() -> None:
    try:
        from stream_ad.cli.commands import app

        app()
    except StreamAdError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
