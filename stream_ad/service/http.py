"""`/metrics`, `/healthz` and `/readyz` of one worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stream_ad.errors import ConfigError
from stream_ad.metrics import REGISTRY

CLIENT_S = 10.0  # a client that takes longer to send its request does not keep a thread


class Server:
    """Serves until closed. `status` returns at least `{"ready": bool}`, and is called from another thread."""

    def __init__(self, host: str, port: int, status: Callable[[], Mapping[str, object]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = CLIENT_S

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
            self._http = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise ConfigError(
                f"server.port: cannot listen on {host}:{port}: {error.strerror}; choose another port, or 0 for none"
            ) from None
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
