"""GET /api/log: the server's lines, as they happen, over HTTP/1.1 and HTTP/2."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.parse
import uuid

import httpx
import pytest
from conftest import running_server
from people import Person, become_admin, check, make_account
from support import connect, execute, resident_bytes, says, wait_until

HANG_SECONDS = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with an administrator and the key of an operator."""
    with running_server(tmp_path_factory.mktemp("log"), {"TRUSTED_PROXIES": "127.0.0.1"}) as server:
        server.operator = operator_key(server)
        yield server


def operator_key(server):
    server.admin = become_admin(server)
    return make_account(server.admin, server, "operator")[0]["key"]


class Follower:
    """An open GET /api/log; its events come from events()."""

    def __init__(self, client, answer):
        self._client = client
        self.answer = answer
        self._lines = answer.iter_lines() if answer.status_code == 200 else None

    def events(self, seconds=HANG_SECONDS):
        """(name, data) as they come, to the end of the stream."""
        end, name = time.monotonic() + seconds, None
        for line in self._lines:
            assert time.monotonic() < end, "what was waited for did not come"
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])
            else:
                assert line == "" or line.startswith(":"), line

    def until(self, **wanted):
        """All lines up to the first with these fields, which is the last of them."""
        lines = []
        for name, data in self.events():
            assert name == "log", (name, data)
            lines.append(data)
            if all(data.get(field) == value for field, value in wanted.items()):
                return lines
        pytest.fail(f"the stream ended before {wanted}; there was {lines}")


@contextlib.contextmanager
def follow(server, key, query="", http2=False):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        httpx.Client(http1=not http2, http2=http2, headers=headers, timeout=60) as client,
        client.stream("GET", f"{server.url}/api/log{query}") as answer,
    ):
        yield Follower(client, answer)


def touch(server, path=None):
    """A request that leaves one line with this path."""
    path = path or f"/{uuid.uuid4().hex}"
    assert httpx.get(server.url + path).status_code == 404
    return path


@pytest.mark.parametrize("http2", [False, True])
def test_an_operator_sees_a_run(site, http2):
    with follow(site, site.operator, http2=http2) as follower:
        assert follower.answer.status_code == 200
        assert follower.answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert follower.answer.headers["content-type"] == "text/event-stream"
        assert follower.answer.headers["cache-control"] == "no-store"
        with connect(site, site.operator) as client:
            answer = execute(client, site, says(b"hello"))
        assert answer.status_code == 200
        request = answer.headers["x-request-id"]
        lines = follower.until(event="run", run_id=request)  # behind the line of its request
        assert lines[-1]["level"] == "info" and lines[-1]["time"].endswith("Z")
        (http,) = [line for line in lines if line.get("request_id") == request]
        assert http["event"] == "http" and http["status"] == 200 and http["path"] == "/execute"
    assert '"event":' not in site.log_text()  # the lines are JSON here, whatever they are there


def test_who_may(site):
    _, user = make_account(site.admin, site, "user")
    check(Person(site)("GET", "/api/log"), 401, "unauthorized")
    check(user("GET", "/api/log"), 403, "forbidden")
    for key in (site.operator, site.admin.http.headers["Authorization"].split()[1]):
        with follow(site, key) as follower:
            assert follower.answer.status_code == 200
    operator = Person(site, site.operator)
    for query in ("level=loud", "level=", "level=INFO", "level=info&level=warn", "level=%00"):
        check(operator("GET", f"/api/log?{query}"), 400, "field_invalid")
    head = check(operator("HEAD", "/api/log"), 200)  # and no stream, which would not end
    assert head.headers["content-type"] == "text/event-stream"
    check(operator("POST", "/api/log"), 405)


def test_levels(site):
    with (
        follow(site, site.operator, "?level=warn") as warnings,
        follow(site, site.operator, "?level=debug") as all_lines,
        follow(site, site.operator, "?level=error") as errors,
    ):
        assert errors.answer.status_code == 200
        path = touch(site)
        check(Person(site, "ww_none")("GET", "/api/auth/me"), 401)
        lines = warnings.until(event="authentication failed")
        assert [line["level"] for line in lines] == ["warn"]
        lines = all_lines.until(event="authentication failed")
        assert path in [line.get("path") for line in lines]
        assert "debug" not in [line["level"] for line in lines]  # LOG_LEVEL is info


def test_sending_a_line_makes_none(make_server):
    server = make_server(LOG_LEVEL="debug")
    key = operator_key(server)
    with (
        follow(server, key, "?level=debug") as first,
        follow(server, key, "?level=debug", http2=True) as second,
    ):
        paths = [touch(server) for _ in range(5)]
        for follower in (first, second):
            assert [line["path"] for line in follower.until(path=paths[-1])] == paths


def test_a_slow_reader_is_told_what_it_lost(make_server):
    server = make_server()
    key = operator_key(server)
    address = urllib.parse.urlsplit(server.url)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(HANG_SECONDS)
        slow.connect((address.hostname, address.port))
        slow.sendall(f"GET /api/log HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        stream = slow.makefile("rb")
        assert stream.readline().startswith(b"HTTP/1.1 200 ")
        path = touch(server, "/" + "x" * 3000)
        before, count = resident_bytes([server.pid]), 6000  # of 3 KiB each, which no buffer of a socket has room for
        with httpx.Client() as client:
            for _ in range(count - 1):
                client.get(server.url + path)
            assert resident_bytes([server.pid]) - before < 4 << 20
            client.get(f"{server.url}/the-end")
        seen, lost = 0, []
        for line in stream:
            if line.startswith(b"data: "):
                data = json.loads(line[6:])
                if "lines" in data:
                    lost.append(data["lines"])
                elif data["path"] == "/the-end":
                    break
                else:
                    assert data["path"] == path
                    seen += 1
        assert lost and seen and seen + sum(lost) == count
        stream.close()


def test_the_17th_waits_until_another_leaves(site):
    def one_more():
        with follow(site, site.operator) as follower:
            return follower.answer.status_code == 200

    wait_until(one_more, "those of earlier tests have left")
    for http2 in (False, True):
        with contextlib.ExitStack() as followers:

            def another(followers=followers, http2=http2):
                follower = followers.enter_context(follow(site, site.operator, http2=http2))
                return follower.answer.status_code == 200

            for _ in range(16):
                wait_until(another, "there is room for 16")
            with follow(site, site.operator) as refused:
                refused.answer.read()
                check(refused.answer, 503, "busy")
                assert refused.answer.headers["retry-after"]
        wait_until(one_more, "there is room when they have left")


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_the_end_of_the_server_does_not_wait_for_followers(make_server, tmp_path, version):
    server = make_server(DRAIN_TIMEOUT="300")
    command = ["curl", "-sSN", version, "-H", f"Authorization: Bearer {operator_key(server)}"]
    with contextlib.ExitStack() as followers:

        def start(level):
            file = followers.enter_context((tmp_path / level).open("wb"))
            address = f"{server.url}/api/log?level={level}"
            return followers.enter_context(subprocess.Popen([*command, address, "-D", f"{tmp_path}/{level}.head"],
                                                            stdout=file))  # fmt: skip

        started = [start(level) for level in ("info", "error")]
        for level in ("info", "error"):
            head = tmp_path / f"{level}.head"
            wait_until(lambda head=head: head.exists() and b" 200 " in head.read_bytes(), "the stream has begun")
        assert server.stop() == 0
        assert [follower.wait(HANG_SECONDS) for follower in started] == [0, 0]  # each came to its end
    assert '"event":"draining"' in (tmp_path / "info").read_text()
    assert (tmp_path / "error").read_text() == ""
