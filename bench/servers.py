"""The servers that are measured, each started on a free port of this machine and stopped by its own process id."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from client import Connection

START_SECONDS = 20
STOP_SECONDS = 20


class BenchError(Exception):
    """Something did not work, so there is nothing to report."""


def environment(**extra):
    """Nothing of the caller's own settings but where things are."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {name: str(value) for name, value in extra.items()}


def start(command, *, folder, env, stdout, stderr):
    """A process in a session of its own: Ctrl-C reaches this program only, which then stops all in order."""
    return subprocess.Popen(
        [str(word) for word in command], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        stdout=stdout, stderr=stderr, start_new_session=True,
    )  # fmt: skip


def end(process, number=signal.SIGTERM):
    """Asks it to end, then makes it end."""
    if process.poll() is None:
        process.send_signal(number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
        return
    process.kill()
    process.wait()


def run(command, *, env=None, timeout=600):
    """Runs a program to its end; its stdout as text."""
    process = start(
        command,
        folder=None,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} did not end within {timeout} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise BenchError(f"{' '.join(map(str, command))}\nended with status {process.returncode}:\n"
                         f"{(out + err).decode(errors='replace')}")  # fmt: skip
    return out.decode()


def on(cpus):
    """What to put before a command so that it stays on these cores; nothing where `cpus` is None."""
    return ["taskset", "-c", ",".join(map(str, cpus))] if cpus else []


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Server:
    """What all have: pid, port, a log; a context manager that stops it."""

    def __init__(self, folder, cpus=None):
        self.folder = Path(folder)
        self.folder.mkdir()
        self.cpus = cpus
        self.port = 0
        self.log = self.folder / "log"
        self._process = None

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self._process:
            end(self._process)
            self._process = None

    def _spawn(self, command, env, stdout):
        with self.log.open("ab") as log, stdout.open("wb") as out:
            self._process = start(
                [*on(self.cpus), *command], folder=self.folder, env=env, stdout=out, stderr=log
            )

    def _wait(self, is_up):
        end_at = time.monotonic() + START_SECONDS
        while not is_up():
            if self._process.poll() is not None or time.monotonic() > end_at:
                raise BenchError(
                    f"{type(self).__name__} did not start:\n{self.log.read_text(errors='replace')}"
                )
            time.sleep(0.01)

    def _answers(self, path, tls=False):
        with contextlib.suppress(OSError), Connection(self.port, tls) as connection:
            return connection.get(path).status == 200
        return False


class Nginx(Server):
    """The yardstick: nginx that answers 200 to everything and does nothing else, with a worker a core."""

    CONFIG = """
daemon off;
pid {folder}/pid;
error_log {folder}/log crit;
worker_processes {cores};
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    server {{
        listen 127.0.0.1:{port} reuseport;
        location / {{ return 200; }}
    }}
}}
"""

    def start(self):
        self.port = free_port()
        config = self.folder / "nginx.conf"
        cores = len(os.sched_getaffinity(0))
        config.write_text(
            self.CONFIG.format(folder=self.folder, cores=cores, port=self.port)
        )
        self._spawn(
            ["nginx", "-c", config, "-e", self.log],
            environment(),
            self.folder / "stdout",
        )
        self._wait(lambda: self._answers("/"))


class WasmWiz(Server):
    """`wasmwiz serve` with a data folder of its own, and a key for it."""

    def __init__(self, folder, program, cpus=None, **settings):
        super().__init__(folder, cpus)
        self._program = program
        usual = {"LOG_LEVEL": "warn", "RATE_LIMITS": "off", "CONNECTIONS_PER_ADDRESS": 0}
        self._env = environment(
            ENVIRONMENT="development",
            DATA_DIR=self.folder / "data",
            SERVER_PORT=0,
            **usual | settings,
        )
        if "DATABASE_URL" in settings:  # the embedded database does it by itself
            run([program, "migrate", "up"], env=self._env)
        self.key = self.new_key("bench")

    def new_key(self, name):
        made = run(
            [self._program, "keys", "create", "--name", name, "--tier", "pro"],
            env=self._env,
        )
        return made.strip()

    def start(self):
        said = self.folder / "stdout"
        self._spawn([self._program, "serve"], self._env, said)
        self._wait(lambda: "listening on" in said.read_text())
        found = re.search(r"listening on http(s?)://\S+:(\d+)\n", said.read_text())
        self.port = int(found[2])
        self._wait(lambda: self._answers("/health/ready", tls=bool(found[1])))
