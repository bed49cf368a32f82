"""The execution API as its callers meet it: POST /execute and what stands around it. Journeys U-03
(rejections), U-04 (hostile guests) and U-09 (50 at once) are here as one test each."""

import base64
import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import malformed
import pytest
from support import (
    ARGUMENTS,
    ENVIRONMENT,
    RANDOM,
    Crowd,
    assemble,
    check_answer,
    connect,
    execute,
    form,
    make_key,
    metric,
    metrics,
    outcome,
    raw_request,
    says,
    wait_until,
)

MEGABYTE = 1024 * 1024
RECEIPT_TYPES = {
    "run_id": str,
    "status": str,
    "cause": str,
    "hint": (str, type(None)),
    "exit_code": (int, type(None)),
    "duration_us": (int, float),
    "cpu_us": (int, float),
    "compile": str,
    "memory_peak_bytes": int,
    "fuel": (int, type(None)),
    "stdout_bytes": int,
    "stderr_bytes": int,
    "host_calls": int,
    "limits": dict,
}


def ok(response):
    body = check_answer(response)
    assert response.status_code == 200, body
    return body


def refused(response, status, code, word=""):
    """The answer is an error of that kind, and its sentence speaks of `word` (a regular expression)."""
    body = check_answer(response)
    assert (response.status_code, body["code"]) == (status, code), body
    assert re.search(word, body["error"], re.IGNORECASE), body["error"]
    return body


# --- journeys -----------------------------------------------------------------------------------


def test_u03_rejections(server, key, guest):
    echo = guest("wat_echo")
    with connect(server) as nobody, connect(server, "ww_" + "A" * 40) as stranger, connect(server, key) as client:
        refused(execute(nobody, server, echo), 401, "unauthorized")
        refused(execute(stranger, server, echo), 401, "unauthorized")
        refused(execute(client, server, None, b"x"), 400, "part_missing", "wasm")
        refused(execute(client, server, b"This is a text file."), 400, "not_wasm")
        refused(execute(client, server, malformed.padded(echo, 10 * MEGABYTE + 1)), 413, "module_too_large", "10485760")
        refused(execute(client, server, echo, b"x" * (MEGABYTE + 1)), 413, "input_too_large", "1048576")
        assert ok(execute(client, server, echo, b"fine"))["output"] == "fine"


def test_u04_hostile_guests(client, server, guest):
    # As served: nothing but the defaults, so the loop has its full five seconds.
    loop = check_answer(execute(client, server, guest("loop_code")))
    assert loop["receipt"]["cause"] == "deadline"
    assert loop["receipt"]["duration_us"] > 4_900_000
    bomb = check_answer(execute(client, server, guest("grow_page_by_page")))
    assert bomb["receipt"]["cause"] == "memory_limit"

    denied = ok(execute(client, server, guest("c_denied")))["output"].splitlines()
    assert len(denied) > 10
    assert not [line for line in denied if line.endswith(": OK")]

    world = ok(execute(client, server, guest("c_capabilities")))["output"]
    seen = dict(line.split(" ", 1) for line in world.splitlines())
    assert seen["env"] == "0"
    assert seen["slept_s"] == "3600"
    again = ok(execute(client, server, guest("c_capabilities")))["output"]
    assert again == world, "neither clock nor randomness tells two runs apart"

    assert ok(execute(client, server, guest("wat_echo"), b"healthy"))["output"] == "healthy"
    assert client.get(f"{server.url}/health/ready").status_code == 200


