"""`wasmwiz admin`: accounts from the command line."""

import os
import pty
import re
import subprocess
import time

import pytest
from conftest import PROGRAM, environment
from support import connect, execute

PASSWORD = "correct horse battery"


@pytest.fixture
def env(tmp_path):
    return {"DATA_DIR": tmp_path / "data"}


def create(run_cli, env, email, *flags, password=PASSWORD):
    return run_cli(["admin", "create", email, "--password-stdin", *flags], password.encode() + b"\n", env=env)


def accounts(run_cli, env):
    """{email: (role, tier, state)}"""
    done = run_cli(["admin", "list"], env=env)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.decode().splitlines()[1:]]
    return {row[-1]: (row[1], row[2], row[3]) for row in rows}


def test_create_list_role_password(run_cli, env):
    assert accounts(run_cli, env) == {}
    made = create(run_cli, env, "root@example.org")
    assert made.returncode == 0, made.stderr
    assert PASSWORD not in (made.stdout + made.stderr).decode()
    assert re.fullmatch(rb"ww_[0-9A-Za-z]{40}\n", made.stdout), "its key, and nothing else"
    assert made.stdout.strip() not in made.stderr and b"root@example.org" in made.stderr
    assert create(run_cli, env, "some@example.org", "--role", "user", "--tier", "basic").returncode == 0
    assert accounts(run_cli, env) == {
        "root@example.org": ("admin", "free", "active"),
        "some@example.org": ("user", "basic", "active"),
    }
    assert create(run_cli, env, "ROOT@example.org").returncode == 1, "it is taken"
    assert run_cli(["admin", "role", "some@example.org", "operator"], env=env).returncode == 0
    assert accounts(run_cli, env)["some@example.org"][0] == "operator"
    last = run_cli(["admin", "role", "root@example.org", "user"], env=env)
    assert last.returncode == 1, "the last administrator stays"
    assert accounts(run_cli, env)["root@example.org"][0] == "admin"
    changed = run_cli(["admin", "password", "root@example.org", "--password-stdin"], b"another password\n", env=env)
    assert changed.returncode == 0, changed.stderr
    assert b"another password" not in changed.stdout + changed.stderr
    assert run_cli(["admin", "role", "nobody@example.org", "admin"], env=env).returncode == 1


def test_the_printed_key_is_the_account_s_first(run_cli, make_server, guest):
    server = make_server()
    env = {"DATA_DIR": str(server.data_dir)}
    key = create(run_cli, env, "root@example.org").stdout.decode().strip()
    listed = run_cli(["keys", "list"], env=env).stdout.decode().splitlines()[1:]
    mine = [line for line in listed if line.endswith(" default")]
    assert len(mine) == 1 and key[:12] in mine[0], "the account has one, and it is this"
    with connect(server, key) as client:
        assert client.get("/api/auth/me").json()["email"] == "root@example.org"
        assert execute(client, server, guest("wat_echo"), b"x").status_code == 200
    assert key not in server.log_text()


@pytest.mark.parametrize(
    ("email", "password"),
    [("no address", PASSWORD), ("a@b", "short"), ("a@b", ""), ("a@b", "x" * 257), ("a@b", "x" * 5000)],
)
def test_bad_ones_are_refused(run_cli, env, email, password):
    done = create(run_cli, env, email, password=password)
    assert done.returncode == 1 and done.stdout == b"", "no key without an account"
    assert len(done.stderr.splitlines()) == 1
    assert accounts(run_cli, env) == {}


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["create"],
        ["create", "a@b", "--role", "king"],
        ["role", "a@b"],
        ["role", "a@b", "king"],
        ["list", "all"],
        ["password"],
        ["sideways"],
    ],
)
def test_wrong_usage(run_cli, env, args):
    assert run_cli(["admin", *args], env=env).returncode == 64


def on_terminal(env, args, answers):
    """Runs the command with a terminal of its own; all that the terminal showed, and the exit status."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(PROGRAM, [PROGRAM, *args], environment(env))
    shown, waiting = b"", list(answers)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if waiting and shown.endswith(b": "):
            time.sleep(0.2)  # the prompt is there before the terminal is silent
            os.write(terminal, waiting.pop(0))
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_password_on_the_terminal(run_cli, env):
    line = PASSWORD.encode() + b"\n"
    shown, status = on_terminal(env, ["admin", "create", "root@example.org"], [line, line])
    assert status == 0, shown
    assert PASSWORD not in shown, "it is not echoed"
    assert "root@example.org" in accounts(run_cli, env)
    for answers in ([line, b"something else\n"], [b"\x03\n"], [b"short\n"]):
        shown, status = on_terminal(env, ["admin", "create", "other@example.org"], answers)
        assert status == 1, shown
    assert list(accounts(run_cli, env)) == ["root@example.org"]


def test_without_a_terminal_it_says_what_to_do(run_cli, env):
    done = subprocess.run(
        [PROGRAM, "admin", "create", "root@example.org"],
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        start_new_session=True,
    )
    assert done.returncode == 1
    assert b"--password-stdin" in done.stderr
