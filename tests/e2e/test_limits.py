"""Rate limits of the tiers: in one instance, and shared by two through a real Redis."""

import socket
import urllib.parse

import pytest
from support import Crowd, connect, execute, metric, raw_request, wait_until

FREE_PER_MINUTE = 10


def make_key(run_cli, server, name, tier):
    made = run_cli(["keys", "create", "--name", name, "--tier", tier], env={"DATA_DIR": str(server.data_dir)})
    assert made.returncode == 0, made.stderr
    return made.stdout.decode().strip()


@pytest.fixture
def limited(make_server):
    return make_server(RATE_LIMITS="on")


def test_refusals_cost_nothing(limited, run_cli, guest):
    key = make_key(run_cli, limited, "careless", "free")
    with connect(limited, key) as client:
        for _ in range(2 * FREE_PER_MINUTE):
            assert execute(client, limited, b"no module", b"").status_code == 400
            assert execute(client, limited, b"\0asm\1\0\0\0\xff", b"").status_code == 400
        for _ in range(FREE_PER_MINUTE):
            assert execute(client, limited, guest("wat_echo"), b"").status_code == 200

        def refused():
            return execute(client, limited, guest("wat_echo"), b"").status_code == 429

        wait_until(refused, "the limit is met, by a fast machine at once", 60)


def tells_how_it_stands(answer, left):
    """The fields, in both spellings; no reason to wait."""
    headers = answer.headers
    assert headers["RateLimit-Limit"] == headers["X-RateLimit-Limit"] == str(FREE_PER_MINUTE)
    assert int(headers["RateLimit-Remaining"]) == int(headers["X-RateLimit-Remaining"]) >= left
    assert headers["RateLimit-Reset"] == headers["X-RateLimit-Reset"]
    assert "Retry-After" not in headers


