"""Real servers, keys, guests and the command line, for the tests of this folder.

`make test` builds what they need. WASMWIZ names another program than build/wasmwiz."""

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from services import running_postgres, running_redis

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("WASMWIZ", str(ROOT / "build" / "wasmwiz"))
GUESTS = ROOT / "tests" / "guests" / "out"
START_SECONDS = 20
STOP_SECONDS = 20


def environment(extra):
    """Nothing of the caller's own settings; values of None are left out."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "ASAN_OPTIONS") if name in os.environ}
    given = {name: str(value) for name, value in extra.items() if value is not None}
    # all clients of a test come from one address, and the machine may be a busy one
    unlimited = {"RATE_LIMITS": "off", "CONNECTIONS_PER_ADDRESS": "0", "COMPILE_TIMEOUT": "20"}
    return kept | {"ENVIRONMENT": "development"} | unlimited | given


class Server:
    """A `wasmwiz serve` of its own: url, pid, data_dir, log (a file with its stderr)."""

    def __init__(self, folder, env):
        self.data_dir = Path(env.get("DATA_DIR", folder / "data"))
        self.log = folder / "server.log"
        self._folder = folder
        self._env = {"SERVER_HOST": "127.0.0.1", "SERVER_PORT": "0"} | env | {"DATA_DIR": str(self.data_dir)}
        self.start()

    def start(self):
        """Starts it (again, after stop() or kill()) and waits for the line "listening on URL" on its stdout."""
        stdout = self._folder / "stdout"
        with stdout.open("wb") as out, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve"],
                cwd=self._folder,
                env=environment(self._env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )
        self.pid = self._process.pid
        end = time.monotonic() + START_SECONDS
        while not (found := re.search(r"^listening on (https?://\S+)\n", stdout.read_text(), re.MULTILINE)):
            if not self.is_running() or time.monotonic() > end:
                self.kill()
                pytest.fail(f"the server did not start; it said:\n{stdout.read_text()}{self.log_text()}")
            time.sleep(0.02)
        self.url = found[1]

    def log_text(self):
        return self.log.read_text(errors="replace")

    def is_running(self):
        return self._process.poll() is None

    def stop(self):
        """SIGTERM; its exit status, which is negative where a signal ended it. Fine when it is gone already."""
        if self.is_running():
            self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds=STOP_SECONDS):
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the server did not end within {seconds} s; its log ends with:\n{self.log_text()[-4000:]}")

    def kill(self):
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def running_server(folder, env):
    """A server that has to end well, unless the test ended it itself."""
    server = Server(folder, env)
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    if server.is_running():
        status = server.stop()
        assert status == 0, f"the server ended with {status}; its log ends with:\n{server.log_text()[-4000:]}"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The server that most tests share; a test that harms it takes make_server()."""
    with running_server(tmp_path_factory.mktemp("server"), {}) as shared:
        yield shared


@pytest.fixture
def make_server(tmp_path_factory):
    """make_server(SERVER_PORT="0", ...): a server of the test's own, with these variables set."""
    with contextlib.ExitStack() as servers:
        yield lambda **env: servers.enter_context(running_server(tmp_path_factory.mktemp("server"), env))


@pytest.fixture
def postgres():
    """A PostgreSQL of the test's own: url, start(), crash(), ask()."""
    with running_postgres() as database:
        yield database


@pytest.fixture
def redis():
    """A Redis of the test's own: url, start(), stop(), seconds()."""
    with running_redis() as counters:
        yield counters


@pytest.fixture(scope="session")
def run_cli(tmp_path_factory):
    """run_cli(["run", "x.wasm"], b"input", env={...}): a finished process with bytes in stdout and stderr."""

    folder = tmp_path_factory.mktemp("cli")

    def run(args, input=b"", env=None, timeout=60, cwd=folder):
        command = [PROGRAM, *(str(arg) for arg in args)]
        return subprocess.run(
            command, input=input, env=environment(env or {}), capture_output=True, timeout=timeout, cwd=cwd
        )

    return run


@pytest.fixture(scope="session")
def key(server, run_cli):
    """An API key of the shared server."""
    made = run_cli(["keys", "create", "--name", "tests", "--tier", "pro"], env={"DATA_DIR": server.data_dir})
    assert made.returncode == 0, made.stderr
    return made.stdout.decode().strip()


@pytest.fixture(scope="session")
def guest():
    """guest("c_echo"): the bytes of that guest."""

    def read(name):
        return (GUESTS / f"{name}.wasm").read_bytes()

    return read


@pytest.fixture(scope="session")
def client(server, key):
    """An HTTP client of the shared server that sends its key."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as opened:
        yield opened
