"""`/metrics`, `/healthz` and `/readyz` of one worker."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream_ad.errors import ConfigError
from stream_ad.metrics import REGISTRY

log = logging.getLogger(__name__)

CLIENT_S = 10.0  # after it a client's connection ends, however far its request or its answer has come
CONNECTIONS = 32  # at once; each keeps a thread, and further ones are closed


class _Bounded(ThreadingHTTPServer):
    """Serves `CONNECTIONS` at once, each for `CLIENT_S` at most."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        deadline = threading.Timer(CLIENT_S, _cut, [request])
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        log.log(level, "a request over HTTP failed", exc_info=True)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)


class Server:
    """Serves until closed. `status` returns at least `{"ready": bool}`, and is called from another thread."""

    def __init__(self, host: str, port: int, status: Callable[[], Mapping[str, object]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY))
                elif self.path == "/healthz":
                    self._answer(200, "application/json", b'{"alive":true}')
                elif self.path == "/readyz":
                    known = status()
                    self._answer(200 if known["ready"] else 503, "application/json", orjson.dumps(known))
                else:
                    self._answer(404, "text/plain", b"there are /metrics, /healthz and /readyz\n")

            def _answer(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        try:
            self._http = _Bounded((host, port), Handler)
        except OSError as error:
            raise ConfigError(
                f"server.port: cannot listen on {host}:{port}: {error.strerror}; choose another port, or 0 for none"
            ) from None
        threading.Thread(target=self._http.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