def test_u09_fifty_at_once(make_server, run_cli, guest, tmp_path):
    folder = tmp_path / "modules"
    server = make_server(WASM_TEMP_DIR=str(folder), WASM_TEMP_TTL="2")
    key = make_key(run_cli, server)
    # Ten modules that the server has never seen, so that files are written.
    modules = [malformed.unique(guest("wat_echo"), uuid.uuid4()) for _ in range(10)]
    requests = [raw_request(server, key, modules[i % 10], f"input {i}".encode()) for i in range(60)]

    seen = set()
    with Crowd(server, requests) as crowd:
        wait_until(lambda: seen.update(folder.iterdir()) or crowd.done, "all have an answer", 60)
    assert [reply.status for reply in crowd.replies] == [200] * 60
    assert [reply.body["output"] for reply in crowd.replies] == [f"input {i}" for i in range(60)]

    names = {file.name for file in seen | set(folder.iterdir())}
    assert len(names) == 10, "a file for each module that was compiled"
    for name in names:
        stem, _, suffix = name.partition(".")
        assert (uuid.UUID(stem).version, suffix) == (4, "wasm")
        assert str(uuid.UUID(stem)) == stem
    wait_until(lambda: not list(folder.iterdir()), "the files are swept after their time", 15)


def test_compiled_module_touches_no_disk(make_server, run_cli, guest, tmp_path):
    folder = tmp_path / "modules"
    server = make_server(WASM_TEMP_DIR=str(folder))
    with connect(server, make_key(run_cli, server)) as client:
        ok(execute(client, server, guest("wat_echo"), b"1"))
        written = set(folder.iterdir())
        for _ in range(5):
            ok(execute(client, server, guest("wat_echo"), b"2"))
        assert set(folder.iterdir()) == written


# --- input and output ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"\n", "käse 🧀\n".encode(), b"--boundary\r\n--\r\n\r\n", b"\0\x01\x02", b"a" * 65537, b"x" * MEGABYTE],
    ids=["empty", "byte", "newline", "utf-8", "like-multipart", "controls", "over-a-window", "1-MB-exactly"],
)
@pytest.mark.parametrize("name", ["wat_echo", "c_echo", "rust_echo", "go_echo"])
def test_echo(client, server, guest, name, text):
    body = ok(execute(client, server, guest(name), text))
    assert body["output"].encode() == text
    assert body["stderr"] == ""
    assert body["receipt"]["stdout_bytes"] == len(text)


def test_input_over_the_limit_by_a_byte(client, server, guest):
    refused(execute(client, server, guest("wat_echo"), b"x" * (MEGABYTE + 1)), 413, "input_too_large", "1048576")


def test_guest_that_leaves_its_input_unread(client, server):
    assert ok(execute(client, server, says(b"enough"), b"x" * MEGABYTE))["output"] == "enough"


def test_stderr_is_apart(client, server):
    body = ok(execute(client, server, says(b"on the side\n", fd=2)))
    assert (body["output"], body["stderr"]) == ("", "on the side\n")
    assert body["receipt"]["stderr_bytes"] == 12


NOT_UTF8 = b"a\xff\xfeb\xc3(\xe2\x82|\xf0\x9f\xa7\x80\0"


def test_output_that_is_not_utf8_is_replaced(client, server):
    body = ok(execute(client, server, says(NOT_UTF8)))
    assert "\ufffd" in body["output"]
    kept = [c for c in body["output"] if c != "\ufffd"]
    assert kept == list("ab(|\U0001f9c0\0")
    assert body["receipt"]["stdout_bytes"] == len(NOT_UTF8)
    assert "output_base64" not in body


def test_output_base64_when_asked(client, server):
    body = ok(execute(client, server, says(NOT_UTF8), output="base64"))
    assert base64.b64decode(body["output_base64"], validate=True) == NOT_UTF8


