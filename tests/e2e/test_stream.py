"""POST /execute/stream: input and output flow, nothing of them is held, and every way it can end."""

import contextlib
import hashlib
import json
import socket
import subprocess
import threading
import time
import urllib.parse

import certificates
import pytest
from support import (
    assemble,
    connect,
    descendants,
    form,
    make_key,
    metric,
    resident_bytes,
    runs_with_cause,
    wait_until,
)

BOUNDARY = "a-boundary-that-stands-in-no-guest"
MIB = 1 << 20
BIG = 1024 * MIB


@pytest.fixture(scope="module")
def streams(tmp_path_factory, run_cli):
    """A server that gives guests the time that big streams need."""
    from conftest import running_server

    with running_server(tmp_path_factory.mktemp("streams"), {"EXECUTION_TIMEOUT": "60"}) as server:
        server.key = make_key(run_cli, server)
        yield server


def part(name, data=None, filename=None):
    file = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
    return head if data is None else head + data + b"\r\n"


class Stream:
    """One request, written and read by hand at the same time, in HTTP/1.1."""

    def __init__(self, server, key, wasm, parts=(), accept="application/octet-stream", length=None, version="1.1"):
        address = urllib.parse.urlsplit(server.url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=60)
        self._file = self._socket.makefile("rb", buffering=1 << 18)
        begin = part("wasm", wasm, "guest.wasm") + b"".join(part(name, value) for name, value in parts) + part("input")
        self._end = f"\r\n--{BOUNDARY}--\r\n".encode()
        self._chunked = length is None
        framing = (
            "Transfer-Encoding: chunked"
            if self._chunked
            else f"Content-Length: {len(begin) + length + len(self._end)}"
        )
        head = (
            f"POST /execute/stream HTTP/{version}\r\nHost: h\r\nAuthorization: Bearer {key}\r\nAccept: {accept}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{framing}\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self.write(begin)

    def write(self, data):
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end_input(self):
        self.write(self._end)
        if self._chunked:
            self._socket.sendall(b"0\r\n\r\n")

    def read_head(self):
        status = self._file.readline()
        assert status.startswith(b"HTTP/1.1 "), status
        self.fields = self._read_fields()
        return int(status.split()[1])

    def _read_fields(self):
        fields = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        return fields

    def chunks(self):
        """What comes, piece by piece; fails where the connection ends without the last chunk."""
        while size := int(self._file.readline(), 16):
            data = self._file.read(size)
            assert self._file.read(2) == b"\r\n"
            yield data
        self.receipt = json.loads(self._read_fields().get("wasmwiz-receipt", "null"))

    def read_some(self):
        return self._file.read1(1 << 16)

    def close(self):
        self._file.close()
        self._socket.close()


@contextlib.contextmanager
def stream(*args, **kwargs):
    opened = Stream(*args, **kwargs)
    try:
        yield opened
    finally:
        opened.close()


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def whole_body(server, key, wasm, input, accept=None, path="/execute/stream"):
    with connect(server, key) as client:
        return client.post(path, files=form(wasm, input), headers={"Accept": accept} if accept else None)


# --- what goes in comes out ----------------------------------------------------------------------


def test_output_comes_before_the_input_is_complete(streams, guest):
    with stream(streams, streams.key, guest("c_echo")) as s:
        s.write(b"first ")
        assert s.read_head() == 200
        assert s.fields["trailer"] == "WasmWiz-Receipt" and "content-length" not in s.fields
        chunks = s.chunks()
        assert next(chunks) == b"first "
        s.write(b"second")
        assert next(chunks) == b"second"
        s.end_input()
        assert list(chunks) == []
        assert s.receipt["cause"] == "ok" and s.receipt["stdout_bytes"] == 12 == s.receipt["stdin_bytes"]


@pytest.mark.parametrize("isolation", ["process", "inline"])
def test_a_gigabyte_flows_through_and_is_not_held(make_server, run_cli, guest, isolation):
    server = make_server(EXECUTION_TIMEOUT="100", ISOLATION=isolation, MAX_STREAM=BIG)
    key = make_key(run_cli, server)
    assert whole_body(server, key, guest("c_echo"), b"x" * MIB).content == b"x" * MIB  # all is loaded
    pids = [server.pid, *descendants(server.pid)]
    before = resident_bytes(pids)
    piece = hashlib.shake_128(b"piece").digest(MIB - 1)  # no multiple of any buffer
    count = BIG // len(piece)
    peak, stop = 0, threading.Event()

    def watch():
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, resident_bytes(pids))

    with stream(server, key, guest("c_echo"), length=count * len(piece)) as s:

        def send():
            for _ in range(count):
                s.write(piece)
            s.end_input()

        watcher, sender = in_thread(watch), in_thread(send)
        assert s.read_head() == 200
        got, expected = hashlib.sha1(), hashlib.sha1()
        for data in s.chunks():
            got.update(data)
        sender.join()
        stop.set()
        watcher.join()
        for _ in range(count):
            expected.update(piece)
        assert got.digest() == expected.digest()
        assert s.receipt["stdin_bytes"] == s.receipt["stdout_bytes"] == count * len(piece)
    assert peak - before < 32 * MIB, f"memory grew from {before} to {peak} bytes"


