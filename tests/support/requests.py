"""A proxy that looks at each request to Kafka, and loses connections at the worst moments."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.servers import Servers
from tests.support.proxy import Proxy, reset

LIST_OFFSETS, INIT_PRODUCER_ID, END_TXN, TXN_OFFSET_COMMIT = 2, 22, 26, 28  # kinds of requests
NONE = -1


class Requests(Proxy):
    """Closes the connection of every request of the kind `cut_at`. The first request of the kind `held` loses its
    connection too; the proxy passes it on once `due` is set, and then sets `answered`."""

    def __init__(self, target: int) -> None:
        self.cut_at = self.held = NONE
        self.due, self.answered = threading.Event(), threading.Event()
        super().__init__(target)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        gone = threading.Event()

        def back() -> None:
            with server, contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if gone.is_set():
                        self.answered.set()
                    else:
                        client.sendall(data)

        threading.Thread(target=back, daemon=True).start()
        with contextlib.suppress(OSError):
            while request := _request(client):
                kind = int.from_bytes(request[4:6])
                if kind == self.cut_at:
                    reset(client)
                    return
                if kind == self.held:
                    self.held = NONE
                    gone.set()
                    reset(client)
                    self.due.wait()
                server.sendall(request)


def _request(client: socket.socket) -> bytes:
    head = client.recv(4, socket.MSG_WAITALL)
    return head + client.recv(int.from_bytes(head), socket.MSG_WAITALL) if head else b""


@contextmanager
def servers() -> Iterator[tuple[Servers, Requests]]:
    """A broker whose requests go through a `Requests`."""
    made = Servers(Requests)
    assert isinstance(made.kafka, Requests)
    try:
        yield made, made.kafka
    finally:
        made.kafka.due.set()
        made.close()
