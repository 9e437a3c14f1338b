"""A small server of HTTP on 127.0.0.1 for the demo page; it needs nothing but Python.

Whatever is sent to it stays in memory until its answer is written, and nothing else can be fetched
from it than the page itself. Requests that a page of another origin makes the browser send are
refused, by the headers Host and Origin: so is one that reaches it under another name (DNS
rebinding).
"""

import contextlib
import http.server
import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from hybrid.modes.serving import answers

_LOG = logging.getLogger(__name__)

ADDRESS = '127.0.0.1'
MOST_BYTES = 100 * 2**20  # Of a photograph or a zip.
_AT_A_TIME = 4  # So many uploads are in memory; others wait for their turn.
_SECONDS = 30  # After which a silent client is given up.
_SLOWEST = 250_000  # Bytes a second: one whose upload is slower would keep others waiting.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': _POLICY,
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}


class RequestError(Exception):
    """A request that is not answered as it wants: with a status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str):
        super().__init__(sentence)
        self.status = status


class Server(http.server.ThreadingHTTPServer):
    """Serves a page and answers about photographs.

    Args:
      model: What predicts; several threads may use it.
      files: What can be fetched: paths such as `/`, with the type and the content of each.
      port: The port; 0 takes any that is free.

    Raises:
      OSError: when the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, model: answers.Predictor, files: Mapping[str, tuple[str, bytes]], port: int):
        self.model = model
        self.files = files
        self.slots = threading.BoundedSemaphore(_AT_A_TIME)
        super().__init__((ADDRESS, port), _Handler)

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the header Host may be."""
        names = (ADDRESS, 'localhost')
        found = tuple(f'{name}:{self.server_port}' for name in names)
        return (*found, *names) if self.server_port == 80 else found  # Browsers leave out 80.

    @property
    def url(self) -> str:
        """Where the page is."""
        return f'http://{ADDRESS}:{self.server_port}/'

    def server_bind(self) -> None:
        """As in the standard library, but without asking for the name of this machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that have gone."""
        del request, client_address
        _LOG.debug('a request ended early', exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = 'HTTP/1.1'
    timeout = _SECONDS

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def handle_expect_100(self) -> bool:
        """Refuses what is too large before it is sent, if the client asks first, as curl does."""
        try:
            self._check_sender()
            self._length()
        except RequestError as error:
            self._refuse(error)
            return False
        return super().handle_expect_100()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what is no request that is served here."""
        del message, explain
        self.close_connection = True
        self._send_json(HTTPStatus(code), {'error': f'{HTTPStatus(code).phrase}.'})

    def version_string(self) -> str:
        return 'hybrid'

    def log_message(self, format: str, *arguments: Any) -> None:
        _LOG.debug(format, *arguments)

    def _answer(self, what: Callable[[], None]) -> None:
        try:
            self._check_sender()
            what()
        except RequestError as error:
            self._refuse(error)

    def _check_sender(self) -> None:
        """Refuses what was not meant for this server, or comes from another page."""
        hosts = self.server.hosts
        origin = self.headers.get('Origin')
        if self.headers.get_all('Host', []) not in [[host] for host in hosts]:
            raise RequestError(HTTPStatus.FORBIDDEN, f'Only {self.server.url} is served here.')
        if origin is not None and origin not in [f'http://{host}' for host in hosts]:
            raise RequestError(HTTPStatus.FORBIDDEN, 'Requests of other pages are refused.')
        site = self.headers.get('Sec-Fetch-Site', 'none')
        if self.command == 'POST' and site not in ('none', 'same-origin'):
            raise RequestError(HTTPStatus.FORBIDDEN, 'Requests of other pages are refused.')

    def _get(self) -> None:
        path = self.path.partition('?')[0]
        if path not in self.server.files:
            raise RequestError(HTTPStatus.NOT_FOUND, 'There is no such page.')
        kind, content = self.server.files[path]
        self._send(HTTPStatus.OK, kind, content)

    def _post(self) -> None:
        path, _, query = self.path.partition('?')
        if path not in ('/predict', '/predict_zip'):
            raise RequestError(HTTPStatus.NOT_FOUND, 'Send a photograph to /predict.')
        length = self._length()
        kind = self.headers.get_content_type()
        if kind.startswith('multipart/'):
            raise RequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                'Send the file itself, not a form: curl --data-binary @photo.jpg.',
            )
        with self.server.slots:
            content = self._body(length)
            try:
                if path == '/predict':
                    self._send_json(
                        HTTPStatus.OK,
                        answers.about_photo(self.server.model, content, 'preview=1' in query),
                    )
                else:
                    self._stream(answers.about_zip(self.server.model, content))
            except ValueError as error:
                raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from None
            except (MemoryError, RuntimeError, TypeError, ArithmeticError, LookupError) as error:
                _LOG.error('a request failed: %s: %s', type(error).__name__, error)
                _LOG.debug('it failed here', exc_info=True)
                raise RequestError(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    'The program failed at this file; its console says more.',
                ) from None

    def _body(self, length: int) -> bytes:
        """Reads the body; refuses one that ends early, or takes too long."""
        end = time.monotonic() + _SECONDS + length / _SLOWEST
        parts = []
        while length:
            part = self.rfile.read1(min(length, 1 << 20))  # type: ignore[attr-defined]
            if not part:
                raise RequestError(HTTPStatus.BAD_REQUEST, 'The upload ended early.')
            if time.monotonic() > end:
                raise RequestError(HTTPStatus.REQUEST_TIMEOUT, 'The upload takes too long.')
            parts.append(part)
            length -= len(part)
        return b''.join(parts)

    def _length(self) -> int:
        """The length of the body; refuses one that is too large or not told."""
        told = self.headers.get_all('Content-Length', [])
        one = len(told) == 1 and told[0].isdecimal() and len(told[0]) < 16
        if 'Transfer-Encoding' in self.headers or not one:
            raise RequestError(
                HTTPStatus.LENGTH_REQUIRED,
                'Say how long the file is, in the header Content-Length.',
            )
        length = int(told[0])
        if length > MOST_BYTES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f'The file has {length // 2**20:,} MB, more than the {MOST_BYTES // 2**20} MB '
                'that are read.',
            )
        return length

    def _refuse(self, error: RequestError) -> None:
        # What is left of the request is not looked at, so the connection can serve no other.
        self.close_connection = True
        self._send_json(error.status, {'error': str(error)})
        self._discard()

    def _discard(self) -> None:
        """Reads for a while what a client still sends, so that it gets to reading its answer."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(2)
            end = time.monotonic() + _SECONDS
            while time.monotonic() < end and self.connection.recv(1 << 20):
                pass

    def _send_json(self, status: HTTPStatus, value: Any) -> None:
        content = json.dumps(value, allow_nan=False).encode()
        self._send(status, 'application/json', content)

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self._head(status, kind)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, lines: Iterable[str]) -> None:
        """Sends the lines of a CSV as they come."""
        self._head(HTTPStatus.OK, 'text/csv; charset=utf-8')
        self.send_header('Content-Disposition', 'attachment; filename="faces.csv"')
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        for line in lines:
            content = line.encode(errors='replace')
            self.wfile.write(b'%x\r\n%b\r\n' % (len(content), content))
        self.wfile.write(b'0\r\n\r\n')

    def _head(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header('Content-Type', kind)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header('Connection', 'close')
