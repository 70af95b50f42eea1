"""Why a broker's certificate is not accepted: librdkafka reports only that it is not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TIMEOUT_S = 2.0


def why_not_accepted(brokers: str, settings: Mapping[str, Any]) -> str | None:
    """The reason that a TLS handshake of our own gives, such as "certificate has expired"; None = it gives none."""
    location = settings.get("ssl.ca.location")
    folder = location is not None and Path(location).is_dir()
    try:
        context = ssl.create_default_context(
            cafile=None if folder else location, capath=location if folder else None, cadata=settings.get("ssl.ca.pem")
        )
    except (OSError, ValueError):
        return None
    context.check_hostname = settings.get("ssl.endpoint.identification.algorithm") != "none"
    for broker in brokers.split(","):
        host, _, port = broker.rpartition("://")[2].strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S) as plain:
                context.wrap_socket(plain, server_hostname=host.strip("[]")).close()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except (OSError, ValueError):
            continue
    return None