def test_who_does_not_read_stops_who_writes(streams, guest):
    with stream(streams, streams.key, guest("c_echo")) as s:
        sent = 0

        def send():
            nonlocal sent
            for _ in range(200):
                s.write(b"x" * MIB)
                sent += 1
            s.end_input()

        sender = in_thread(send)
        seen = -1
        while seen != sent:  # until it stands still
            seen = sent
            time.sleep(1)
        assert 0 < sent < 60, f"{sent} MiB went in though nobody read"
        assert s.read_head() == 200
        assert sum(map(len, s.chunks())) == 200 * MIB
        sender.join()


def test_over_http2_and_tls(make_server, run_cli, guest, tmp_path):
    certificates.make_authority(tmp_path)
    certificates.make_certificate(tmp_path, "server", "DNS:localhost,IP:127.0.0.1")
    server = make_server(
        EXECUTION_TIMEOUT="60", TLS_CERT=tmp_path / "server.pem", TLS_KEY=tmp_path / "server.key"
    )
    key = make_key(run_cli, server)
    wasm, data = tmp_path / "echo.wasm", tmp_path / "data"
    wasm.write_bytes(guest("c_echo"))
    data.write_bytes(hashlib.shake_128(b"data").digest(100 * MIB))
    for version in ("--http1.1", "--http2"):
        command = ["curl", "-sS", version, "--cacert", tmp_path / "authority.pem", "-D", tmp_path / "head"]
        command += ["-H", f"Authorization: Bearer {key}", "-F", f"wasm=@{wasm}", "-F", f"input=<{data}"]
        command += ["-o", tmp_path / "out", f"{server.url}/execute/stream"]
        done = subprocess.run(list(map(str, command)), capture_output=True, timeout=100, text=True)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out").read_bytes() == data.read_bytes()
        assert "wasmwiz-receipt" in (tmp_path / "head").read_text().lower()


def test_events(streams, guest):
    with stream(streams, streams.key, guest("c_echo"), accept="text/event-stream") as s:
        halves = "häl".encode()[:2], "häl".encode()[2:] + b"\n\xff"
        s.write(halves[0])
        assert s.read_head() == 200
        assert s.fields["content-type"] == "text/event-stream"
        chunks = s.chunks()
        assert next(chunks) == b'event: stdout\ndata: "h"\n\n'
        s.write(halves[1])
        assert next(chunks) == 'event: stdout\ndata: "äl\\n�"\n\n'.encode()
        s.end_input()
        rest = b"".join(chunks).decode()
        name, _, data = rest.partition("\ndata: ")
        assert name == "event: receipt" and json.loads(data)["cause"] == "ok"


