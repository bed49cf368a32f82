"""Rate limits of the tiers: in one instance, and shared by two through a real Redis."""

import shutil
import socket
import subprocess
import time

import pytest
from support import connect, execute, metric, wait_until

FREE_PER_MINUTE = 10


def make_key(run_cli, server, name, tier):
    made = run_cli(["keys", "create", "--name", name, "--tier", tier], env={"DATA_DIR": str(server.data_dir)})
    assert made.returncode == 0, made.stderr
    return made.stdout.decode().strip()


@pytest.fixture
def limited(make_server):
    return make_server(RATE_LIMITS="on")


def test_u05_free_key(limited, run_cli, guest):
    """Ten runs in a minute are fine, the eleventh is told when to come again, and then is fine; others notice nothing."""
    free = make_key(run_cli, limited, "free", "free")
    basic = make_key(run_cli, limited, "basic", "basic")
    with connect(limited, free) as client:
        for n in range(FREE_PER_MINUTE):
            reply = execute(client, limited, guest("wat_echo"), b"again")
            assert reply.status_code == 200, reply.text
            assert reply.headers["RateLimit-Limit"] == reply.headers["X-RateLimit-Limit"] == str(FREE_PER_MINUTE)
            assert int(reply.headers["RateLimit-Remaining"]) <= FREE_PER_MINUTE - n
        refused = execute(client, limited, guest("wat_echo"), b"once too often")
        assert refused.status_code == 429
        body = refused.json()
        assert body["code"] == "rate_limited" and body["output"] == "" and str(FREE_PER_MINUTE) in body["error"]
        assert refused.headers["RateLimit-Remaining"] == "0"
        assert metric(client, limited, "wasmwiz_errors_total", code="rate_limited") == 1
        with connect(limited, basic) as other:
            assert execute(other, limited, guest("wat_echo"), b"me").status_code == 200
        time.sleep(int(refused.headers["Retry-After"]))
        assert execute(client, limited, guest("wat_echo"), b"now").status_code == 200


def test_refusals_cost_nothing(limited, run_cli, guest):
    key = make_key(run_cli, limited, "careless", "free")
    with connect(limited, key) as client:
        for _ in range(2 * FREE_PER_MINUTE):
            assert execute(client, limited, b"no module", b"").status_code == 400
            assert execute(client, limited, b"\0asm\1\0\0\0\xff", b"").status_code == 400
        for _ in range(FREE_PER_MINUTE):
            assert execute(client, limited, guest("wat_echo"), b"").status_code == 200
        assert execute(client, limited, guest("wat_echo"), b"").status_code == 429


@pytest.fixture
def redis(tmp_path):
    """start() and stop() a Redis of one's own; url."""
    program = shutil.which("redis-server")
    if not program:
        pytest.skip("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    class Redis:
        url = f"redis://127.0.0.1:{port}"
        process = None

        def start(self):
            command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            self.process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
            wait_until(self.answers, "redis answers")

        def answers(self):
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as s:
                    s.sendall(b"PING\r\n")
                    return s.recv(16).startswith(b"+PONG")
            except OSError:
                return False

        def stop(self):
            if self.process:
                self.process.kill()
                self.process.wait()
                self.process = None

    server = Redis()
    server.start()
    yield server
    server.stop()


def health(client, server):
    return client.get(f"{server.url}/health").json()


def test_two_instances_share_a_limit(make_server, run_cli, guest, redis):
    first = make_server(RATE_LIMITS="on", REDIS_URL=redis.url)
    second = make_server(RATE_LIMITS="on", REDIS_URL=redis.url, DATA_DIR=str(first.data_dir))
    key = make_key(run_cli, first, "shared", "free")
    with connect(first, key) as one, connect(second, key) as other:
        for client, server in ((one, first), (other, second)):
            wait_until(lambda c=client, s=server: health(c, s)["status"] == "ok", "limits are shared")
        codes = []
        for _ in range(FREE_PER_MINUTE):
            codes.append(execute(one, first, guest("wat_echo"), b"").status_code)
            codes.append(execute(other, second, guest("wat_echo"), b"").status_code)
        # a token comes back every six seconds: the loop may be slow, but not by more than two of them
        assert FREE_PER_MINUTE <= codes.count(200) <= FREE_PER_MINUTE + 2, codes
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
