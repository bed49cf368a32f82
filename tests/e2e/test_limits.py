"""Rate limits of the tiers: in one instance, and shared by two through a real Redis."""

import pytest
from support import connect, execute, wait_until

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