def test_raw_output(client, server):
    answer = execute(client, server, says(NOT_UTF8), headers={"Accept": "application/octet-stream"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content == NOT_UTF8
    receipt = json.loads(answer.headers["WasmWiz-Receipt"])
    assert (receipt["cause"], receipt["stdout_bytes"]) == ("ok", len(NOT_UTF8))


def test_raw_output_of_a_failing_guest(client, server, guest):
    answer = execute(client, server, guest("trap_after_output"), headers={"Accept": "application/octet-stream"})
    assert answer.status_code == 422
    assert json.loads(answer.headers["WasmWiz-Receipt"])["cause"] == "trap"


# --- args, invoke, seed, limits -----------------------------------------------------------------


@pytest.mark.parametrize(
    "args", [[], ["one"], ["two words", "", "käse 🧀", "--flag=1"], [str(n) for n in range(200)]], ids=len
)
def test_arguments(client, server, args):
    output = ok(execute(client, server, assemble(ARGUMENTS), args=args))["output"]
    program, *given = output.split("\0")[:-1]
    assert program, "the guest has a name of its own"
    assert given == args


def test_status_from_an_argument(client, server, guest):
    body = check_answer(execute(client, server, guest("c_exit"), args=["7"]))
    assert (body["receipt"]["cause"], body["receipt"]["exit_code"]) == ("exit", 7)
    assert "7" in body["error"]
    assert (body["output"], body["stderr"]) == ("before the exit\n", "leaving\n")


def test_environment_is_empty(client, server):
    assert ok(execute(client, server, assemble(ENVIRONMENT)))["output"] == ""


@pytest.mark.parametrize(
    ("invoke", "args", "output"),
    [
        ("add", ["2", "3"], "5\n"),
        ("add", ["2147483647", "1"], "-2147483648\n"),
        ("add64", ["-5", "9223372036854775807"], "9223372036854775802\n"),
        ("half", ["5"], "2.5\n"),
        ("nothing", [], ""),
    ],
)
def test_invoke(client, server, guest, invoke, args, output):
    assert ok(execute(client, server, guest("wat_add"), invoke=invoke, args=args))["output"] == output


def test_invoke_initializes_a_reactor_first(client, server, guest):
    assert ok(execute(client, server, guest("wat_reactor"), invoke="answer"))["output"] == "42\n"


@pytest.mark.parametrize(
    ("invoke", "args", "word"),
    [
        ("subtract", ["1", "2"], "subtract"),
        ("add", ["1"], "2"),
        ("add", ["1", "two"], "two"),
        ("add", ["1", "99999999999999999999"], "99999999999999999999"),
        ("add", ["1", "4294967296"], "4294967296"),
    ],
)
def test_invoke_that_does_not_fit(client, server, guest, invoke, args, word):
    answer = execute(client, server, guest("wat_add"), invoke=invoke, args=args)
    assert outcome(answer.status_code, check_answer(answer)) in ("rejected", "field_invalid")
    assert word in answer.json()["error"]


@pytest.mark.parametrize("name", ["c_capabilities", "rust_capabilities", "go_capabilities", "as_capabilities"])
def test_the_same_request_gives_the_same_bytes(client, server, guest, name):
    first, second = (ok(execute(client, server, guest(name), b"in"))["output"] for _ in range(2))
    assert first == second
    assert first


def test_seed_decides_the_randomness(client, server):
    def draw(**seed):
        return ok(execute(client, server, assemble(RANDOM), output="base64", **seed))["output_base64"]

    assert draw(seed=1) == draw(seed=1)
    assert len({draw(seed=n) for n in (0, 1, 2, 2**32, 2**63)}) == 5
    assert draw() == draw()


def test_clock_stands_still_between_runs(client, server, guest):
    def clock(**seed):
        lines = ok(execute(client, server, guest("c_capabilities"), **seed))["output"].splitlines()
        return [line for line in lines if line.startswith(("realtime_ns", "monotonic_ns"))]

    assert clock(seed=1) == clock(seed=2)


BAD_FIELDS = [
    ("timeout_ms", "0", r"\d"),
    ("timeout_ms", "-1", r"\d"),
    ("timeout_ms", "soon", r"\d"),
    ("timeout_ms", "1.5", r"\d"),
    ("timeout_ms", "5001", "5000"),
    ("timeout_ms", "99999999999999999999999", r"\d"),
    ("timeout_ms", "", r"\d"),
    ("timeout_ms", "300 ", r"\d"),
    ("memory_bytes", "0", r"\d"),
    ("memory_bytes", "134217729", "134217728"),
    ("memory_bytes", "18446744073709551617", r"\d"),
    ("max_output_bytes", "-5", r"\d"),
    ("max_output_bytes", "lots", r"\d"),
    ("fuel", "-1", r"\d"),
    ("fuel", "1e9", r"\d"),
    ("seed", "abc", r"\d"),
    ("seed", "18446744073709551616", r"\d"),
    ("args", "not json", "array"),
    ("args", '"a string"', "array"),
    ("args", '{"a": 1}', "array"),
    ("args", "[1, 2]", "string"),
    ("args", '["nul \\u0000 inside"]', "args"),
    ("args", json.dumps(["x"] * 2000), r"\d"),
    ("args", json.dumps(["x" * 40000]), r"\d"),
    ("invoke", "", "invoke"),
    ("invoke", "x" * 300, r"\d"),
    ("output", "hex", "base64"),
]


@pytest.mark.parametrize(("field", "value", "word"), BAD_FIELDS, ids=lambda value: str(value)[:24])
def test_field_out_of_its_range_is_named(client, server, guest, field, value, word):
    body = refused(execute(client, server, guest("wat_echo"), **{field: value}), 400, "field_invalid", field)
    assert re.search(word, body["error"]), body["error"]


def test_limits_can_be_lowered(client, server, guest):
    body = check_answer(execute(client, server, guest("loop_code"), timeout_ms=100))
    assert body["receipt"]["cause"] == "deadline"
    assert body["receipt"]["limits"]["timeout_ms"] == 100
    assert body["receipt"]["duration_us"] > 90_000


def test_fuel_is_counted_when_asked(client, server, guest):
    counted = ok(execute(client, server, guest("wat_echo"), b"some", fuel=1_000_000))["receipt"]["fuel"]
    assert 0 < counted < 1_000_000
    again = ok(execute(client, server, guest("wat_echo"), b"some", fuel=1_000_000))["receipt"]["fuel"]
    assert again == counted
    assert not ok(execute(client, server, guest("wat_echo"), b"some"))["receipt"]["fuel"]


# --- the form -----------------------------------------------------------------------------------


def test_order_of_the_parts_does_not_matter(client, server, guest):
    parts = form(guest("wat_echo"), b"in any order", seed=1, timeout_ms=500)
    for turn in range(len(parts)):
        answer = client.post(f"{server.url}/execute", files=parts[turn:] + parts[:turn])
        assert ok(answer)["output"] == "in any order"


def test_missing_input(client, server, guest):
    refused(execute(client, server, guest("wat_echo"), None), 400, "part_missing", "input")


def test_unknown_part(client, server, guest):
    refused(execute(client, server, guest("wat_echo"), colour="red"), 400, "part_unknown", "colour")


def test_part_twice(client, server, guest):
    parts = [*form(guest("wat_echo"), b"one"), ("input", (None, b"two"))]
    body = check_answer(client.post(f"{server.url}/execute", files=parts))
    assert body["code"] in ("bad_request", "field_invalid", "multipart_broken", "part_unknown")
    assert "input" in body["error"]


@pytest.mark.parametrize("filename", ["guest.txt", "guest", "wasm", "guest.wasm.exe", ".wasm.", "guest.wasm/"])
def test_wrong_file_name(client, server, guest, filename):
    answer = execute(client, server, guest("wat_echo"), filename=filename)
    body = check_answer(answer)
    assert answer.status_code == 400
    assert ".wasm" in body["error"]


@pytest.mark.parametrize("filename", ["guest.wasm", "GUEST.WASM", "../../etc/guest.wasm", "käse.wasm", "a b.wasm"])
def test_right_file_name(client, server, guest, filename):
    assert ok(execute(client, server, guest("wat_echo"), b"x", filename=filename))["output"] == "x"


BROKEN_FORMS = {
    "no boundary": ("multipart/form-data", b"--x--\r\n", (400,)),
    "other type": ("application/json", b"{}", (415,)),
    "no type": (None, b"hello", (415,)),
    "empty body": ("multipart/form-data; boundary=x", b"", (400,)),
    "never closed": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="input"\r\n\r\nhello',
        (400,),
    ),
    "no disposition": ("multipart/form-data; boundary=x", b"--x\r\n\r\nhello\r\n--x--\r\n", (400,)),
    "no name": (
        "multipart/form-data; boundary=x",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nhello\r\n--x--\r\n",
        (400,),
    ),
    "other boundary": (
        "multipart/form-data; boundary=x",
        b'--y\r\nContent-Disposition: form-data; name="input"\r\n\r\nhello\r\n--y--\r\n',
        (400,),
    ),
    "head without end": ("multipart/form-data; boundary=x", b"--x\r\n" + b"A" * 100000, (400,)),
}


@pytest.mark.parametrize("name", BROKEN_FORMS)
def test_broken_form(client, server, name):
    content_type, content, statuses = BROKEN_FORMS[name]
    headers = {"Content-Type": content_type} if content_type else {}
    answer = client.post(f"{server.url}/execute", content=content, headers=headers)
    assert answer.status_code in statuses, answer.text
    check_answer(answer)


def test_too_many_parts(client, server, guest):
    parts = form(guest("wat_echo"), b"x") + [(f"p{i}", (None, b"x")) for i in range(200)]
    body = check_answer(client.post(f"{server.url}/execute", files=parts))
    assert body["code"] in ("part_unknown", "multipart_broken")


# --- the receipt --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("wat_echo", "ok"),
        ("exit_1", "exit"),
        ("trap_unreachable", "trap"),
        ("loop_code", "deadline"),
        ("grow_at_once", "memory_limit"),
        ("flood_stdout", "output_limit"),
        ("recurse_direct", "stack_overflow"),
    ],
)
def test_receipt(client, server, guest, name, cause):
    receipt = check_answer(execute(client, server, guest(name), b"in", timeout_ms=200, max_output_bytes=4096))["receipt"]
    for field, kind in RECEIPT_TYPES.items():
        assert isinstance(receipt[field], kind) and not isinstance(receipt[field], bool), (field, receipt)
    assert receipt["cause"] == cause
    assert re.fullmatch(r"[0-9a-zA-Z_-]{8,64}", receipt["run_id"])
    assert receipt["limits"]["timeout_ms"] == 200
    assert receipt["limits"]["memory_bytes"] == 134217728
    assert (receipt["limits"]["stdout_bytes"], receipt["limits"]["stderr_bytes"]) == (4096, 4096)
    assert receipt["duration_us"] >= 0 and receipt["cpu_us"] >= 0
    assert receipt["memory_peak_bytes"] > 0
    if cause == "ok":
        assert receipt["stdout_bytes"] == 2
        assert receipt["host_calls"] >= 2
    elif cause != "exit":
        assert receipt["hint"], "a failure comes with a hint"
    if cause in ("trap", "stack_overflow"):
        frames = receipt["trap"]["frames"]
        assert isinstance(receipt["trap"]["code"], str)
        assert frames and all(set(frame) >= {"function", "index", "offset"} for frame in frames)


