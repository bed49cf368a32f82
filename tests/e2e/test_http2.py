"""HTTP/2 by real clients, by h2spec, and by attacks of raw frames, after each of which the server is as it was."""

import json
import re
import select
import shutil
import socket
import struct
import subprocess
import time
import urllib.parse
from pathlib import Path

import certificates
import h2.connection
import h2.events
import httpx
import pytest
from conftest import ROOT, running_server
from support import (
    assemble,
    execute,
    form,
    is_running,
    make_key,
    role_processes,
    says,
    status_field,
    wait_busy,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
PRIORITY_UPDATE, UNKNOWN = 16, 77
PROTOCOL_ERROR, ENHANCE_YOUR_CALM = 1, 11


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def head(path=b"/health/live", post=False):
    return (b"\x83" if post else b"\x82") + b"\x86" + literal(b":path", path) + literal(b":authority", b"h")


# --- real clients -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def http2_client(server, key):
    with httpx.Client(http1=False, http2=True, headers={"Authorization": f"Bearer {key}"}, timeout=60) as opened:
        yield opened


def test_runs_with_prior_knowledge(server, http2_client, guest):
    answer = execute(http2_client, server, says(b"hello"))
    assert answer.http_version == "HTTP/2" and answer.json()["output"] == "hello"
    echoed = execute(http2_client, server, guest("c_echo"), b"x" * 900_000)
    assert echoed.json()["output"] == "x" * 900_000


def test_an_early_refusal_reaches_the_client(server, key):
    """The reply comes in the middle of the body. The client gets the whole of it; then, if it does not end the stream,
    NO_ERROR for that (RFC 9113, section 8.1), and nothing for the connection. httpx takes that for a failure."""
    address = urllib.parse.urlsplit(server.url)
    fields = {":method": "POST", ":scheme": "http", ":authority": address.netloc, ":path": "/execute",
              "authorization": f"Bearer {key}", "content-type": "multipart/form-data; boundary=x",
              "content-length": str(10**9)}  # fmt: skip
    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, list(fields.items()))
    with socket.create_connection((address.hostname, address.port), 30) as s:
        came = []
        while not any(isinstance(event, h2.events.StreamReset) for event in came):
            answered = any(isinstance(event, h2.events.ResponseReceived) for event in came)
            size = 0 if answered else min(client.local_flow_control_window(1), client.max_outbound_frame_size)
            if size:
                client.send_data(1, b"x" * size)
            s.sendall(client.data_to_send())
            if not size or select.select([s], [], [], 0)[0]:
                bytes_read = s.recv(65536)
                assert bytes_read, "the connection ended"
                came += client.receive_data(bytes_read)
        kinds = [type(event) for event in came]
        reply = came[kinds.index(h2.events.ResponseReceived)]
        assert dict(reply.headers)[b":status"] == b"413"
        text = b"".join(event.data for event in came if isinstance(event, h2.events.DataReceived))
        assert json.loads(text)["code"] == "body_too_large"
        assert kinds.index(h2.events.StreamEnded) < kinds.index(h2.events.StreamReset)
        assert came[kinds.index(h2.events.StreamReset)].error_code == 0
        get = fields | {":method": "GET", ":path": "/health/live"}
        client.send_headers(3, [(name, value) for name, value in get.items() if name[0] == ":"], end_stream=True)
        s.sendall(client.data_to_send())
        while not any(isinstance(event, h2.events.ResponseReceived) and event.stream_id == 3 for event in came):
            bytes_read = s.recv(65536)
            assert bytes_read, "the connection ended"
            came += client.receive_data(bytes_read)


def test_curl_with_prior_knowledge(server):
    command = ["curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", "-o", "/dev/null"]
    said = subprocess.run([*command, f"{server.url}/health/live"], capture_output=True, timeout=30, text=True)
    assert said.stdout == "2 200", said.stderr


def test_h2load(make_server):
    if not shutil.which("h2load"):
        pytest.skip("h2load is not installed (nghttp2-client)")
    server = make_server()
    command = ["h2load", "-n", "5000", "-c", "8", "-m", "50", f"{server.url}/health/live"]
    said = subprocess.run(command, capture_output=True, timeout=60, text=True).stdout
    assert "status codes: 5000 2xx, 0 3xx, 0 4xx, 0 5xx" in said, said


def test_h2spec(make_server, tmp_path):
    command = ["bash", "-c", ". scripts/common.sh && h2spec_dir"]
    program = Path(subprocess.check_output(command, cwd=ROOT, text=True).strip()) / "h2spec"
    if not program.exists():
        pytest.skip("h2spec is not there (scripts/setup test installs it where Go modules can be had)")
    certificates.make_authority(tmp_path)
    pem, key = certificates.make_certificate(tmp_path, "server", "DNS:localhost,IP:127.0.0.1")
    address = urllib.parse.urlsplit(make_server(TLS_CERT=pem, TLS_KEY=key).url)
    command = [program, "-t", "-k", "-h", address.hostname, "-p", str(address.port), "-P", "/health/live", "-o", "3"]
    said = subprocess.run(command, capture_output=True, timeout=110, text=True).stdout
    found = re.search(r"^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", said, re.MULTILINE)
    assert found and int(found[1]) > 100 and int(found[4]) == 0, said[-4000:]


# --- attacks ------------------------------------------------------------------------------------


def rapid_reset():
    for stream in range(1, 1 << 20, 2):
        yield frame(HEADERS, 5, stream, head()) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


