"""How many connections there may be: of one address, and of all when descriptors run out."""

import contextlib
import os
import resource
import select
import socket
import time
import urllib.parse

import httpx
from support import (
    connect,
    cpu_ticks,
    execute,
    is_running,
    make_key,
    metric,
    says,
    wait_until,
)

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"


def dial(server, source=None):
    address = urllib.parse.urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), 10, source and (source, 0))


def answers(s):
    """Whether a request on it gets its answer; False where the server has closed."""
    with contextlib.suppress(ConnectionError):
        s.sendall(REQUEST)
        return s.recv(65536).startswith(b"HTTP/1.1 200 ")
    return False


def answered(crowd):
    """Those that have an answer to read; at least one comes."""
    return select.select(crowd, [], [], 10)[0]


def test_connections_of_one_address(make_server):
    """More than that are closed at once, on whichever loop they come; other addresses and later ones are served."""
    server = make_server(CONNECTIONS_PER_ADDRESS="8", LOOPS="3", SERVER_HOST="0.0.0.0")
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    with contextlib.ExitStack() as opened:
        kept = [opened.enter_context(dial(server, "127.0.0.2")) for _ in range(8)]
        assert all(answers(s) for s in kept)
        for _ in range(100):
            with dial(server, "127.0.0.2") as s:
                assert not answers(s)
        assert all(answers(s) for s in kept)
        with dial(server, "127.0.0.3") as s:
            assert answers(s)
        kept[0].close()

        def is_served():
            with dial(server, "127.0.0.2") as s:
                return answers(s)

        wait_until(is_served, "the place of the closed one is free")
    with connect(server) as client:
        assert metric(client, server, "wasmwiz_connections_refused_total") >= 100
    said = [line for line in server.log_text().splitlines() if "connections were refused" in line]
    assert said and "127.0.0.2" in said[0]
    assert len(said) < 20


def test_a_trusted_proxy_has_many_connections(make_server):
    server = make_server(CONNECTIONS_PER_ADDRESS="2", TRUSTED_PROXIES="127.0.0.1")
    with contextlib.ExitStack() as opened:
        assert all(answers(opened.enter_context(dial(server))) for _ in range(20))


def test_running_out_of_descriptors(make_server, run_cli):
    """What can't be accepted waits, without a busy loop, and is served when descriptors are free."""
    server = make_server()
    key = make_key(run_cli, server)
    with connect(server, key) as client:
        assert execute(client, server, says(b"before")).json()["output"] == "before"
    highest = max(int(fd) for fd in os.listdir(f"/proc/{server.pid}/fd"))
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (highest + 4, hard))
    with contextlib.ExitStack() as opened:
        crowd = [opened.enter_context(dial(server)) for _ in range(100)]
        for s in crowd:
            s.sendall(REQUEST)
        wait_until(lambda: "cannot accept a connection" in server.log_text(), "descriptors run out")
        before = cpu_ticks(server.pid)
        time.sleep(2)
        assert cpu_ticks(server.pid) - before < 60, "it waits without working"
        served = answered(crowd)
        assert 0 < len(served) < len(crowd)
        assert all(s.recv(65536).startswith(b"HTTP/1.1 200 ") for s in served)
        assert all(answers(s) for s in served)
        assert is_running(server.pid)
        waiting = list(set(crowd) - set(served))
        while waiting:
            for s in served:
                s.close()
            served = answered(waiting)
            assert served, "those that wait are served"
            assert all(s.recv(65536).startswith(b"HTTP/1.1 200 ") for s in served)
            waiting = list(set(waiting) - set(served))
    assert server.log_text().count("cannot accept a connection") < 200
    with connect(server, key) as client:
        wait_until(lambda: execute(client, server, says(b"after")).json()["output"] == "after", "it runs guests")
    assert httpx.get(f"{server.url}/health/live").status_code == 200
