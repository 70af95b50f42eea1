"""The connection and the error texts that all Redis clients of the project share. No text holds a secret."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from stream_ad.config import Redis
from stream_ad.errors import ConfigError, ConnectionFailed, NotAllowed, StoreRefuses

TIMEOUT_S = 2.0
READ_BYTES = 1 << 20  # of a read; with the client's default of 64 KiB a part of a snapshot takes 1.5 times as long
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def connect(config: Redis) -> Any:
    """A client that gives up after `TIMEOUT_S` and never tries again by itself. Raises `ConfigError`."""
    try:
        if not shown(config.url):
            raise ValueError
        client = redis.Redis.from_url(
            config.url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            socket_keepalive=True,
            socket_read_size=READ_BYTES,
            retry=Retry(NoBackoff(), 0),
        )
        options = client.connection_pool.connection_kwargs
        client.connection_pool.connection_class(**options)  # raises for an option that it does not know
    except (TypeError, ValueError, redis.RedisError):
        # not the client's own text, which quotes parts of the URL
        raise ConfigError(
            "redis.url: not understood; as in rediss://USER:PASSWORD@HOST:6379/0?ssl_ca_certs=FILE, with special "
            "characters of the password percent-encoded, and ssl_* options for rediss:// only"
        ) from None
    for name in _FILES:
        if options.get(name) and not Path(options[name]).is_file():
            raise ConfigError(f"redis.url: {name}: {options[name]}: no such file")
    return client


def shown(url: str) -> str:
    """The URL without user, password and options; "" where one cannot tell its parts apart."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    rest = url.partition("://")[2].partition(parts.netloc)[2]
    if "@" in rest:  # a password holds / ? or #, not percent-encoded
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


@contextmanager
def answering(config: Redis) -> Iterator[None]:
    """Turns errors of Redis and its connection into `ConnectionFailed`, `StoreRefuses` or `NotAllowed`."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise _failure(error, f"redis.url: {shown(config.url)}") from None


def _failure(error: Exception, where: str) -> ConnectionFailed:
    certificate = _cause(error, ssl.SSLCertVerificationError)
    if certificate is not None:
        return NotAllowed(
            f"{where}: its certificate is not accepted: {certificate.verify_message}; `ssl_ca_certs` in the URL names "
            "the file of the authority that signed it"
        )
    if isinstance(error, NoPermissionError):
        return NotAllowed(f"{where} does not permit this user: {error}; SECURITY.md lists the rights that are needed")
    if isinstance(error, redis.AuthenticationError):
        return NotAllowed(f"{where} refuses user or password: {error}")
    if isinstance(error, redis.ResponseError):
        return StoreRefuses(f"{where} refuses: {error}")
    return ConnectionFailed(f"{where} does not answer: {error}")


def _cause(
    error: BaseException | None, error_type: type[ssl.SSLCertVerificationError]
) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, error_type):
            return error
        error = error.__cause__ or error.__context__
    return None