def test_run_ids_are_unique(client, server, guest):
    ids = {ok(execute(client, server, guest("wat_echo")))["receipt"]["run_id"] for _ in range(20)}
    assert len(ids) == 20


# --- what stands around it ----------------------------------------------------------------------


def test_health(server):
    with connect(server) as nobody:
        for path in ("/health/live", "/health/ready", "/health"):
            answer = nobody.get(path)
            assert answer.status_code == 200, path
        assert isinstance(nobody.get("/health").json(), dict)


def test_metrics(client, server, guest):
    runs = "wasmwiz_runs_total"
    before = {cause: metric(client, server, runs, cause=cause) for cause in ("ok", "trap", "deadline")}
    execute(client, server, guest("wat_echo"))
    execute(client, server, guest("trap_unreachable"))
    execute(client, server, guest("loop_code"), timeout_ms=50)
    for cause, count in before.items():
        wait_until(lambda c=cause, n=count: metric(client, server, runs, cause=c) == n + 1, f"one more {cause}", 3)
    names = {name for name, _ in metrics(client, server)}
    assert "wasmwiz_compiles_total" in names
    assert any(name.endswith("_seconds_bucket") for name in names)


def test_metrics_tell_no_secret(client, server, key):
    assert key not in client.get(f"{server.url}/metrics").text