def made_you_reset_by_overflow():
    for stream in range(1, 1 << 20, 2):
        yield frame(HEADERS, 4, stream, head(b"/execute", post=True)) + frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff")


def made_you_reset_by_zero():
    for stream in range(1, 1 << 20, 2):
        yield frame(HEADERS, 4, stream, head(b"/execute", post=True)) + frame(WINDOW_UPDATE, 0, stream, bytes(4))


def ten_thousand_streams():
    for stream in range(1, 20_001, 2):
        yield frame(HEADERS, 4, stream, head(b"/execute", post=True))


def continuation_flood():
    yield frame(HEADERS, 1, 1, head())
    while True:
        yield frame(CONTINUATION, 0, 1, literal(b"a", b"b") * 20)


def ping_flood():
    while True:
        yield frame(PING, 0, 0, b"12345678")


def settings_flood():
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100))


def unknown_flood():
    while True:
        yield frame(UNKNOWN, 0, 0) * 100


def priority_flood():
    while True:
        yield frame(PRIORITY, 0, 1, b"\0\0\0\0\1") * 100


def priority_update_flood():
    while True:
        yield frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=1") * 100


def window_flood():
    while True:
        yield frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100


def empty_data_flood():
    yield frame(HEADERS, 4, 1, head(b"/execute", post=True))
    while True:
        yield frame(DATA, 0, 1) * 100


def hpack_bomb():
    """A field of 120 bytes in the table, named 16,000 times in each head; refused with 431, 100 heads in a row."""
    yield frame(HEADERS, 5, 1, head() + b"\x40\x01a\x78" + b"v" * 120)
    while True:
        for stream in range(3, 1 << 20, 2):
            yield frame(HEADERS, 5, stream, head() + b"\xbe" * 16_000)


def zero_window():
    yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    for stream in range(1, 200, 2):
        yield frame(HEADERS, 5, stream, head(b"/metrics"))


def attack(server, frames, seconds):
    """Sends the frames for at most so long; returns what came and whether the server has closed."""
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as s:
        s.setblocking(False)
        waiting, came, closed, end = PREFACE, b"", False, time.monotonic() + seconds
        while not closed and time.monotonic() < end:
            while len(waiting) < 65536 and (more := next(frames, None)):
                waiting += more
            try:
                waiting = waiting[s.send(waiting) :] if waiting else waiting
            except BlockingIOError:
                time.sleep(0.001)
            except ConnectionError:
                waiting = b""
            try:
                got = s.recv(65536)
                came, closed = came + got, not got
            except BlockingIOError:
                time.sleep(0 if waiting else 0.01)
            except ConnectionError:
                closed = True
    return came, closed


def goaway_code(came):
    while len(came) >= 9:
        length = int.from_bytes(came[:3], "big")
        if came[3] == GOAWAY:
            return int.from_bytes(came[13:17], "big")
        came = came[9 + length :]
    return None


def resident_kib(server):
    return int(status_field(server.pid, "VmRSS").split()[0])


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("attacked"), {}) as server:
        yield server


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (rapid_reset, ENHANCE_YOUR_CALM),
        (made_you_reset_by_overflow, ENHANCE_YOUR_CALM),
        (made_you_reset_by_zero, PROTOCOL_ERROR),
        (ten_thousand_streams, ENHANCE_YOUR_CALM),
        (continuation_flood, ENHANCE_YOUR_CALM),
        (ping_flood, ENHANCE_YOUR_CALM),
        (settings_flood, ENHANCE_YOUR_CALM),
        (unknown_flood, ENHANCE_YOUR_CALM),
        (priority_flood, ENHANCE_YOUR_CALM),
        (priority_update_flood, ENHANCE_YOUR_CALM),
        (window_flood, ENHANCE_YOUR_CALM),
        (empty_data_flood, ENHANCE_YOUR_CALM),
        (hpack_bomb, None),
        (zero_window, None),
    ],
)
def test_attacks(attacked, frames, code):
    attack(attacked, frames(), 1)  # the first round takes what stays with the allocator
    before = resident_kib(attacked)
    for _ in range(10):
        came, closed = attack(attacked, frames(), 10 if code else 0.5)
        assert goaway_code(came) == code
        assert closed == (code is not None)
    assert is_running(attacked.pid)
    assert resident_kib(attacked) < before + 16 * 1024
    assert httpx.get(f"{attacked.url}/health/live").status_code == 200


def test_a_reset_stream_ends_its_run(make_server, run_cli):
    """Nobody waits for a run whose stream is gone: it is cancelled, and its place is free."""
    server = make_server(MAX_CONCURRENT="1", SANDBOXES="1", EXECUTION_TIMEOUT="60")
    key = make_key(run_cli, server)
    endless = assemble('(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))')
    request = httpx.Request("POST", f"{server.url}/execute", files=form(endless))
    fields = {"authorization": f"Bearer {key}", "content-type": request.headers["content-type"]}
    block = head(b"/execute", post=True) + b"".join(
        literal(name.encode(), value.encode()) for name, value in fields.items()
    )
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as s:
        s.sendall(PREFACE + frame(HEADERS, 4, 1, block) + frame(DATA, 1, 1, request.read()))
        wait_busy(role_processes(server, "sandbox"))
        s.sendall(frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}) as client:
            assert execute(client, server, says(b"free")).json()["output"] == "free"
