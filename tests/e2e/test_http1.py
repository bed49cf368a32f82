"""HTTP/1 as bytes: what is no request gets the answer that RFC 9110 and 9112 name, nothing behind it is taken for a
request, and the server's memory is as it was."""

import re
import socket
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest
from conftest import running_server
from support import form, is_running, make_key, metric, says, status_field

HOST = b"Host: h\r\n"
NEXT = b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n"
ROUNDS = 20
GROWTH_KIB = 16 * 1024


def get(fields=b"", target=b"/health/live", version=b"HTTP/1.1", host=HOST):
    return b"GET " + target + b" " + version + b"\r\n" + host + fields + b"\r\n"


def post(fields, body=b""):
    return b"POST /execute HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def chunked(body):
    return post(b"Transfer-Encoding: chunked\r\n", body)


def length(value, body=b"hello"):
    return post(b"Content-Length: " + value + b"\r\n", body)


# Each with the request behind it; (name, bytes, statuses of the answers in order). The key is missing, so a POST whose
# head is right gets 401.
BOTH_LENGTHS = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
MALFORMED = [
    ("both lengths", post(BOTH_LENGTHS, b"0\r\n\r\n"), [400]),
    ("both lengths the other way", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), [400]),
    ("two lengths that differ", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"), [400]),
    ("a list of lengths that differ", length(b"5, 6"), [400]),
    ("a length with a sign", length(b"+5"), [400]),
    ("a negative length", length(b"-5"), [400]),
    ("a hexadecimal length", length(b"0x5"), [400]),
    ("a length with a blank inside", length(b"5 5"), [400]),
    ("no length at all", length(b""), [400]),
    ("a length past 64 bits", length(b"18446744073709551621"), [400]),
    ("a length of 10^12", length(b"1000000000000"), [413]),
    ("a blank before the colon", get(b"X : y\r\n"), [400]),
    ("a tab before the colon", get(b"X\t: y\r\n"), [400]),
    ("a blank before the colon of the coding", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), [400]),
    ("a bare LF behind the request line", get().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), [400]),
    ("a bare LF behind a field", get(b"X: y\n"), [400]),
    ("bare LFs at the end of the head", get()[:-4] + b"\n\n", [400]),
    ("a bare CR in a field", get(b"X: a\rY: b\r\n"), [400]),
    ("a folded field", get(b"X: y\r\n folded\r\n"), [400]),
    ("a folded coding", post(b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"), [400]),
    ("a chunk past 64 bits", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), [401]),
    ("a chunk of the most", chunked(b"ffffffffffffffff\r\nhello\r\n"), [401]),
    ("a negative chunk", chunked(b"-5\r\nhello\r\n0\r\n\r\n"), [401]),
    ("a chunk with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), [401]),
    ("a chunk with a blank", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), [401]),
    ("a chunk without CRLF", chunked(b"5\r\nhelloX\r\n0\r\n\r\n"), [401]),
    ("a chunk with a bare LF", chunked(b"5\nhello\r\n0\r\n\r\n"), [401]),
    ("a long extension", chunked(b"5;x=" + b"y" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"), [401]),
    ("an unknown coding", post(b"Transfer-Encoding: zip\r\n", b"hello"), [501]),
    ("a coding around chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), [501]),
    ("chunked twice", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), [400]),
    ("chunked not last", post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), [400]),
    ("a coding in HTTP/1.0", chunked(b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"), [400]),
    ("NUL in the target", get(target=b"/health\0/live"), [400]),
    ("NUL in a name", get(b"X\0: y\r\n"), [400]),
    ("NUL in a value", get(b"X: \0\r\n"), [400]),
    ("no Host", get(host=b""), [400]),
    ("two Hosts", get(HOST), [400]),
    ("two Hosts in one", get(host=b"Host: a, b\r\n"), [400]),
    ("a head of 200 KB", get(b"X: " + b"y" * 200_000 + b"\r\n"), [431]),
    ("a head of 200 KB in small fields", get(b"X: y\r\n" * 33_000), [431]),
    ("a target of 200 KB", get(target=b"/" + b"y" * 200_000), [414]),
    ("a blank in front", b" " + get(), [400]),
    ("another version", get(version=b"HTTP/1.9"), [505]),
    ("no version", b"GET /health/live\r\n\r\n", [505]),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), [400]),
    ("another method", get().replace(b"GET", b"BREW"), [501]),
    ("garbage behind a request", NEXT + b"\x00\xff\x7f garbage \r\n\r\n", [200, 400]),
    ("garbage behind many requests", NEXT * 50 + b"garbage\r\n\r\n", [200] * 50 + [501]),
    ("an expectation that is none", get(b"Expect: 200-ok\r\n"), [417]),
]


@dataclass
class Sent:
    statuses: list
    closed: bool


def statuses(came):
    """The status codes of complete replies, by their lengths."""
    found = []
    while came:
        head, end, rest = came.partition(b"\r\n\r\n")
        assert end, came
        found.append(int(head.split(b" ", 2)[1]))
        size = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        assert len(rest) >= size, "a reply is cut"
        came = rest[size:]
    return found


def dial(server):
    address = urllib.parse.urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), 20)


def send(server, request):
    """Sends the bytes and reads until the server closes, or is silent."""
    with dial(server) as s:
        came, closed = b"", False
        try:
            s.sendall(request)
        except ConnectionError:
            pass  # it has heard enough
        try:
            while part := s.recv(65536):
                came += part
            closed = True
        except TimeoutError:
            pass
        except ConnectionError:
            closed = True
    return Sent(statuses(came), closed)