@pytest.mark.parametrize("path", ["/nowhere", "/execute/", "/EXECUTE", "/health/", "/../etc/passwd", "/%65xecute"])
def test_not_found(client, server, path):
    answer = client.get(f"{server.url}{path}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "not_found"
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_method_not_allowed(client, server, method):
    answer = client.request(method, f"{server.url}/execute")
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    answer = client.post(f"{server.url}/health/live")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]


def test_request_id_in_header_and_body(client, server, guest):
    good = execute(client, server, guest("wat_echo"))
    bad = execute(client, server, b"no module")
    assert bad.json()["request_id"] == bad.headers["x-request-id"]
    assert good.headers["x-request-id"] != bad.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", good.headers["x-request-id"])


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Basic dXNlcjpwYXNz", "Bearer a b", "Bearer " + "x" * 600, "Bearer ww_\u00e4", "{key}"],
)
def test_credential_of_a_wrong_form(server, key, guest, value):
    with connect(server) as client:
        headers = {"Authorization": value.format(key=key).encode("latin-1")}
        answer = execute(client, server, guest("wat_echo"), headers=headers)
        refused(answer, 401, "unauthorized")
        assert key not in answer.text


def test_scheme_in_any_case(server, key, guest):
    with connect(server) as client:
        for scheme in ("bearer", "BEARER"):
            ok(execute(client, server, guest("wat_echo"), headers={"Authorization": f"{scheme} {key}"}))


