"""What several test files need: calls to the API, a client of raw sockets for crowds, looks into /proc."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

CAUSES = {
    "ok": 200,
    "exit": 422,
    "trap": 422,
    "deadline": 422,
    "memory_limit": 422,
    "output_limit": 422,
    "stack_overflow": 422,
    "fuel": 422,
    "denied": 422,
    "rejected": 422,
    "sandbox_crashed": 500,
}
ERRORS = {
    "bad_request": 400,
    "part_missing": 400,
    "part_unknown": 400,
    "multipart_broken": 400,
    "field_invalid": 400,
    "not_wasm": 400,
    "module_invalid": 400,
    "unauthorized": 401,
    "module_too_large": 413,
    "input_too_large": 413,
    "body_too_large": 413,
    "unsupported_type": 415,
    "busy": 503,
}
STATUS = CAUSES | ERRORS


# --- guests -------------------------------------------------------------------------------------


def assemble(text):
    """A module out of the text format, for guests so small that they are read best next to their test."""
    made = subprocess.run(
        ["wat2wasm", "--enable-multi-memory", "--debug-names", "-", "--output=-"],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    return made.stdout


WASI = "wasi_snapshot_preview1"
FD_WRITE = f'(import "{WASI}" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))'
WRITE = "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"


def says(data, fd=1):
    """A guest that writes these bytes to a stream and ends."""

    def escaped(raw):
        return "".join(f"\\{byte:02x}" for byte in raw)

    return assemble(f"""(module {FD_WRITE}
        (memory (export "memory") {1 + (len(data) + 16) // 65536})
        (data (i32.const 0) "{escaped((16).to_bytes(4, "little") + len(data).to_bytes(4, "little"))}")
        (data (i32.const 16) "{escaped(data)}")
        (func (export "_start")
          (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))))""")


# Writes its arguments, each with its NUL, to stdout.
ARGUMENTS = f"""(module {FD_WRITE}
    (import "{WASI}" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "{WASI}" "args_get" (func $get (param i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start")
      (drop (call $sizes (i32.const 0) (i32.const 4)))
      (drop (call $get (i32.const 1024) (i32.const 32768)))
      (i32.store (i32.const 0) (i32.const 32768))
      {WRITE}))"""

# The same with its environment.
ENVIRONMENT = ARGUMENTS.replace("args_sizes_get", "environ_sizes_get").replace("args_get", "environ_get")

# Writes eight random bytes to stdout.
RANDOM = f"""(module {FD_WRITE}
    (import "{WASI}" "random_get" (func $random_get (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
      (drop (call $random_get (i32.const 16) (i32.const 8)))
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 8))
      {WRITE}))"""

# Counts to a number that takes a second or two, then says so.
LONG = f"""(module {FD_WRITE}
    (memory (export "memory") 1)
    (data (i32.const 16) "done")
    (func (export "_start") (local $i i64)
      (loop $again
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (br_if $again (i64.lt_u (local.get $i) (i64.const 8000000000))))
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 4))
      {WRITE}))"""


# --- the API ------------------------------------------------------------------------------------


def connect(server, key=None):
    """A client of `server`; the base of all paths is the server's address."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=server.url, headers=headers, timeout=60)


def make_key(run_cli, server):
    """A fresh key of `server`, made by the command line as an administrator would."""
    made = run_cli(
        ["keys", "create", "--name", f"test-{uuid.uuid4().hex[:12]}", "--tier", "pro"],
        env={"DATA_DIR": str(server.data_dir)},
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.decode().strip()


def lines(finished):
    """What a command that ended well has said."""
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.decode().splitlines()


def form(wasm, input=b"", filename="guest.wasm", **parts):
    """The parts of POST /execute, as httpx takes them."""
    files = []
    if wasm is not None:
        files.append(("wasm", (filename, wasm, "application/wasm")))
    if input is not None:
        files.append(("input", (None, input)))
    for name, value in parts.items():
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        files.append((name, (None, text)))
    return files


def execute(client, server, wasm, input=b"", *, headers=None, filename="guest.wasm", **parts):
    return client.post(
        f"{server.url}/execute", files=form(wasm, input, filename, **parts), headers=headers, timeout=60
    )


def outcome(status, body):
    """The one word for how a call of POST /execute ended: the cause of its run, or the code of its error."""
    receipt = body.get("receipt")
    if receipt:
        return receipt["cause"]
    if body["code"] in ("module_rejected", "compile_limit"):
        return "rejected"
    assert status != 200, body
    return body["code"]


def check_answer(response):
    """Everything that every answer of POST /execute must be; returns its body."""
    assert response.headers["content-type"].startswith("application/json"), response.text[:400]
    body = response.json()
    check_body(response.status_code, body)
    return body


def check_body(status, body):
    assert isinstance(body["output"], str), body
    if status == 200:
        assert body["error"] is None, body
    else:
        error = body["error"]
        assert isinstance(error, str) and len(error) > 10, body
        assert error.isprintable(), f"an error is one line of text: {error!r}"
        host_address = re.search(r"0x[0-9a-f]{11,}", error)
        assert "backtrace" not in error and not host_address, f"an error is for people: {error!r}"
    assert status == STATUS[outcome(status, body)], body


# --- metrics ------------------------------------------------------------------------------------


def metrics(client, server):
    """All samples of GET /metrics: {(name, frozenset of labels): value}."""
    answer = client.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    samples = {}
    for line in answer.text.splitlines():
        if not line or line.startswith("#"):
            continue
        parsed = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
        assert parsed, f"not the Prometheus text format: {line!r}"
        labels = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', parsed[2] or "")
        samples[parsed[1], frozenset(labels)] = float(parsed[3])
    return samples


def metric(client, server, name, **labels):
    """The sum of the samples with that name (a regular expression) and at least those labels."""
    wanted = set(labels.items())
    return sum(
        value
        for (sample, found), value in metrics(client, server).items()
        if re.fullmatch(name, sample) and wanted <= found
    )


def runs_with_cause(client, server, cause):
    return metric(client, server, r"wasmwiz_\w+_total", cause=cause)


# --- load ---------------------------------------------------------------------------------------


class Load:
    """Runs one after the other on a few connections, until it is stopped. Keeps the ids of those that got their 200
    (accepted) or 422 (failed), the rest's Answers (others), and counts those whose outcome nobody knows (unknown). A
    thread that was refused waits a little: it shall ask often, not as often as it can."""

    @dataclass
    class Answer:
        status: int
        began: float  # time.monotonic()
        text: str

    def __init__(self, server, key, *wasms, threads=4):
        self.accepted, self.failed, self.others, self.unknown = [], [], [], 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        requests = [httpx.Request("POST", server.url, files=form(wasm, b"x")) for wasm in wasms]
        bodies = [(request.read(), {"Content-Type": request.headers["content-type"]}) for request in requests]
        self._threads = [threading.Thread(target=self._work, args=(server, key, bodies)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self, server, key, bodies):
        turns = itertools.cycle(bodies)
        with connect(server, key) as client:
            while not self._stop.is_set():
                body, headers = next(turns)
                began = time.monotonic()
                try:
                    answer = client.post("/execute", content=body, headers=headers)
                except httpx.HTTPError:
                    with self._lock:
                        self.unknown += 1
                    return
                with self._lock:
                    if answer.status_code in (200, 422):
                        done = self.accepted if answer.status_code == 200 else self.failed
                        done.append(answer.json()["request_id"])
                        continue
                    self.others.append(self.Answer(answer.status_code, began, answer.text))
                self._stop.wait(0.01)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return self


@contextlib.contextmanager
def load_on(*args, **options):
    """A Load that ends with its block, however that ends."""
    load = Load(*args, **options)
    try:
        yield load
    finally:
        load.stop()


# --- waiting ------------------------------------------------------------------------------------


def wait_until(condition, what, seconds=10):
    """Polls until `condition()` gives something true and returns that; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.01)


# --- processes ----------------------------------------------------------------------------------


def read_proc(pid, name):
    """A file of /proc/PID, empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def status_field(pid, name):
    """A line of /proc/PID/status, e.g. "Seccomp"; empty where the process is gone."""
    found = re.search(rf"^{name}:\s*(.*)$", read_proc(pid, "status").decode(), re.MULTILINE)
    return found[1] if found else ""


def is_running(pid):
    return status_field(pid, "State")[:1] not in ("", "Z", "X")


def descendants(pid):
    """The processes below `pid`, running ones only."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            parent = status_field(int(entry), "PPid")
            if parent:
                children.setdefault(int(parent), []).append(int(entry))
    found, look = [], [pid]
    while look:
        for child in children.get(look.pop(), ()):
            if is_running(child):
                found.append(child)
                look.append(child)
    return found


def role_processes(server, role):
    """The processes below the server that were started as `wasmwiz ROLE`."""
    return [
        pid for pid in descendants(server.pid) if read_proc(pid, "cmdline").split(b"\0")[1:2] == [role.encode()]
    ]


def cpu_ticks(pid):
    """Processor time used so far, in hundredths of a second; 0 where the process is gone."""
    stat = read_proc(pid, "stat")
    if not stat:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


def wait_busy(pids, ticks=5):
    """Waits until each of the processes has worked for `ticks` more hundredths of a second."""
    before = {pid: cpu_ticks(pid) for pid in pids}
    wait_until(lambda: all(cpu_ticks(pid) >= before[pid] + ticks for pid in pids), "the processes work")


def working_compiler(server):
    """Waits for a compiler that is in the middle of a job and returns its id; one that waits for work has used far
    less time."""

    def find():
        return next((pid for pid in role_processes(server, "compiler") if cpu_ticks(pid) >= 20), None)

    return wait_until(find, "a compiler is at work")


def resident_bytes(pids):
    """The resident memory of all these processes; memory that they share counts once, proportionally."""
    total = 0
    for pid in pids:
        try:
            rollup = read_proc(pid, "smaps_rollup").decode()
        except PermissionError:
            rollup = ""
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        resident = status_field(pid, "VmRSS")
        if found:
            total += int(found[1]) * 1024
        elif resident:
            total += int(resident.split()[0]) * 1024
    return total


# --- crowds: many requests at once over plain sockets -------------------------------------------


@dataclass
class Reply:
    status: int  # 0: the connection ended without an answer
    headers: dict = field(default_factory=dict)
    body: dict = field(default_factory=dict)

    @property
    def outcome(self):
        return outcome(self.status, self.body)


def raw_request(server, key, wasm, input=b"", **parts):
    """The bytes of one POST /execute that asks for the connection to be closed behind it."""
    address = urllib.parse.urlsplit(server.url)
    request = httpx.Request("POST", f"{server.url}/execute", files=form(wasm, input, **parts))
    body = request.read()
    head = (
        f"POST /execute HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {request.headers['content-type']}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


def parse_reply(raw):
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        return Reply(0)
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    assert len(body) == int(headers["content-length"]), "the reply is complete"
    return Reply(int(lines[0].split()[1]), headers, json.loads(body))


async def send(server, request):
    """Sends the bytes over a connection of their own and reads the reply to its end."""
    address = urllib.parse.urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request)
        await writer.drain()
        return parse_reply(await reader.read())
    except ConnectionError:
        return Reply(0)
    finally:
        writer.close()


async def send_all(server, requests, seconds=120):
    """Sends all at once; the replies in order. What takes longer than `seconds` altogether fails."""
    async with asyncio.timeout(seconds):
        return await asyncio.gather(*(send(server, request) for request in requests))


class Crowd:
    """Requests under way in a thread of their own, while the test does something to the server:

    with Crowd(server, requests) as crowd:
        ...
    crowd.replies
    """

    def __init__(self, server, requests, seconds=120):
        self._work = lambda: asyncio.run(send_all(server, requests, seconds))
        self.replies = []

    def __enter__(self):
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(self._work)
        return self

    @property
    def done(self):
        return self._future.done()

    def __exit__(self, kind, *_):
        self._pool.shutdown(wait=True)
        if kind is None:
            self.replies = self._future.result()
