"""The command line: `wasmwiz run` in all its forms, and what the other commands promise."""

import hashlib
import json
import re
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import PROGRAM
from support import (
    ARGUMENTS,
    ENVIRONMENT,
    RANDOM,
    assemble,
    descendants,
    resident_bytes,
    says,
)

HOSTILE = Path(__file__).parents[1] / "guests" / "hostile"
COMMANDS = [[], ["run"], ["serve"], ["doctor"], ["version"], ["keys"], ["keys", "create"], ["keys", "list"], ["keys", "revoke"]]


@pytest.fixture
def module(tmp_path):
    """Writes a module to a file; its path as a string."""

    def write(content, name="guest.wasm"):
        file = tmp_path / name
        file.write_bytes(content)
        return str(file)

    return write


# --- the guest's streams ------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"hello\n", bytes(range(256)) * 4096], ids=["empty", "line", "1-MB-binary"])
def test_streams_are_the_guests(run_cli, guest, module, text):
    done = run_cli(["run", module(guest("wat_echo"))], input=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, text, b"")


def test_stderr_is_the_guests(run_cli, module):
    done = run_cli(["run", module(says(b"\xffaside\n", fd=2))])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"\xffaside\n")


def test_arguments(run_cli, module):
    done = run_cli(["run", module(assemble(ARGUMENTS)), "one", "--two", "-3", "", "käse 🧀"])
    assert done.stdout.decode().split("\0")[1:-1] == ["one", "--two", "-3", "", "käse 🧀"]


def test_output_before_a_trap_is_kept(run_cli, guest, module):
    done = run_cli(["run", module(guest("trap_after_output"))])
    assert (done.returncode, done.stdout) == (134, b"half the truth\n")
    said = done.stderr.decode()
    for word in ("unreachable", "innermost", "middle", "outer"):
        assert word in said


@pytest.mark.parametrize("status", [0, 1, 2, 42, 124, 255])
def test_exit_status_is_the_guests(run_cli, guest, module, status):
    assert run_cli(["run", module(guest("c_exit")), str(status)]).returncode == status


# --- receipts -----------------------------------------------------------------------------------


def test_receipt_as_json_is_the_last_line(run_cli, guest, module):
    done = run_cli(["run", "--receipt", "json", module(guest("c_exit")), "7"])
    assert (done.returncode, done.stdout) == (7, b"before the exit\n")
    first, *_, last = done.stderr.decode().splitlines()
    assert first == "leaving"
    receipt = json.loads(last)
    assert (receipt["cause"], receipt["exit_code"], receipt["stdout_bytes"]) == ("exit", 7, 16)


def test_receipt_as_json_behind_a_line_without_end(run_cli, module):
    done = run_cli(["run", "--receipt", "json", module(says(b"no newline", fd=2))])
    *_, last = done.stderr.decode().splitlines()
    assert json.loads(last)["cause"] == "ok"


def test_receipt_as_text(run_cli, guest, module):
    done = run_cli(["run", "--receipt", "text", module(guest("wat_echo"))], input=b"x")
    assert (done.returncode, done.stdout) == (0, b"x")
    assert re.search(r"\bok\b", done.stderr.decode())


def test_receipt_comes_unasked_after_a_failure_only(run_cli, guest, module):
    failing = module(guest("trap_unreachable"))
    assert b"trap" in run_cli(["run", failing]).stderr
    silent = run_cli(["run", "--receipt", "none", failing])
    assert silent.returncode == 134
    assert len(silent.stderr) < len(run_cli(["run", failing]).stderr)
    assert run_cli(["run", module(guest("wat_empty"), "good.wasm")]).stderr == b""


# --- modules ------------------------------------------------------------------------------------


def test_text_format(run_cli):
    assert run_cli(["run", str(HOSTILE / "exit_1.wat")]).returncode == 1


def test_broken_text_format_says_where(run_cli, module):
    done = run_cli(["run", module(b'(module\n  (func (export "_start") (i32.const))\n)', "broken.wat")])
    assert done.returncode == 65
    assert re.search(r"\b2\b", done.stderr.decode()), "the line"


@pytest.mark.parametrize(
    ("flags", "args", "output"),
    [
        (["--invoke", "add"], ["2", "3"], b"5\n"),
        (["--invoke", "add"], ["-2", "-3"], b"-5\n"),
        (["--invoke=half"], ["1"], b"0.5\n"),
    ],
)
def test_invoke(run_cli, guest, module, flags, args, output):
    done = run_cli(["run", *flags, module(guest("wat_add")), *args])
    assert (done.returncode, done.stdout) == (0, output)


def test_environment(run_cli, module):
    file = module(assemble(ENVIRONMENT))
    assert run_cli(["run", file]).stdout == b""
    done = run_cli(["run", "--env", "A=1", "--env", "B=two=2", "--env", "C=", file])
    assert done.stdout == b"A=1\0B=two=2\0C=\0"