@pytest.mark.parametrize("size", [1, 65536])
def test_events_for_a_client_that_reads_late(streams, size):
    """In text each of these bytes becomes six, and each write has an event around it."""
    count = 6 * MIB // size if size > 1 else 600_000
    writer = assemble(f"""(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (data (i32.const 0) "\\10\\00\\00\\00")
        (func (export "_start") (local $i i32)
          (i32.store (i32.const 4) (i32.const {size}))
          (loop $again
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))))""")
    with stream(streams, streams.key, writer, accept="text/event-stream") as s:
        s.write(b"x")
        s.end_input()
        assert s.read_head() == 200
        time.sleep(2)  # the guest runs into its window, and waits
        events = b"".join(s.chunks()).decode().split("\n\n")
        seen = sum(len(json.loads(event.partition("\ndata: ")[2])) for event in events if "event: stdout" in event)
        assert seen == count * size
        assert '"cause":"ok"' in events[-2] and events[-1] == ""


def test_progress_on_stderr_for_a_client_that_reads_late(streams):
    """What goes to stderr is not for this client; it must not count as taken what goes to stdout."""
    size, count = 65536, 1024
    writer = assemble(f"""(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (data (i32.const 0) "\\20\\00\\00\\00\\00\\00\\01\\00\\20\\00\\00\\00\\01\\00\\00\\00")
        (func (export "_start") (local $i i32)
          (loop $again
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))
            (drop (call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 24)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))))""")
    with stream(streams, streams.key, writer) as s:
        s.write(b"x")
        s.end_input()
        assert s.read_head() == 200
        time.sleep(2)
        assert sum(map(len, s.chunks())) == count * size


def test_events_of_both_streams_and_of_a_failure(streams, guest):
    files = [("wasm", ("g.wasm", guest("c_stderr"))), ("args", (None, '["to stderr"]')), ("input", (None, ""))]
    with connect(streams, streams.key) as client:
        answer = client.post("/execute/stream", files=files, headers={"Accept": "text/event-stream"})
    assert "event: stderr\n" in answer.text and '"cause":"ok"' in answer.text
    answer = whole_body(streams, streams.key, guest("c_abort"), b"", "text/event-stream")
    assert answer.status_code == 200 and '"cause":"trap"' in answer.text.split("event: receipt")[1]


def test_a_run_that_writes_nothing_has_its_status(streams, guest):
    silent = assemble('(module (memory (export "memory") 1) (func (export "_start")))')
    answer = whole_body(streams, streams.key, silent, b"not read")
    assert answer.status_code == 200 and answer.content == b"" and '"cause":"ok"' in answer.headers["wasmwiz-receipt"]
    trap = assemble('(module (memory (export "memory") 1) (func (export "_start") unreachable))')
    answer = whole_body(streams, streams.key, trap, b"")
    assert answer.status_code == 422 and '"cause":"trap"' in answer.headers["wasmwiz-receipt"]


def test_http_1_0_gets_bytes_up_to_the_end(streams, guest):
    with stream(streams, streams.key, guest("c_echo"), length=5, version="1.0") as s:
        s.write(b"hello")
        s.end_input()
        assert s.read_head() == 200
        assert "transfer-encoding" not in s.fields and s.fields["connection"] == "close"
        text = b""
        while piece := s.read_some():
            text += piece
        assert text == b"hello"


def test_limits_and_arguments_come_first(streams, guest):
    with stream(streams, streams.key, guest("c_echo"), parts=[("max_output_bytes", b"10")]) as s:
        s.write(b"x" * 100)
        s.end_input()
        assert s.read_head() == 200
        assert b"".join(s.chunks()) == b"x" * 10
        assert s.receipt["cause"] == "output_limit"


# --- how it ends early ---------------------------------------------------------------------------


