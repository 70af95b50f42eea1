"""The HTTP port holds few connections, and none for long."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stream_ad.service import http
from tests.support.servers import free_port
from tests.support.waiting import until


@pytest.fixture
def port() -> Iterator[int]:
    found = free_port()
    server = http.Server("127.0.0.1", found, lambda: {"ready": True})
    yield found
    server.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 60)


def alive(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60) as answer:
            return bool(answer.read() == b'{"alive":true}')
    except OSError:
        return False


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CLIENT_S", 0.2)
    with connected(port) as client:
        client.settimeout(0.01)

        def cut() -> bool:
            try:
                client.sendall(b"G")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(cut)


def test_further_connections_are_closed_until_another_one_ends(port: int) -> None:
    with ExitStack() as held:
        for _ in range(http.CONNECTIONS):
            held.enter_context(connected(port))
        with connected(port) as refused:
            assert refused.recv(1) == b""
        assert not alive(port)
    until(lambda: alive(port))
