"""A new binary takes over the listening sockets while clients go on."""

import contextlib
import http.client
import os
import pathlib
import signal
import threading

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


@pytest.fixture
def upgraded(make_server):
    """A server whose successors are ended with it."""
    server = make_server()
    yield server
    pid = serving_pid(server)
    if pid and pid != server.pid:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_running(pid), "the successor ends")


def test_no_request_is_lost(upgraded, run_cli, guest):
    key = make_key(run_cli, upgraded)
    request = httpx.Request("POST", upgraded.url, files=form(guest("wat_echo"), b"still here"))
    body, kind = request.read(), request.headers["Content-Type"]
    stop = threading.Event()
    clients = [Client(upgraded, key, body, kind, stop) for _ in range(8)]
    for client in clients:
        client.start()
    first = serving_pid(upgraded)
    try:
        wait_until(lambda: all(client.answered > 20 for client in clients), "the load runs")
        result = run_cli(["upgrade"], env={"DATA_DIR": str(upgraded.data_dir)})
        assert result.returncode == 0, result.stderr
        second = serving_pid(upgraded)
        assert second != first
        before = [client.answered for client in clients]
        wait_until(lambda: all(client.answered > n + 20 for client, n in zip(clients, before, strict=True)), "the load goes on")
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert [failure for client in clients for failure in client.failures] == []
    wait_until(lambda: not upgraded.is_running(), "the old process ends")


def test_upgrade_without_a_server(run_cli, tmp_path):
    result = run_cli(["upgrade"], env={"DATA_DIR": str(tmp_path)})
    assert result.returncode == 1
    assert b"no server" in result.stderr
