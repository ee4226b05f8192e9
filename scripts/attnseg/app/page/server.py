"""The server of the page: fixed files, and JSON for the browser tab that sends its session's id.

Paths lead to what is listed here and to nothing on the disk. A request names its session in a header,
which no other site's page can send.
"""

import ipaddress
import json
import select
import socket
import sys
import traceback
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from attnseg.app.page import answers, downloads, generating
from attnseg.app.page.network import Network
from attnseg.app.page.sessions import PHOTOS, Session, Store
from attnseg.errors import UserError

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
FOLDER = Path(__file__).resolve().parents[1] / "templates"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
REQUEST = 100_000  # bytes of JSON


class Server(ThreadingHTTPServer):
    """`network` answers, `store` holds what visitors bring. `hosts`: the names that may be asked for, so
    that no other site's name leads here; None for any."""

    daemon_threads = True
    network: Network

    def __init__(self, address: tuple[str, int]):
        self.store = Store()
        self.hosts: set[str] | None = None
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who goes away is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def listening(host: str, port: int) -> Server:
    """A server that listens there.

    Raises:
        UserError: if it cannot.
    """
    try:
        server = Server((host, port))
    except OSError as error:
        raise UserError(
            f"{host}, port {port}: {error.strerror or error}; choose others by --host and --port"
        ) from None
    if host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        server.hosts = {"localhost", "127.0.0.1", "::1", host}
    return server


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Refused(Exception):
    """A request that gets this status and sentence."""

    def __init__(self, status: HTTPStatus, sentence: str):
        super().__init__(sentence)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "attnseg", ""
    timeout = 60  # seconds that a slow visitor may hold a connection

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def log_message(self, *_: object) -> None:
        """Nothing: what visitors look at is theirs."""

    # -- requests

    def _get(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if path in FILES:
            name, kind = FILES[path]
            self._send((FOLDER / name).read_bytes(), kind)
            return
        if path != "/api/model":
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")
        network = self.server.network
        self._send_json(
            {
                "model": network.backbone.name,
                "device": network.backbone.device.type,
                "crf": network.crf,
                "noises": network.args.noises,
                "side": max(network.backbone.size),
                "bytes": answers.BYTES,
                "photos": PHOTOS,
                "passes": network.passes,
                "examples": [
                    {"name": e.id, "classes": e.classes, "picture": answers.picture_of(e.image)}
                    for e in network.examples
                ],
            }
        )

    def _post(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        words = parts.path.strip("/").split("/")
        if words == ["api", "photos", "add"]:
            self._add(urllib.parse.parse_qs(parts.query).get("name", ["photo.png"])[0])
            return
        request = self._json()
        if words == ["api", "session"]:
            name = self.headers.get("X-Session")
            session = self.server.store.get(name)
            if session is None:
                name = self.server.store.new()
                session = self.server.store.get(name)
            assert session is not None
            photos = [answers.told_photo(n, photo) for n, photo in session.photos.items()]
            self._send_json({"session": name, "photos": photos})
            return
        session = self._session()
        with session.lock:
            match words:
                case ["api", "photos", number, what] if number.isdecimal():
                    self._photo(session, int(number), what, request)
                case ["api", "photos", number, "file", what] if number.isdecimal():
                    self._file(session, int(number), what, request)
                case ["api", "drawing"]:
                    self._draw(session, request)
                case ["api", "drawing", "mask"]:
                    self._send_json(generating.drawn_mask(self.server.network, session, request))
                case _:
                    raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _add(self, name: str) -> None:
        session, data = self._session(), self._body(answers.BYTES)
        photo = answers.photo_of(name, data)
        with session.lock:
            self.server.store.make_room(session, photo.bytes)
            self._send_json(answers.told_photo(session.add(photo), photo))

    def _photo(self, session: Session, number: int, what: str, request: Mapping) -> None:
        network, photo = self.server.network, session.photo(number)
        match what:
            case "look":
                store, still = self.server.store, self._check_visitor
                self._send_json(answers.look(network, store, session, photo, request, still))
            case "mask":
                self._send_json(answers.answer(network, photo, request))
            case "maps":
                given = [answers.whole(request, n, 0, 0, 255) for n in ("class", "iterations")]
                iterations = min(given[1], answers.MOST["iterations"])
                self._send_json(answers.maps_behind(photo, given[0], iterations))
            case "pixel":
                y, x = (answers.whole(request, n, 0, 0, 10**6) for n in ("y", "x"))
                self._send_json(answers.pixel(photo, y, x))
            case "command":
                self._send_json({"command": downloads.command_of(network, photo)})
            case "remove":
                del session.photos[number]
                self._send_json({})
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _draw(self, session: Session, request: Mapping) -> None:
        """Lines of JSON: each step as it begins, then the picture."""
        last = -1

        def begun(step: int) -> None:
            nonlocal last
            self._check_visitor(step)
            if step != last:
                self._send_line({"step": step})
                last = step

        self._send_line(generating.draw(self.server.network, session, request, begun))

    def _file(self, session: Session, number: int, what: str, request: Mapping) -> None:
        photo = session.photo(number)
        match what:
            case "mask":
                self._send(downloads.mask_file(photo), "image/png", f"{photo.stem}_mask.png")
            case "overlay":
                content = downloads.overlay_file(photo, opacity_in(request))
                self._send(content, "image/png", f"{photo.stem}_overlay.png")
            case "coco":
                content = downloads.coco_file(list(session.photos.values()))
                self._send(content, "application/json", "coco.json")
            case "photo":
                self._send(photo.data, "application/octet-stream", photo.name)
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _session(self) -> Session:
        session = self.server.store.get(self.headers.get("X-Session"))
        if session is None:
            raise Refused(
                HTTPStatus.GONE, "your photos are forgotten after an hour; load the page again"
            )
        return session

    # -- bytes

    def _answered(self, handle: Callable[[], None]) -> None:
        """Call it; whatever it raises becomes a sentence."""
        self._sent = self._in_lines = False
        try:
            self._check_host()
            handle()
        except Refused as refused:
            self._say(refused.status, str(refused))
        except UserError as error:
            self._say(
                HTTPStatus.OK, str(error)
            )  # an answer: browsers print other statuses as faults
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            traceback.print_exc(file=sys.stderr)
            sentence = "something went wrong here; the program's terminal says what"
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        if self._sent and not self._in_lines:
            self.close_connection = True
            return
        if status != HTTPStatus.OK:
            self.close_connection = True  # something of the request may be left unread
        if sentence.partition(" ")[0].isalpha():  # not a file's name
            sentence = sentence[:1].upper() + sentence[1:]
        if self._in_lines:
            self._send_line({"error": sentence})
            return
        text = json.dumps({"error": sentence})
        self._send(text.encode(), "application/json", status=status, error=True)

    def _check_visitor(self, _: int = 0) -> None:
        """
        Raises:
            ConnectionError: if the visitor has closed the connection: nobody waits for the answer.
        """
        closed_or_more = select.select([self.connection], [], [], 0)[0]
        if closed_or_more and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionError

    def _check_host(self) -> None:
        hosts = self.server.hosts
        asked = urllib.parse.urlsplit("//" + self.headers.get("Host", "")).hostname
        if hosts is not None and asked not in hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "ask for this page by the address it printed")

    def _body(self, most: int) -> bytes:
        text = self.headers.get("Content-Length", "")
        if not text.isdecimal():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
        length = int(text)
        if length > most:
            left = min(length, 4 * most)  # read, else the visitor sees a reset alone
            while left > 0 and (part := self.rfile.read(min(2**16, left))):
                left -= len(part)
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a file of {length / 2**20:.1f} MB; the most is {most / 2**20:.0f} MB: make it smaller",
            )
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError
        return body

    def _json(self) -> dict[str, Any]:
        try:
            request = json.loads(self._body(REQUEST) or b"{}")
        except ValueError:
            request = None
        if not isinstance(request, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "the request is not a JSON mapping")
        return request

    def _send_json(self, content: Mapping, status: HTTPStatus = HTTPStatus.OK) -> None:
        text = json.dumps(content, allow_nan=False)
        self._send(text.encode(), "application/json", status=status)

    def _send_line(self, content: Mapping) -> None:
        """One of several answers to a request; the end of the connection is their end."""
        if not self._in_lines:
            self.close_connection, self._in_lines = True, True
            self._send(None, "application/x-ndjson")
        self.wfile.write(json.dumps(content, allow_nan=False).encode() + b"\n")

    def _send(
        self,
        body: bytes | None,
        kind: str,
        file: str | None = None,
        status: HTTPStatus = HTTPStatus.OK,
        error: bool = False,
    ) -> None:
        """A body, or none if what it holds follows."""
        self._sent = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self._policy())
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        if file is not None:
            quoted = urllib.parse.quote(file)
            self.send_header("Content-Disposition", f"attachment; filename*=UTF-8''{quoted}")
        if error:
            self.send_header("X-Error", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if body is not None:
            self.wfile.write(body)

    def _policy(self) -> str:
        """Nothing of another host; a page of another site shows this one in a frame only with --host."""
        return POLICY if self.server.hosts is None else f"{POLICY}; frame-ancestors 'none'"


def opacity_in(request: Mapping) -> float:
    value = request.get("opacity", 0.55)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError("opacity: must be a number from 0 to 1")
    return float(value)
