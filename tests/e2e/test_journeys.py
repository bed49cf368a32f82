"""What the whole is accepted by: the ways of the people who use it, from beginning to end, each in one test. What stands
at their single steps has tests of its own: test_operations.py, test_identity.py, test_limits.py, test_usage.py."""

import json
import re
import time

from people import become_admin, check, make_account
from services import SALT
from support import (
    LONG,
    Crowd,
    assemble,
    check_answer,
    connect,
    execute,
    lines,
    metric,
    metrics,
    raw_request,
    wait_until,
)

PROXY = {"TRUSTED_PROXIES": "127.0.0.1"}  # so that each Person is a client with an address of its own


def test_u01_first_run(run_cli, make_server, postgres, tmp_path):
    """The same with the embedded database: test_first_run."""
    env = {"ENVIRONMENT": "production", "DATABASE_URL": postgres.url, "API_SALT": SALT}
    assert lines(run_cli(["migrate", "up"], env=env))
    server = make_server(**env)
    with connect(server) as client:
        for path in ("/health/live", "/health/ready", "/health"):
            wait_until(lambda p=path: client.get(p).status_code == 200, path)
        assert client.get("/health").json()["checks"]["database"]["status"] == "ok"
    assert server.stop() == 0
    refused = run_cli(["serve"], env=env | {"API_SALT": "8letters", "DATA_DIR": tmp_path / "data", "SERVER_PORT": "0"})
    assert refused.returncode == 78
    said = refused.stderr.decode()
    assert "API_SALT" in said and "16" in said and "8letters" not in said


def test_u02_get_a_key_and_run(make_server, guest):
    """By the API: who has an account makes a key and runs."""
    server = make_server(RATE_LIMITS="on", **PROXY)
    _, person = make_account(become_admin(server), server, tier="free")
    made = check(person("POST", "/api/auth/keys", {"name": "mine"}), 201).json()
    with connect(server, made["key"]) as client:
        answer = execute(client, server, guest("c_echo"), b"hello")
        body = check_answer(answer)
        assert (answer.status_code, body["output"], body["error"]) == (200, "hello", None)
        assert answer.headers["RateLimit-Limit"] == answer.headers["X-RateLimit-Limit"] == "10"
        assert int(answer.headers["RateLimit-Remaining"]) == 9
        (row,) = wait_until(lambda: client.get("/api/usage/runs").json()["runs"], "the row")
    assert (row["run_id"], row["key_id"], row["cause"]) == (body["request_id"], made["id"], "ok")


def test_u05_rate_limit(make_server, guest):
    server = make_server(RATE_LIMITS="on", **PROXY)
    admin = become_admin(server)
    free, basic = (make_account(admin, server, tier=tier)[0]["key"] for tier in ("free", "basic"))
    with connect(server, free) as client, connect(server, basic) as other:
        for n in range(10):
            answer = execute(client, server, guest("wat_echo"))
            assert answer.status_code == 200, answer.text
            assert answer.headers["RateLimit-Limit"] == answer.headers["X-RateLimit-Limit"] == "10"
            assert int(answer.headers["RateLimit-Remaining"]) >= 9 - n

        def refusal():
            asked = execute(client, server, guest("wat_echo"))
            return asked.status_code == 429 and asked

        refused = wait_until(refusal, "the eleventh, on a slow machine one later, is refused", 60)
        body = refused.json()
        assert body["code"] == "rate_limited" and body["output"] == "" and "10 a minute" in body["error"]
        assert refused.headers["RateLimit-Remaining"] == "0" and 1 <= int(refused.headers["Retry-After"]) <= 6
        assert execute(other, server, guest("wat_echo")).status_code == 200
        time.sleep(int(refused.headers["Retry-After"]))
        assert execute(client, server, guest("wat_echo")).status_code == 200
        assert metric(client, server, "wasmwiz_limit_hits_total", limit="minute") == 1


def test_u07_key_life(make_server, guest):
    server = make_server(**PROXY)
    _, person = make_account(become_admin(server), server)
    made = check(person("POST", "/api/auth/keys", {"name": "build"}), 201).json()
    secret = made["key"]
    assert re.fullmatch(r"ww_[0-9A-Za-z]{40}", secret) and secret.startswith(made["prefix"])
    listed = check(person("GET", "/api/auth/keys"), 200)
    assert [key["name"] for key in listed.json()["keys"]] == ["build", "default"]
    assert secret not in listed.text and set(listed.json()["keys"][0]) == {
        "id", "name", "prefix", "created_at", "expires_at", "last_used_at", "revoked_at"}  # fmt: skip
    with connect(server, secret) as client:
        assert execute(client, server, guest("wat_echo")).status_code == 200
        check(person("DELETE", f"/api/auth/keys/{made['id']}"), 204)
        assert execute(client, server, guest("wat_echo")).status_code == 401  # at once
        check(client.get("/api/auth/me"), 401, "unauthorized")
    assert person("GET", "/api/auth/keys").json()["keys"][0]["revoked_at"]
    check(person("DELETE", f"/api/auth/keys/{made['id']}"), 204)  # again: nothing to do
    check(person("PATCH", f"/api/auth/keys/{made['id']}", {"name": "back"}), 404)
    check(person("POST", "/api/auth/keys", {"name": "build"}), 201)  # the name is free again


def test_u16_operations(run_cli, make_server, postgres):
    env = {"ENVIRONMENT": "production", "DATABASE_URL": postgres.url, "API_SALT": SALT, "EXECUTION_TIMEOUT": "60"}
    for args in (["up"], ["down", "0", "--yes"], ["up"]):
        lines(run_cli(["migrate", *args], env=env))
    key = lines(run_cli(["keys", "create", "--name", "operator", "--tier", "pro"], env=env))[0]
    server = make_server(**env)
    with Crowd(server, [raw_request(server, key, assemble(LONG))]) as crowd:
        with connect(server) as client:
            assert client.get("/health").json()["status"] == "ok"
            wait_until(lambda: metric(client, server, "wasmwiz_runs_running") == 1, "the run has begun")
            assert {name for name, _ in metrics(client, server)} > {"wasmwiz_sandboxes_died_total"}
        assert server.stop() == 0
    (reply,) = crowd.replies
    assert (reply.status, reply.body["output"]) == (200, "done")
    request_id = reply.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", request_id) and reply.body["request_id"] == request_id
    told = [json.loads(line) for line in server.log_text().splitlines()]
    assert {line["event"] for line in told if request_id in (line.get("request_id"), line.get("run_id"))} == {"run", "http"}