def test_seed(run_cli, module):
    file = module(assemble(RANDOM))

    def draw(*flags):
        return run_cli(["run", *flags, file]).stdout

    assert len(draw()) == 8
    assert draw() == draw()
    assert draw("--seed", "1") == draw("--seed", "1") != draw("--seed", "2")


@pytest.mark.parametrize("name", ["c_capabilities", "rust_capabilities", "go_capabilities", "as_capabilities"])
def test_same_on_the_command_line_as_over_the_api(run_cli, client, server, guest, module, name):
    here = run_cli(["run", "--seed", "5", module(guest(name))]).stdout
    files = {"wasm": ("guest.wasm", guest(name)), "input": (None, b""), "seed": (None, b"5")}
    there = client.post(f"{server.url}/execute", files=files).json()["output"].encode()
    assert here == there


# --- usage --------------------------------------------------------------------------------------

USAGE = [
    (["--timeout", "banana"], r"--timeout.*banana"),
    (["--timeout", "0"], r"--timeout.*\d"),
    (["--timeout", "-1s"], r"--timeout.*\d"),
    (["--timeout", "9999999h"], r"--timeout.*\d"),
    (["--memory", "lots"], r"--memory.*\d"),
    (["--memory", "1"], r"--memory.*\d"),
    (["--memory", "999TiB"], r"--memory.*\d"),
    (["--memory", "18446744073709551616"], r"--memory.*\d"),
    (["--max-output", "-1"], r"--max-output.*\d"),
    (["--fuel", "-1"], r"--fuel.*\d"),
    (["--fuel", "1.5"], r"--fuel.*\d"),
    (["--seed", "x"], r"--seed.*\d"),
    (["--receipt", "xml"], r"--receipt.*(text.*json|json.*text)"),
    (["--env", "NOVALUE"], r"--env.*(KEY|K)=V"),
    (["--env", "=x"], r"--env"),
    (["--invoke", ""], r"--invoke"),
    (["--nonsense"], r"--nonsense"),
    (["-q"], r"-q"),
]


@pytest.mark.parametrize(("flags", "said"), USAGE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_flag_is_named_with_its_range(run_cli, guest, module, flags, said):
    done = run_cli(["run", *flags, module(guest("wat_echo"))])
    assert (done.returncode, done.stdout) == (64, b"")
    assert re.search(said, done.stderr.decode(), re.DOTALL), done.stderr


@pytest.mark.parametrize(
    "args",
    [["run"], ["run", "--timeout"], ["nonsense"], ["keys"], ["keys", "nonsense"], ["keys", "create"], ["keys", "revoke"], ["--nonsense"]],
    ids=" ".join,
)
def test_incomplete_command(run_cli, args):
    done = run_cli(args)
    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr.strip()


@pytest.mark.parametrize("name", ["a/b", "", "x" * 65, "new\nline"], ids=["slash", "empty", "long", "newline"])
def test_wrong_key_name(run_cli, tmp_path, name):
    done = run_cli(["keys", "create", "--name", name], env={"DATA_DIR": str(tmp_path)})
    assert done.returncode not in (0, 70)
    assert re.search(r"name", done.stderr.decode())
    assert done.stdout == b""


def test_wrong_tier(run_cli, tmp_path):
    done = run_cli(["keys", "create", "--name", "x", "--tier", "gold"], env={"DATA_DIR": str(tmp_path)})
    assert done.returncode != 0
    assert all(name in done.stderr.decode() for name in ("gold", "free", "basic", "pro"))


def test_file_that_is_not_there(run_cli, tmp_path):
    done = run_cli(["run", str(tmp_path / "nothing.wasm")])
    assert done.returncode in (64, 65, 66)
    assert b"nothing.wasm" in done.stderr


def test_folder_for_a_module(run_cli, tmp_path):
    done = run_cli(["run", str(tmp_path)])
    assert done.returncode in (64, 65, 66)
    assert done.stderr.strip()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "wasmwiz")
def test_help(run_cli, command):
    done = run_cli([*command, "--help"])
    assert done.returncode == 0, done.stderr
    assert re.search(r"usage:? +wasmwiz", done.stdout.decode(), re.IGNORECASE)
    assert done.stderr == b""
    assert max(len(line) for line in done.stdout.decode().splitlines()) <= 120


def test_help_of_run_names_every_flag(run_cli):
    said = run_cli(["run", "--help"]).stdout.decode()
    for flag in ("--fuel", "--timeout", "--memory", "--max-output", "--env", "--invoke", "--receipt", "--seed"):
        assert flag in said