def test_revoked_key(server, run_cli, guest):
    environment = {"DATA_DIR": str(server.data_dir)}
    name = f"to-revoke-{uuid.uuid4().hex[:8]}"
    made = run_cli(["keys", "create", "--name", name], env=environment)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.decode().strip()
    assert re.fullmatch(r"ww_[0-9A-Za-z]{40}", secret)
    with connect(server, secret) as client:
        ok(execute(client, server, guest("wat_echo"), b"x"))

        listed = run_cli(["keys", "list"], env=environment)
        assert listed.returncode == 0
        assert name.encode() in listed.stdout
        assert secret.encode() not in listed.stdout

        assert run_cli(["keys", "create", "--name", name], env=environment).returncode != 0, "the name is taken"
        assert run_cli(["keys", "revoke", name], env=environment).returncode == 0
        wait_until(lambda: execute(client, server, guest("wat_echo")).status_code == 401, "the key is dead", 2)
        assert run_cli(["keys", "revoke", name], env=environment).returncode != 0, "there is none to revoke"


def test_plain_key_is_nowhere_on_disk(server, key):
    for file in server.data_dir.rglob("*"):
        if file.is_file():
            assert key.encode() not in file.read_bytes(), file


def test_many_at_once_over_kept_connections(server, key, guest):
    echo = guest("wat_echo")

    def talk(n):
        with connect(server, key) as client:
            return [ok(execute(client, server, echo, f"{n} {i}".encode()))["output"] for i in range(20)]

    with ThreadPoolExecutor(16) as pool:
        for n, said in enumerate(pool.map(talk, range(16))):
            assert said == [f"{n} {i}" for i in range(20)]


def test_head(server):
    with connect(server) as client:
        answer = client.head("/health/live")
        assert (answer.status_code, answer.content) == (200, b"")
