"""The explorer's server: 127.0.0.1 only, a token in the address, no other origin, no file's name in a request."""

import hmac
import json
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from typing import Any

from gemel.errors import UserError
from gemel.explorer.content import Answer, Content

HOST = "127.0.0.1"
LONGEST_BODY = 2**26
"""bytes of a request: 200,000 images moved at once are 20 MB"""
ICON = "favicon.ico"
"""what browsers ask for by themselves, without the token; there is none"""
PATIENCE = 60
"""seconds in which a request must have come in"""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of the answer.
        reason: in a sentence.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class ExplorerServer(ThreadingHTTPServer):
    """Serves one run; each server has a token of its own.

    Args:
        content: what it shows.
        port: of 127.0.0.1; 0: a free one.

    Raises:
        UserError: the port is in use, or may not be used.
    """

    daemon_threads = True

    def __init__(self, content: Content, port: int = 0) -> None:
        self.content, self.token = content, token_urlsafe(18)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--port {port} can't be used ({reason}); name another, or none for a free one") from error

    @property
    def address(self) -> str:
        """What the user opens."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away while it is answered is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: ExplorerServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version = "gemel"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._guarded(self._found)

    def do_POST(self) -> None:
        self._guarded(self._edited)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal is the user's."""

    def _guarded(self, answer: Any) -> None:
        try:
            found = answer(self._wanted())
        except Refused as error:
            self.close_connection = True  # a body that was not read is no next request
            self._send(error.status, Answer("text/plain; charset=utf-8", error.reason.encode()))
        else:
            self._send(HTTPStatus.OK, found)

    def _wanted(self) -> str:
        """Return what the address names behind the token.

        Raises:
            Refused: another host or origin is named, or the token is not the server's.
        """
        port = self.server.server_port
        hosts = {f"{HOST}:{port}", f"localhost:{port}"}
        if self.headers.get("Host") not in hosts:  # a name of another site that leads here
            raise Refused(HTTPStatus.FORBIDDEN, "another host")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in hosts}:
            raise Refused(HTTPStatus.FORBIDDEN, "another origin")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Refused(HTTPStatus.FORBIDDEN, "another site")
        if self.path == f"/{ICON}":
            return ICON
        token, slash, wanted = self.path.removeprefix("/").partition("/")
        if not slash or not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN, "the address lacks this server's token; see the line gemel explore prints"
            )
        return wanted

    def _found(self, wanted: str) -> Answer:
        content, found = self.server.content, None
        if wanted == "":
            found = content.page()
        elif wanted == ICON:
            found = Answer("image/x-icon", b"")
        elif number := re.fullmatch(r"(sheet-|picture/)(\d{1,9})", wanted, re.ASCII):
            found = (content.sheet if number[1] == "sheet-" else content.picture)(int(number[2]))
        else:
            found = content.block(wanted)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing of that name")
        return found

    def _edited(self, wanted: str) -> Answer:
        if wanted != "edits":
            raise Refused(HTTPStatus.NOT_FOUND, "nothing of that name")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "edits are JSON")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII) or int(length) > LONGEST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"edits of at most {LONGEST_BODY} bytes are taken")
        try:
            self.server.content.edit(json.loads(self.rfile.read(int(length))))
        except UserError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "; ".join(error.mistakes)) from error
        except (ValueError, RecursionError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "the request holds no JSON") from error
        except OSError as error:
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, f"the run's folder can't be written: {error}") from error
        return Answer("application/json", b"{}")

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        self.send_response(status)
        headers = HEADERS | {"Content-Type": answer.kind, "Content-Length": str(len(answer.body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