def resident_kib(server):
    return int(status_field(server.pid, "VmRSS").split()[0])


def answers(server):
    return httpx.get(f"{server.url}/health/live").status_code == 200


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("attacked"), {}) as server:
        yield server


@pytest.mark.parametrize(("request_bytes", "expected"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_malformed(attacked, request_bytes, expected):
    """Refused, and closed: of what comes behind it nobody knows where it begins."""
    assert send(attacked, request_bytes + NEXT) == Sent(expected, True)
    before = resident_kib(attacked)
    with ThreadPoolExecutor(4) as pool:
        for sent in pool.map(lambda _: send(attacked, request_bytes + NEXT), range(ROUNDS)):
            assert sent == Sent(expected, True)
    assert resident_kib(attacked) < before + GROWTH_KIB
    assert is_running(attacked.pid) and answers(attacked)


CHUNKS = ("a chunk with", "a chunk past", "a negative chunk", "a long extension")
BAD_CHUNKS = [row for row in MALFORMED if row[0].startswith(CHUNKS)]


@pytest.mark.parametrize("bad", [row[1] for row in BAD_CHUNKS], ids=[row[0] for row in BAD_CHUNKS])
def test_bad_chunks_of_one_who_has_a_key(server, key, bad):
    """The same behind a head that is accepted, so that the body is read."""
    head = f"Authorization: Bearer {key}\r\nContent-Type: multipart/form-data; boundary=b\r\n".encode()
    assert send(server, bad.replace(HOST, HOST + head) + NEXT) == Sent([400], True)


# --- early ends ---------------------------------------------------------------------------------


def whole_request(server, key):
    request = httpx.Request("POST", f"{server.url}/execute", files=form(says(b"x"), b"in"))
    body = request.read()
    head = (
        f"Host: h\r\nAuthorization: Bearer {key}\r\nContent-Type: {request.headers['content-type']}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return b"POST /execute HTTP/1.1\r\n" + head.encode() + body


def test_an_end_at_every_byte(make_server, run_cli):
    """Every prefix of a good request, the client gone after it, or silent in one direction: no answer, no run, and
    nothing of it stays."""
    server = make_server()
    key = make_key(run_cli, server)
    request = whole_request(server, key)
    assert send(server, request + NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).statuses == [200, 200]
    with httpx.Client() as client:
        runs = metric(client, server, "wasmwiz_runs_total")
        before = resident_kib(server)
        for size in range(len(request)):
            with dial(server) as s:
                s.sendall(request[:size])
                if size % 3 == 1:
                    s.shutdown(socket.SHUT_WR)
                    assert s.recv(1) == b""
                elif size % 3 == 2:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert resident_kib(server) < before + GROWTH_KIB
        assert metric(client, server, "wasmwiz_runs_total") == runs
        assert metric(client, server, "wasmwiz_runs_running") == 0
        assert metric(client, server, "wasmwiz_runs_queued") == 0
    assert is_running(server.pid)


# --- slowness -----------------------------------------------------------------------------------


def drip(server, at_once, slowly, seconds=15):
    """Sends the rest a byte at a time, four a second; the statuses of what the server says until it closes."""
    begun = time.monotonic()
    with dial(server) as s:
        came = b""
        s.sendall(at_once)
        s.settimeout(0.25)
        for byte in slowly:
            try:
                part = s.recv(65536)
                if not part:
                    return statuses(came)
                came += part
            except TimeoutError:
                pass
            except ConnectionError:
                return statuses(came)
            try:
                s.sendall(bytes([byte]))
            except ConnectionError:
                continue
            assert time.monotonic() < begun + seconds, "a slow client is not cut"
    raise AssertionError("all was sent")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    env = {"HEAD_TIMEOUT": "1s", "BODY_TIMEOUT": "1s", "BODY_MIN_RATE": "1000", "IDLE_TIMEOUT": "1s"}
    with running_server(tmp_path_factory.mktemp("impatient"), env) as server:
        yield server


def test_a_slow_head(impatient):
    assert drip(impatient, b"GET /health/live HTTP/1.1\r\n", b"X: " + b"y" * 1000) == [408]


def test_a_slow_request_line(impatient):
    assert drip(impatient, b"GE", b"T /" + b"y" * 1000) in ([408], [])


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_slow_body(impatient, run_cli, framing):
    request = whole_request(impatient, make_key(run_cli, impatient))
    head, end, body = request.partition(b"\r\n\r\n")
    if framing == "chunks":
        head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
        body = b"1\r\n-\r\n" * 1000
    assert drip(impatient, head + end, body) == [408]


def test_a_body_that_stops(impatient, run_cli):
    request = whole_request(impatient, make_key(run_cli, impatient))
    assert send(impatient, request[:-5]) == Sent([408], True)


def test_silence(impatient):
    assert send(impatient, b"") == Sent([], True)
    assert send(impatient, NEXT) == Sent([200], True)


def test_many_slow_clients_take_nothing_from_others(impatient):
    with ThreadPoolExecutor(100) as pool:
        slow = [pool.submit(drip, impatient, b"GET /health/live HTTP/1.1\r\n", b"y" * 1000) for _ in range(100)]
        served = 0
        while not all(client.done() for client in slow):
            assert answers(impatient)
            served += 1
        assert served
        assert all(client.result() == [408] for client in slow)
