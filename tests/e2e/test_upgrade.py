"""A new binary takes over the listening sockets while clients go on."""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import threading

import certificates
import httpx
import pytest
from support import form, is_running, make_key, wait_until


def serving_pid(server):
    with contextlib.suppress(OSError, ValueError):
        return int(pathlib.Path(server.data_dir, "wasmwiz.pid").read_text())
    return None


class Client(threading.Thread):
    """Runs a guest again and again over connections that it keeps as long as the server lets it."""

    def __init__(self, server, key, body, kind, stop):
        super().__init__()
        self.address = server.url.removeprefix("http://")
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        self.body, self.stop, self.answered, self.failures = body, stop, 0, []

    def run(self):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        while not self.stop.is_set():
            try:
                connection.request("POST", "/execute", self.body, self.headers)
                reply = connection.getresponse()
                text = reply.read()
                if reply.status == 200:
                    self.answered += 1
                else:
                    self.failures.append((reply.status, text))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()


class Caller(threading.Thread):
    """Asks the redirect listener again and again, over a connection of its own each time."""

    def __init__(self, port, stop):
        super().__init__()
        self.port, self.stop, self.answered, self.failures = port, stop, 0, []

    def run(self):
        while not self.stop.is_set():
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request("GET", "/health/live")
                reply = connection.getresponse()
                assert reply.status == 308 and reply.getheader("Location", "").startswith("https://")
                self.answered += 1
                connection.close()
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failures.append(repr(error))


@pytest.fixture
def make_upgraded(make_server):
    """make_server() for servers whose successors are ended with them."""
    servers = []

    def make(**env):
        servers.append(make_server(**env))
        return servers[-1]

    yield make
    for server in servers:
        pid = serving_pid(server)
        if pid and pid != server.pid:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda pid=pid: not is_running(pid), "the successor ends")


def upgrade(server, run_cli):
    """Replaces what serves now; returns the new process."""
    first = serving_pid(server)
    result = run_cli(["upgrade"], env={"DATA_DIR": str(server.data_dir)})
    assert result.returncode == 0, result.stderr
    assert serving_pid(server) != first
    return serving_pid(server)


def test_no_request_is_lost(make_upgraded, run_cli, guest):
    upgraded = make_upgraded()
    key = make_key(run_cli, upgraded)
    request = httpx.Request("POST", upgraded.url, files=form(guest("wat_echo"), b"still here"))
    body, kind = request.read(), request.headers["Content-Type"]
    stop = threading.Event()
    clients = [Client(upgraded, key, body, kind, stop) for _ in range(8)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: all(client.answered > 20 for client in clients), "the load runs")
        upgrade(upgraded, run_cli)
        before = [client.answered for client in clients]
        wait_until(lambda: all(client.answered > n + 20 for client, n in zip(clients, before, strict=True)), "the load goes on")
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert [failure for client in clients for failure in client.failures] == []
    wait_until(lambda: not upgraded.is_running(), "the old process ends")


def test_no_redirect_is_lost(make_upgraded, run_cli, tmp_path):
    """The listener that sends http:// to https:// is handed over, too: twice, because a successor has its own."""
    certificates.make_authority(tmp_path)
    pem, key = certificates.make_certificate(tmp_path, "server", "DNS:localhost,IP:127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = make_upgraded(TLS_CERT=pem, TLS_KEY=key, REDIRECT_PORT=str(port))
    stop = threading.Event()
    callers = [Caller(port, stop) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        wait_until(lambda: all(caller.answered > 20 for caller in callers), "the load runs")
        second = upgrade(server, run_cli)
        wait_until(lambda: not server.is_running(), "the first process ends")
        upgrade(server, run_cli)
        wait_until(lambda: not is_running(second), "the second process ends")
        before = [caller.answered for caller in callers]
        wait_until(
            lambda: all(caller.answered > n + 20 for caller, n in zip(callers, before, strict=True)), "the load goes on"
        )
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert [failure for caller in callers for failure in caller.failures] == []


def test_upgrade_without_a_server(run_cli, tmp_path):
    result = run_cli(["upgrade"], env={"DATA_DIR": str(tmp_path)})
    assert result.returncode == 1
    assert b"no server" in result.stderr
