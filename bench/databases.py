"""A PostgreSQL and a Redis of one's own, with their data in a folder that goes with them."""

import glob
import os
import pwd
import signal
import socket
import subprocess

from servers import BenchError, Server, environment, free_port, run


class Redis(Server):
    def start(self):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        command = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._spawn(command, environment(), self.folder / "stdout")
        self._wait(self._pongs)

    def _pongs(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(b"PING\r\n")
                return s.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Postgres(Server):
    """As its packages set it up: what is committed is on the disk. It refuses to run as root, so there it is started as
    another user."""

    def __init__(self, folder):
        super().__init__(folder)
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found:
            raise BenchError("there is no PostgreSQL here: run `scripts/setup bench`")
        self._programs = found[-1]
        self._as = []
        if os.geteuid() == 0:
            names = [user.pw_name for user in pwd.getpwall()]
            name = "postgres" if "postgres" in names else "nobody"
            user = pwd.getpwnam(name)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.folder.parent.chmod(0o711)  # the way to its own folder; what else is there stays hidden
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def start(self):
        self.port = free_port()
        self.url = f"postgresql://bench@127.0.0.1:{self.port}/postgres"
        data = self.folder / "data"
        run([*self._as, f"{self._programs}/initdb", "-D", data, "-A", "trust", "-U", "bench", "-E", "UTF8",
             "--locale=C"])  # fmt: skip
        self._spawn([*self._as, f"{self._programs}/postgres", "-D", data, "-h", "127.0.0.1", "-p", self.port,
                     "-k", self.folder, "-c", "min_wal_size=1GB"], environment(), self.folder / "stdout")  # fmt: skip
        self._wait(lambda: self._ready() == 0)
        self._age()

    def _age(self):
        """A server that has run for a while has its memory, and writes its log into files that it had before; a new one
        has yet to make them, which costs as much as what is written."""
        self.sql(
            "CREATE TABLE aging (text TEXT);"
            "INSERT INTO aging SELECT repeat('x', 1000) FROM generate_series(1, 600000);"
            "DROP TABLE aging; CHECKPOINT"
        )

    def _ready(self):
        command = [f"{self._programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, stdin=subprocess.DEVNULL).returncode

    def sql(self, text):
        run([f"{self._programs}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url, "-c", text])

    def stop(self):
        if self._process:  # at once, without waiting for its clients
            self._process.send_signal(signal.SIGINT)
        super().stop()