def test_refusals_are_json(streams, guest):
    assert whole_body(streams, "ww_" + "x" * 40, guest("c_echo"), b"").json()["code"] == "unauthorized"
    assert whole_body(streams, streams.key, b"no module", b"").json()["code"] == "not_wasm"
    assert whole_body(streams, streams.key, None, b"").json()["code"] == "part_missing"
    assert whole_body(streams, streams.key, guest("c_echo"), None).json()["code"] == "part_missing"


def test_input_is_the_last_part(streams, guest):
    files = [*form(guest("c_wordcount"), b"text"), ("seed", (None, "1"))]  # reads all before it writes
    with connect(streams, streams.key) as client:
        answer = client.post("/execute/stream", files=files)
    assert answer.status_code == 400 and "input" in answer.json()["error"]


def test_the_guest_ends_before_its_input(streams, guest):
    hello = guest("c_hello")
    with stream(streams, streams.key, hello) as s:
        s.write(b"x")
        assert s.read_head() == 200
        assert b"".join(s.chunks())
        assert s.receipt["cause"] == "ok"
        with contextlib.suppress(OSError):  # what else comes is not wanted
            for _ in range(100):
                s.write(b"x" * MIB)


def test_a_trap_in_the_midst(streams):
    guest = assemble("""(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\\10\\00\\00\\00\\04\\00\\00\\00text")
        (func (export "_start")
          (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          unreachable))""")
    with stream(streams, streams.key, guest) as s:
        assert s.read_head() == 200
        chunks = s.chunks()
        assert len(next(chunks)) == 4
        s.write(b"go")
        assert list(chunks) == []
        assert s.receipt["cause"] == "trap" and s.receipt["trap"]["code"] == "unreachable"


def test_a_broken_form_cuts_the_reply(streams, guest):
    cancelled = runs_with_cause(connect(streams), streams, "cancelled")
    with stream(streams, streams.key, guest("c_echo")) as s:
        s.write(b"text")
        assert s.read_head() == 200
        assert next(s.chunks()) == b"text"
        s._socket.sendall(b"0\r\n\r\n")  # the body ends, the form does not
        assert s._file.read() == b"", "there must be no last chunk"
    wait_until(lambda: runs_with_cause(connect(streams), streams, "cancelled") == cancelled + 1, "the run to end")


def test_a_client_that_leaves_takes_its_run_with_it(streams, guest):
    cancelled = runs_with_cause(connect(streams), streams, "cancelled")
    for read_first in (True, False):
        s = Stream(streams, streams.key, guest("c_echo"))
        s.write(b"text")
        if read_first:
            assert s.read_head() == 200
        else:
            wait_until(lambda: metric(connect(streams), streams, "wasmwiz_runs_running") >= 1, "the run to start")
        s.close()
        cancelled += 1
        wait_until(lambda n=cancelled: runs_with_cause(connect(streams), streams, "cancelled") >= n, "the run to end")


def test_more_input_than_a_stream_may_have(make_server, run_cli, guest):
    server = make_server(MAX_STREAM="100000")
    key = make_key(run_cli, server)
    assert whole_body(server, key, guest("c_echo"), b"x" * 100_000).content == b"x" * 100_000
    with stream(server, key, guest("c_wordcount")) as s:  # reads all before it writes
        with contextlib.suppress(OSError):
            s.write(b"x" * 60_000)
            s.write(b"x" * 60_000)
        assert s.read_head() == 413
    answer = whole_body(server, key, guest("c_echo"), b"x" * 12_000_000)
    assert answer.status_code == 413 and answer.json()["code"] == "body_too_large"


def test_a_guest_that_waits_for_input_has_its_deadline(streams, guest):
    with stream(streams, streams.key, guest("c_echo"), parts=[("timeout_ms", b"300")]) as s:
        assert s.read_head() == 422
        assert json.loads(s.fields["wasmwiz-receipt"])["cause"] == "deadline"