def test_version(run_cli):
    done = run_cli(["version"])
    assert done.returncode == 0
    assert re.search(r"\bwasmwiz \d+\.\d+\.\d+", done.stdout.decode())


def test_doctor(run_cli, tmp_path):
    done = run_cli(["doctor"], env={"DATA_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode().lower()
    for word in ("seccomp", "landlock", "no_new_privs", "timeout", "memory"):
        assert word in said


# --- settings -----------------------------------------------------------------------------------

SETTINGS = [
    ("EXECUTION_TIMEOUT", "banana", r"\d"),
    ("EXECUTION_TIMEOUT", "0", r"\d"),
    ("SERVER_PORT", "99999", r"65535"),
    ("SERVER_PORT", "http", r"65535"),
    ("MEMORY_LIMIT", "-5", r"\d"),
    ("MEMORY_LIMIT", "1", r"\d"),
    ("MAX_WASM_SIZE", "ten", r"\d"),
    ("MAX_INPUT_SIZE", "99999999999999999999", r"\d"),
    ("MAX_CONCURRENT", "0", r"1"),
    ("QUEUE_MAX", "-1", r"\d"),
    ("WASM_TEMP_TTL", "x", r"\d"),
    ("ISOLATION", "maybe", r"process.*inline|inline.*process"),
    ("LOG_LEVEL", "loud", r"debug.*info.*warn.*error"),
    ("API_SALT", "short", r"16"),
]


def serve(run_cli, tmp_path, **environment):
    """Starts the server with settings that it must refuse."""
    settings = {"DATA_DIR": str(tmp_path / "data"), "SERVER_PORT": "0"} | environment
    return run_cli(["serve"], env=settings, cwd=tmp_path, timeout=20)


@pytest.mark.parametrize(("variable", "value", "said"), SETTINGS)
def test_wrong_setting_is_refused_at_start(run_cli, tmp_path, variable, value, said):
    done = serve(run_cli, tmp_path, **{variable: value})
    assert done.returncode != 0
    line = next(line for line in done.stderr.decode().splitlines() if variable in line)
    assert re.search(said, line.split(variable, 1)[1]), line
    assert variable == "API_SALT" or value in line


def test_wrong_settings_are_listed_all(run_cli, tmp_path):
    wrong = {"EXECUTION_TIMEOUT": "banana", "SERVER_PORT": "99999", "MEMORY_LIMIT": "-5", "ISOLATION": "maybe"}
    done = serve(run_cli, tmp_path, **wrong)
    assert done.returncode != 0
    for variable in wrong:
        assert variable in done.stderr.decode()


def test_env_file(run_cli, tmp_path):
    (tmp_path / ".env").write_text('# a comment\n\nEXECUTION_TIMEOUT=banana\nISOLATION="maybe"\n')
    done = serve(run_cli, tmp_path)
    assert done.returncode != 0
    assert "EXECUTION_TIMEOUT" in done.stderr.decode()
    assert "ISOLATION" in done.stderr.decode()


def test_environment_goes_before_env_file(run_cli, tmp_path):
    def doctor(**environment):
        done = run_cli(["doctor"], env={"DATA_DIR": tmp_path / "data"} | environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    plain = doctor()
    (tmp_path / ".env").write_text("EXECUTION_TIMEOUT=7\n")
    assert doctor() != plain
    assert re.search(r"timeout.*\b7", doctor(), re.IGNORECASE)
    assert re.search(r"timeout.*\b9", doctor(EXECUTION_TIMEOUT="9"), re.IGNORECASE)


# --- much data ----------------------------------------------------------------------------------

MEGABYTE = 1024 * 1024


def test_100_mb_in_and_out_need_no_100_mb(guest, module):
    """Streams 100 MB through the echo guest. The memory of the whole process tree is looked at all the while:
    its peak stays within 64 MB of what it was when the first piece had come back."""
    piece = bytes(range(256)) * 256
    command = [PROGRAM, "run", "--max-output", "200MiB", "--timeout", "60s", module(guest("wat_echo"))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    sent, came = hashlib.sha256(), hashlib.sha256()

    def feed():
        for _ in range(1599):
            process.stdin.write(piece)
            sent.update(piece)
        process.stdin.close()

    def memory():
        return resident_bytes([process.pid, *descendants(process.pid)])

    try:
        process.stdin.write(piece)
        process.stdin.flush()
        sent.update(piece)
        total = len(piece)
        came.update(process.stdout.read(total))
        idle = peak = memory()
        feeder = threading.Thread(target=feed)
        feeder.start()
        while chunk := process.stdout.read(MEGABYTE):
            came.update(chunk)
            total += len(chunk)
            peak = max(peak, memory())
        feeder.join()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    assert total == 100 * MEGABYTE
    assert came.digest() == sent.digest()
    assert peak < idle + 64 * MEGABYTE, (idle, peak)
