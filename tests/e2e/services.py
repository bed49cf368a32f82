"""The services that several instances share, real ones on free ports, to be killed and started again."""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from support import wait_until

SALT = "a salt of the tests"
PASSWORD = "p@ss/w:rd"
QUOTED = "p%40ss%2Fw%3Ard"
LOCAL = "127.0.0.1"


def free_port():
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def service_folder():
    """A folder outside of pytest's own, which only its owner may enter: PostgreSQL runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="wasmwiz-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Postgres:
    """A PostgreSQL of its own; as root it runs as another user, which it insists on."""

    def __init__(self, folder):
        binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not binaries:
            pytest.skip("there is no PostgreSQL here (Debian package postgresql)")
        self._bin = binaries[-1]
        self._folder = folder
        self._process = None
        self._user = {}
        if os.geteuid() == 0:
            names = [user.pw_name for user in pwd.getpwall()]
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ["-A", "scram-sha-256", "-U", "wasmwiz", "-E", "UTF8", "--locale=C", "--no-sync"]
        command = [f"{self._bin}/initdb", "-D", "data", f"--pwfile={password}", *options]
        subprocess.run(command, cwd=folder, capture_output=True, check=True, **self._user)
        self.port = free_port()
        self.url = f"postgresql://wasmwiz:{QUOTED}@{LOCAL}:{self.port}/postgres"
        self.start()

    def start(self):
        command = [f"{self._bin}/postgres", "-D", "data", "-F", "-h", LOCAL, "-p", str(self.port), "-k", "."]

        def answers():
            # what a killed one has left may still hold its memory: it ends then, and is tried again
            if self._process is None or self._process.poll() is not None:
                with (self._folder / "log").open("ab") as log:
                    self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._user)
            ready = [f"{self._bin}/pg_isready", "-q", "-h", LOCAL, "-p", str(self.port)]
            return subprocess.run(ready).returncode == 0

        wait_until(answers, "PostgreSQL answers", 30)

    def crash(self, how=signal.SIGQUIT):
        """Ends it at once; with SIGKILL its processes find out by themselves. Fine when it is gone already."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def ask(self, sql):
        """The lines of psql's answer."""
        command = ["psql", self.url, "-At", "-c", sql]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()


class Redis:
    """A Redis of its own that keeps nothing on disk."""

    def __init__(self, folder, env=None):
        self._program = shutil.which("redis-server")
        if not self._program:
            pytest.skip("redis-server is not installed")
        self._folder = folder
        self._env = os.environ | (env or {})
        self._process = None
        self._port = free_port()
        self.url = f"redis://{LOCAL}:{self._port}"
        self.start()

    def start(self):
        command = [self._program, "--port", str(self._port), "--bind", LOCAL, "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, cwd=self._folder, env=self._env, stdout=subprocess.DEVNULL)
        wait_until(self._answers, "redis answers")

    def _answers(self):
        try:
            with socket.create_connection((LOCAL, self._port), 1) as s:
                s.sendall(b"PING\r\n")
                return s.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def seconds(self):
        """Its clock."""
        with socket.create_connection((LOCAL, self._port), 5) as s, s.makefile("rb") as reply:
            s.sendall(b"TIME\r\n")
            _, _, seconds, _, microseconds = (reply.readline().strip() for _ in range(5))
        return int(seconds) + int(microseconds) / 1e6

    def pause(self):
        """It keeps its connections and says nothing, until resume()."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def stop(self):
        """SIGKILL. Fine when it is gone already."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_postgres():
    with service_folder() as folder:
        database = Postgres(folder)
        try:
            yield database
        finally:
            database.crash()


@contextlib.contextmanager
def running_redis(env=None):
    with service_folder() as folder:
        redis = Redis(folder, env)
        try:
            yield redis
        finally:
            redis.stop()
