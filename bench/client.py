"""One connection that speaks just enough HTTP/1.1, with time taken where the bytes go out and come in."""

import json
import socket
import ssl
import time
from dataclasses import dataclass

BOUNDARY = "bench-" + "0123456789" * 3
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
SECONDS_MAX = 120


def form(wasm, input=b"", **fields):
    """The body of POST /execute."""
    parts = [("wasm", '; filename="guest.wasm"', wasm), ("input", "", input)]
    parts += [(name, "", str(value).encode()) for name, value in fields.items()]
    body = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + value
        + b"\r\n"
        for name, more, value in parts
    )
    return body + f"--{BOUNDARY}--\r\n".encode()


@dataclass
class Reply:
    status: int
    fields: dict[str, str]  # of the head, names as they came
    body: bytes
    upload_ms: float  # until the last byte of the request was handed to the kernel
    total_ms: float  # until the last byte of the reply was there

    def json(self):
        return json.loads(self.body)


class Connection:
    def __init__(self, port, tls=False):
        self._socket = socket.create_connection(
            ("127.0.0.1", port), timeout=SECONDS_MAX
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:  # with a certificate that nobody signed
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._socket = context.wrap_socket(self._socket)
        self._start = self._sent = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def get(self, path):
        self._send(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return self.receive()

    def send_execute(self, key, body):
        head = (
            f"POST /execute HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: {FORM_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._send(head.encode() + body)

    def execute(self, key, body):
        self.send_execute(key, body)
        return self.receive()

    def _send(self, request):
        self._start = time.perf_counter()
        self._socket.sendall(request)
        self._sent = time.perf_counter()

    def receive(self):
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._receive_some()
        head, _, body = got.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = next(int(value) for name, value in fields.items() if name.lower() == "content-length")
        while len(body) < length:
            body += self._receive_some()
        now = time.perf_counter()
        return Reply(
            int(first.split()[1]),
            fields,
            body,
            (self._sent - self._start) * 1e3,
            (now - self._start) * 1e3,
        )

    def _receive_some(self):
        some = self._socket.recv(1 << 16)
        if not some:
            raise ConnectionError("the server closed the connection")
        return some
