"""Loads two servers, one in clear text and one with TLS, with everything at once for a while, and looks whether all
they hold goes back to where it was after a warm-up.

usage: bench/soak.py [SECONDS]        (60; `make soak SOAK_SECONDS=600`)

Prints a table; exit status 1 where something grew, died or stayed behind."""

import contextlib
import math
import random
import socket
import ssl
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import certificates  # noqa: E402
import httpx  # noqa: E402
import load as full_load  # noqa: E402
from client import FORM_TYPE  # noqa: E402
from client import form as form_body  # noqa: E402
from conftest import GUESTS, running_server  # noqa: E402
from support import (  # noqa: E402
    assemble,
    descendants,
    form,
    metrics,
    raw_request,
    read_proc,
    status_field,
)

GROWTH_KIB = 16 * 1024  # of one process: what its allocator may keep, not what a leak makes of so many requests
DESCRIPTORS = 6  # of one process: the modules in memory come and go
WARM_UP_SECONDS = 60  # at most
PART_SECONDS = 20
FULL_CONNECTIONS = 32
SETTLE_SECONDS = 4
HOG = '(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))'
TRAP = '(module (func (export "_start") unreachable))'


class Load:
    """What threads do to a server until they are stopped; `done` counts the answers."""

    def __init__(self, server, key, authority):
        self.server, self.key = server, key
        self.authority = authority  # a PEM file; None: clear text
        self.done, self.failures = Counter(), []
        self._stop = threading.Event()
        self._threads = []
        self.echo = (GUESTS / "wat_echo.wasm").read_bytes()
        self.hog, self.trap = assemble(HOG), assemble(TRAP)

    def kinds(self):
        """Each kind of client, and how many there are of it."""
        return [
            (self.keep_alive, 8),
            (self.new_connections, 3),
            (self.http2, 2),
            (self.large, 2),
            (self.traps, 2),
            (self.hogs, 4),
            (self.leaves, 3),
            (self.slow, 4),
            (self.new_modules, 1),
        ]

    def start(self):
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._repeat, args=(kind,)) for kind, count in self.kinds() for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, kind):
        while not self._stop.is_set():
            try:
                kind()
            except Exception as error:
                self.failures.append(f"{kind.__name__}: {error!r}")
                time.sleep(0.1)

    # --- the clients ---

    def _context(self):
        """One for each client: httpx writes into it which protocols the client offers."""
        return ssl.create_default_context(cafile=self.authority)

    def _client(self, **options):
        verify = self._context() if self.authority else False
        return httpx.Client(
            headers={"Authorization": f"Bearer {self.key}"}, verify=verify, timeout=60, **options
        )

    def _execute(self, client, kind, wasm, cause, input=b"", **parts):
        answer = client.post(f"{self.server.url}/execute", files=form(wasm, input, **parts))
        found = answer.json()["receipt"]
        if not found or found["cause"] != cause:
            raise AssertionError(f"wanted {cause}: {answer.text[:300]}")
        self.done[kind] += 1

    def keep_alive(self):
        with self._client() as client:
            for _ in range(200):
                if not self._stop.is_set():
                    self._execute(client, "keep_alive", self.echo, "ok", b"again")

    def new_connections(self):
        with self._client() as client:
            self._execute(client, "new_connections", self.echo, "ok", b"once")

    def http2(self):
        with self._client(http1=False, http2=True) as client:
            for _ in range(50):
                if not self._stop.is_set():
                    self._execute(client, "http2", self.echo, "ok", b"stream")

    def large(self):
        with self._client() as client:
            self._execute(client, "large", self.echo, "ok", b"x" * 900_000)

    def traps(self):
        with self._client() as client:
            for _ in range(20):
                self._execute(client, "traps", self.trap, "trap")

    def hogs(self):
        with self._client() as client:
            self._execute(client, "hogs", self.hog, "deadline", timeout_ms=200)

    def new_modules(self):
        unique = assemble(f'(module (func (export "_start") (drop (i64.const {random.getrandbits(62)}))))')
        with self._client() as client:
            self._execute(client, "new_modules", unique, "ok")
        time.sleep(0.05)

    @contextlib.contextmanager
    def _dial(self):
        address = urllib.parse.urlsplit(self.server.url)
        with socket.create_connection((address.hostname, address.port), 10) as plain:
            if not self.authority:
                yield plain
                return
            with self._context().wrap_socket(plain, server_hostname=address.hostname) as secured:
                yield secured

    def leaves(self):
        """Gone before its answer, or in the midst of its request."""
        request = raw_request(self.server, self.key, self.hog, timeout_ms=5000)
        with self._dial() as s:
            s.sendall(request[: random.choice([10, len(request) // 2, len(request)])])
            time.sleep(random.random() / 50)
        self.done["leaves"] += 1

    def slow(self):
        """A byte now and then, then gone."""
        with self._dial() as s:
            for byte in raw_request(self.server, self.key, self.echo)[: random.randint(1, 20)]:
                s.sendall(bytes([byte]))
                time.sleep(0.05)
        self.done["slow"] += 1


# --- what they hold -------------------------------------------------------------------------------


def role(pid):
    words = read_proc(pid, "cmdline").split(b"\0")
    return words[1].decode() if len(words) > 1 else "?"


def processes(server):
    """The processes by a name that stays while they live: those of a kind are numbered."""
    seen, named = Counter(), {}
    for pid in [server.pid, *sorted(descendants(server.pid))]:
        seen[role(pid)] += 1
        named[f"{role(pid)} {seen[role(pid)]}"] = pid
    return named


def open_descriptors(pid):
    with contextlib.suppress(FileNotFoundError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


def holdings(server, load):
    """{what: (value, how much more it may become)}."""
    held = {}
    for name, pid in processes(server).items():
        held[f"{name}: resident KiB"] = (int(status_field(pid, "VmRSS").split()[0]), GROWTH_KIB)
        held[f"{name}: descriptors"] = (open_descriptors(pid), DESCRIPTORS)
    with load._client() as client:
        samples = metrics(client, server)
    for name in ("runs_running", "runs_queued", "connections", "sandboxes", "sandboxes_died_total", "compiling"):
        held[name] = (int(samples[f"wasmwiz_{name}", frozenset()]), 0)
    return held


def settled(server, load):
    """What they hold once nothing is under way any more."""
    end = time.monotonic() + 10
    time.sleep(SETTLE_SECONDS)
    while True:
        held = holdings(server, load)
        if held["connections"][0] <= 1 and not held["runs_running"][0] or time.monotonic() > end:
            return held
        time.sleep(0.5)


def compare(title, before, after):
    """Prints both; whether all is as it was."""
    fine = True
    print(f"\n{title}\n  {'':36}{'warm':>12}{'after':>12}")
    for what in dict.fromkeys([*before, *after]):
        old, new = before.get(what), after.get(what)
        good = old is not None and new is not None and new[0] <= old[0] + new[1]
        good = good and not (what in ("runs_running", "runs_queued", "compiling") and new[0])
        fine = fine and good
        cells = [f"{cell[0]:>12,}" if cell else f"{'-':>12}" for cell in (old, new)]
        print(f"  {what:36}{''.join(cells)}{'' if good else '  NOT AS IT WAS'}")
    return fine


def soak(seconds, folder):
    certificates.make_authority(folder)
    pem, key = certificates.make_certificate(folder, "server", "DNS:localhost,IP:127.0.0.1")
    # so few modules that the warm-up fills the caches
    common = {"MODULES_MAX": "8", "IDLE_TIMEOUT": "20s", "QUEUE_MAX": "5000"}
    (folder / "clear").mkdir()
    (folder / "tls").mkdir()
    with (
        running_server(folder / "clear", dict(common)) as clear,
        running_server(folder / "tls", common | {"TLS_CERT": str(pem), "TLS_KEY": str(key)}) as secured,
    ):
        loads = [Load(clear, first_key(clear), None), Load(secured, first_key(secured), folder / "authority.pem")]
        before = run_for(loads, min(max(seconds // 4, 20), WARM_UP_SECONDS), folder)
        after = run_for(loads, seconds, folder)
    fine = True
    for load, old, new in zip(loads, before, after, strict=True):
        fine = compare(load.server.url, old, new) and fine
        print(f"  answers: {', '.join(f'{kind} {count:,}' for kind, count in sorted(load.done.items()))}")
        missing = [kind.__name__ for kind, _ in load.kinds() if not load.done[kind.__name__]]
        for failure in [f"{kind}: no answer at all" for kind in missing] + load.failures[:10]:
            fine = False
            print(f"  FAILED {failure}")
    return fine


def run_for(loads, seconds, folder):
    """All clients for so long, and wrk at full speed on the first server; what the servers hold after it."""
    for load in loads:
        load.start()
    first = loads[0]
    try:
        port = urllib.parse.urlsplit(first.server.url).port
        fields = {"Authorization": f"Bearer {first.key}", "Content-Type": FORM_TYPE}
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # In parts: what wrk does with its latencies takes the longer the more of them there are.
            done = full_load.wrk(folder, port, path="/execute", connections=FULL_CONNECTIONS,
                                 seconds=min(math.ceil(left), PART_SECONDS), body=form_body(first.echo, b"x" * 1024),
                                 headers=fields)  # fmt: skip
            first.done["full_load"] += done.requests
    finally:
        for load in loads:
            load.stop()
    return [settled(load.server, load) for load in loads]


def first_key(server):
    """The key that a development server makes for itself and says once."""
    said = (server.log.parent / "stdout").read_text()
    return next(word for word in said.split() if word.startswith("ww_"))


if __name__ == "__main__":
    if len(sys.argv) > 2 or not all(word.isdigit() for word in sys.argv[1:]):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="wasmwiz-soak-") as made:
        sys.exit(0 if soak(int((sys.argv + ["60"])[1]), Path(made)) else 1)
