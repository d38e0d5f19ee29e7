"""An ACME server that says when to renew (RFC 9773): Pebble, which does not, behind a door that adds it.

The door passes everything else on as it is, over HTTPS on loopback, and keeps what orders said.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.peers.pebble import Pebble

PATH = "/renewal-info"
KEPT = ("Content-Type", "Link", "Location", "Replay-Nonce", "Retry-After")


class Said(NamedTuple):
    """One answer about a certificate."""

    status: int = 200
    body: bytes = b""
    retry_after: str = ""


def window(start: str, end: str, **more: str) -> bytes:
    """The JSON of RFC 9773 4.2."""
    return json.dumps({"suggestedWindow": {"start": start, "end": end}, **more}).encode()


class RenewalDoor:
    """In front of Pebble. ``says`` answers about the certificate of that name; ``asked`` are the names.

    ``orders``: what new orders held. ``refuses`` answers one in Pebble's place, where it answers. ``directory_says``: this in place
    of the directory; ``offers``: the directory says where to ask.
    """

    def __init__(self, pebble: Pebble, says: Callable[[str], Said]) -> None:
        self.says = says
        self.asked: list[str] = []
        self.orders: list[dict[str, Any]] = []
        self.refuses: Callable[[dict[str, Any]], Said | None] = lambda order: None
        self.offers = True
        self.directory_says: bytes | None = None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pebble.folder / "cert.pem", pebble.folder / "key.pem")
        self._behind = ssl.create_default_context(cafile=str(pebble.ca_file))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(pebble.port))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def directory(self) -> str:
        """Where certificates are asked for."""
        return f"{self.address}/dir"

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()

    def _own(self, path: str, payload: dict[str, Any] | None) -> Said | None:
        """What is answered here."""
        if path.startswith(f"{PATH}/"):
            self.asked.append(path.removeprefix(f"{PATH}/"))
            return self.says(self.asked[-1])
        if path == "/dir" and self.directory_says is not None:
            return Said(body=self.directory_says)
        if path == "/order-plz" and payload is not None:
            self.orders.append(payload)
            return self.refuses(payload)
        return None

    def _passed_on(
        self, method: str, path: str, body: bytes, headers: dict[str, str], port: int
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Pebble makes every address from the ``Host`` that it is given: so all of them lead here."""
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=self._behind, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            told = answer.read()
        finally:
            connection.close()
        if b"acme:error:badNonce" in told and path == "/order-plz":
            self.orders.pop()  # Pebble turns some away by chance (RFC 8555 6.5): it comes again
        if path == "/dir" and self.offers:
            told = json.dumps({**json.loads(told), "renewalInfo": f"{self.address}{PATH}"}).encode()
        return answer.status, answer.getheaders(), told

    def _handler(self, port: int) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                own = door._own(urlsplit(self.path).path, _payload(body) if body else None)
                if own is not None:
                    more = [("Retry-After", own.retry_after)] if own.retry_after else []
                    kind = "application/json" if own.status < 400 else "application/problem+json"
                    self._send(own.status, [("Content-Type", kind), *more], own.body)
                    return
                headers = {
                    name: self.headers[name] for name in ("Host", "Content-Type", "User-Agent") if self.headers[name]
                }
                status, told, text = door._passed_on(self.command, self.path, body, headers, port)
                self._send(status, [one for one in told if one[0] in KEPT], text)

            def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_HEAD = _answer  # noqa: N815 - the names that the library looks for

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        return Handler


def _payload(body: bytes) -> dict[str, Any]:
    """What a signed request says (RFC 8555 6.2)."""
    text: str = json.loads(body)["payload"]
    told: dict[str, Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)) or b"{}")
    return told
