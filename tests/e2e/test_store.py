"""The database behind the program: `wasmwiz migrate`, and two servers with one PostgreSQL that goes and comes back."""

import uuid

import pytest
from services import PASSWORD, QUOTED, SALT
from support import check_answer, connect, execute, lines, wait_until


def test_migrate_takes_the_embedded_database_up_and_down(run_cli, tmp_path):
    env = {"DATA_DIR": tmp_path / "data"}
    assert all(
        "pending" in line
        for line in lines(run_cli(["migrate", "status"], env=env))[:-1]
    )
    steps = lines(run_cli(["migrate", "up"], env=env))
    assert len(steps) > 1
    assert "nothing to do" in lines(run_cli(["migrate", "up"], env=env))[0]
    assert all(
        "applied" in line
        for line in lines(run_cli(["migrate", "status"], env=env))[:-1]
    )
    refused = run_cli(["migrate", "down"], env=env)
    assert refused.returncode == 64
    assert b"--yes" in refused.stderr
    assert len(lines(run_cli(["migrate", "down", "--yes"], env=env))) == 1
    assert (
        len(lines(run_cli(["migrate", "down", "0", "--yes"], env=env)))
        == len(steps) - 1
    )
    assert lines(run_cli(["keys", "list"], env=env))  # by itself up again


@pytest.mark.parametrize(
    "args",
    [[], ["sideways"], ["up", "1"], ["down", "999", "--yes"], ["status", "--yes"]],
)
def test_migrate_refuses_what_it_does_not_know(run_cli, tmp_path, args):
    assert (
        run_cli(["migrate", *args], env={"DATA_DIR": tmp_path / "data"}).returncode
        == 64
    )


def test_postgres_must_be_migrated_first(run_cli, postgres, tmp_path):
    env = {
        "DATABASE_URL": postgres.url,
        "DATA_DIR": tmp_path / "data",
        "SERVER_PORT": "0",
    }
    for command in (["serve"], ["keys", "list"]):
        refused = run_cli(command, env=env)
        assert refused.returncode not in (0, 64)
        assert b"wasmwiz migrate up" in refused.stderr
    lines(run_cli(["migrate", "up"], env=env))
    assert lines(run_cli(["keys", "list"], env=env))


def test_two_servers_share_a_postgres_that_comes_and_goes(
    run_cli, make_server, postgres, guest
):
    env = {"DATABASE_URL": postgres.url, "API_SALT": SALT, "DATABASE_TIMEOUT": "2"}
    lines(run_cli(["migrate", "up"], env=env))
    servers = [make_server(**env), make_server(**env)]

    def new_key():
        name = f"key-{uuid.uuid4().hex[:8]}"
        return name, lines(
            run_cli(["keys", "create", "--name", name, "--tier", "pro"], env=env)
        )[0]

    def status(server, key):
        with connect(server, key) as client:
            return execute(client, server, guest("wat_echo"), b"x").status_code

    def health(server):
        with connect(server) as client:
            return client.get("/health").json()["checks"]["database"]["status"]

    name, key = new_key()
    for server in servers:
        assert QUOTED not in server.log_text() and PASSWORD not in server.log_text()
        assert "postgresql" in server.log_text()
        with connect(server, key) as client:
            assert (
                check_answer(execute(client, server, guest("wat_echo"), b"x"))["output"]
                == "x"
            )
    lines(run_cli(["keys", "revoke", name], env=env))
    assert postgres.ask("SELECT action FROM audit_events ORDER BY id DESC LIMIT 1") == ["key.revoke"]
    assert int(postgres.ask("SELECT count(*) FROM audit_events WHERE action = 'key.create'")[0]) > 0
    for server in servers:
        wait_until(
            lambda here=server: status(here, key) == 401, "a revoked key is refused", 3
        )

    _, key = new_key()
    assert [status(server, key) for server in servers] == [200, 200]
    postgres.crash()
    for server in servers:
        assert status(server, key) == 200, "a key that is known needs no database"
        assert status(server, key[:-1] + ("a" if key[-1] != "a" else "b")) == 503, (
            "of another nothing is known"
        )
        assert health(server) == "failed"
    postgres.start()
    for server in servers:
        wait_until(lambda here=server: health(here) == "ok", "the database is back", 10)
        assert status(server, new_key()[1]) == 200