def refusals(server, key, guest):
    """Requests of a good key that are refused before a token is taken."""
    with connect(server, key) as client:
        for path in ("/execute", "/execute/stream"):
            parts = [("wasm", ("guest.wasm", guest("wat_echo"))), ("input", (None, b""))]
            yield 400, client.post(path, files=parts[1:])
            yield 400, client.post(path, files=[("nonsense", (None, b""))])
            yield 400, client.post(path, files=[("fuel", (None, b"-1")), *parts])
            yield 400, client.post(path, content=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"})
            yield 400, client.post(path, files=[("wasm", ("guest.wasm", b"no module at all")), parts[1]])
            yield 413, client.post(path, files=[("wasm", ("guest.wasm", b"\0" * 70_000)), parts[1]])
            yield 415, client.post(path, json={})


def every_refusal_tells(server, run_cli, guest):
    key = make_key(run_cli, server, "told", "free")
    for status, answer in refusals(server, key, guest):
        assert answer.status_code == status, answer.text
        tells_how_it_stands(answer, FREE_PER_MINUTE)
    with connect(server, key) as client:
        spent = [execute(client, server, guest("wat_echo"), b"").status_code for _ in range(FREE_PER_MINUTE)]
        assert spent == [200] * FREE_PER_MINUTE, "looking takes nothing"
    for status, answer in refusals(server, key, guest):
        assert answer.status_code == status, answer.text
        tells_how_it_stands(answer, 0)
    with connect(server, "nobody-s-key") as stranger:
        assert "RateLimit-Limit" not in execute(stranger, server, guest("wat_echo"), b"").headers


SMALL = {"RATE_LIMITS": "on", "MAX_WASM_SIZE": "64K"}


def test_refusals_tell_how_the_key_stands(make_server, run_cli, guest):
    every_refusal_tells(make_server(**SMALL), run_cli, guest)


def test_refusals_tell_how_the_key_stands_in_redis(make_server, run_cli, guest, redis):
    server = make_server(**SMALL, REDIS_URL=redis.url)
    with connect(server) as client:
        wait_until(lambda: health(client, server)["status"] == "ok", "limits are shared")
    every_refusal_tells(server, run_cli, guest)


def test_leaving_while_redis_is_asked(make_server, run_cli, guest, redis):
    """Nothing is left of who leaves while it is asked how the key stands."""
    server = make_server(**SMALL, REDIS_URL=redis.url)
    key = make_key(run_cli, server, "leaver", "free")
    address = urllib.parse.urlsplit(server.url)
    bad = raw_request(server, key, b"no module", b"")
    with connect(server, key) as client:
        wait_until(lambda: health(client, server)["status"] == "ok", "limits are shared")
        assert execute(client, server, b"no module", b"").status_code == 400, "the key is known"
        redis.pause()
        for _ in range(20):
            with socket.create_connection((address.hostname, address.port), 10) as leaver:
                leaver.sendall(bad)
        redis.resume()
        answer = execute(client, server, b"no module", b"")
        assert answer.status_code == 400
        tells_how_it_stands(answer, FREE_PER_MINUTE)
        wait_until(lambda: metric(client, server, "wasmwiz_connections") == 1, "nobody is left")
    server.stop()  # it waits for what is under way


def test_runs_at_once(limited, run_cli, guest):
    """A free key has four; a fifth is not let in, and costs no token."""
    key = make_key(run_cli, limited, "busy", "free")
    forever = raw_request(limited, key, guest("wat_forever"), b"", timeout_ms=4000)
    with connect(limited, key) as client:
        with Crowd(limited, [forever] * 4):
            under_way = "wasmwiz_runs_(running|queued)"
            wait_until(lambda: metric(client, limited, under_way) == 4, "four are under way")
            refused = execute(client, limited, guest("wat_echo"), b"")
        assert refused.status_code == 429
        assert refused.json()["error"].startswith("4 executions of this key are under way, which is its limit")
        assert int(refused.headers["Retry-After"]) >= 1
        assert metric(client, limited, "wasmwiz_limit_hits_total", limit="concurrency") == 1
        assert execute(client, limited, guest("wat_echo"), b"").status_code == 200, "they have ended"


def health(client, server):
    return client.get(f"{server.url}/health").json()


def test_two_instances_share_a_limit(make_server, run_cli, guest, redis):
    first = make_server(RATE_LIMITS="on", REDIS_URL=redis.url)
    second = make_server(RATE_LIMITS="on", REDIS_URL=redis.url, DATA_DIR=str(first.data_dir))
    key = make_key(run_cli, first, "shared", "free")
    with connect(first, key) as one, connect(second, key) as other:
        for client, server in ((one, first), (other, second)):
            wait_until(lambda c=client, s=server: health(c, s)["status"] == "ok", "limits are shared")
        codes, began = [], redis.seconds()
        for _ in range(FREE_PER_MINUTE):
            codes.append(execute(one, first, guest("wat_echo"), b"").status_code)
            codes.append(execute(other, second, guest("wat_echo"), b"").status_code)
        most = FREE_PER_MINUTE * (1 + (redis.seconds() - began) / 60)
        assert FREE_PER_MINUTE <= codes.count(200) <= most, codes
        assert codes.count(200) + codes.count(429) == 2 * FREE_PER_MINUTE


def test_redis_gone_and_back(make_server, run_cli, guest, redis):
    """Without Redis the instance counts for itself and says so; it finds back by itself."""
    server = make_server(RATE_LIMITS="on", REDIS_URL=redis.url)
    key = make_key(run_cli, server, "patient", "pro")
    with connect(server, key) as client:
        assert execute(client, server, guest("wat_echo"), b"").status_code == 200
        redis.stop()
        for _ in range(20):
            assert execute(client, server, guest("wat_echo"), b"").status_code == 200
        wait_until(lambda: health(client, server)["status"] == "degraded", "health says degraded")
        assert client.get(f"{server.url}/health/ready").status_code == 200
        redis.start()
        wait_until(lambda: health(client, server)["status"] == "ok", "health is ok again")
        assert execute(client, server, guest("wat_echo"), b"").status_code == 200
