"""What holds when things go wrong at the worst moment: a thousand callers of whom half are hogs, processes
that are killed under load, a server that stops and starts again, clients that leave. Nothing that was
accepted may be lost: every request gets its answer."""

import asyncio
import os
import resource
import signal
import socket
import urllib.parse
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import malformed
import pytest
from support import (
    LONG,
    Crowd,
    assemble,
    check_answer,
    check_body,
    connect,
    cpu_ticks,
    descendants,
    execute,
    is_running,
    make_key,
    metric,
    outcome,
    raw_request,
    role_processes,
    runs_with_cause,
    send_all,
    wait_busy,
    wait_until,
    working_compiler,
)

# For tests of something else than time, on a machine that has much else to do.
PATIENT = {"COMPILE_TIMEOUT": "60", "EXECUTION_TIMEOUT": "60", "QUEUE_TIMEOUT": "60"}
BOTH = pytest.mark.parametrize("isolation", ["process", "inline"])


def check_replies(replies):
    """Every request was answered, and properly."""
    assert not [reply for reply in replies if reply.status == 0], "a connection ended without an answer"
    for reply in replies:
        check_body(reply.status, reply.body)


def wait_any_busy(pids):
    """Waits until one of the processes has worked for some hundredths of a second."""
    before = {pid: cpu_ticks(pid) for pid in pids}
    wait_until(lambda: any(cpu_ticks(pid) >= ticks + 5 for pid, ticks in before.items()), "one of them works")


def assert_healthy(client, server, guest):
    body = check_answer(execute(client, server, guest("wat_echo"), b"healthy"))
    assert body["output"] == "healthy", body


# --- crowds -------------------------------------------------------------------------------------


@BOTH
def test_a_thousand_runs_half_of_them_hogs(make_server, run_cli, guest, isolation):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 2048), hard), hard))
    server = make_server(ISOLATION=isolation, MAX_CONCURRENT="1000", QUEUE_MAX="1000", EXECUTION_TIMEOUT="30")
    key = make_key(run_cli, server)
    hog = raw_request(server, key, guest("loop_code"), timeout_ms=300)
    requests = []
    for i in range(500):
        requests += [hog, raw_request(server, key, guest("wat_echo"), f"run {i}".encode())]

    replies = asyncio.run(send_all(server, requests))
    check_replies(replies)
    assert Counter(reply.outcome for reply in replies[0::2]) == {"deadline": 500}
    assert Counter(reply.outcome for reply in replies[1::2]) == {"ok": 500}
    assert [reply.body["output"] for reply in replies[1::2]] == [f"run {i}" for i in range(500)]
    assert len({reply.body["receipt"]["run_id"] for reply in replies}) == 1000
    with connect(server, key) as client:
        assert_healthy(client, server, guest)


@pytest.mark.parametrize("hog", ["loop_code", "loop_fill", "loop_random", "loop_poll_many", "loop_empty_pieces"])
def test_hogs_do_not_take_the_time_of_their_neighbours(make_server, run_cli, guest, hog):
    """Eight guests that work as hard as they can, some of them within host calls that take long; a short run
    beside them still gets its turns, and does not have to wait for their end."""
    server = make_server(EXECUTION_TIMEOUT="60")
    key = make_key(run_cli, server)
    with connect(server, key) as client:
        assert_healthy(client, server, guest)
        hogs = [raw_request(server, key, guest(hog), timeout_ms=5000)] * 8
        with Crowd(server, hogs) as crowd:
            wait_busy(role_processes(server, "sandbox"))
            beside = 0
            while not crowd.done and beside < 20:
                body = check_answer(execute(client, server, guest("wat_echo"), b"me too"))
                assert body["output"] == "me too"
                beside += not crowd.done
        check_replies(crowd.replies)
        assert beside > 0, "none ended before the hogs did"


def test_more_memories_and_tables_than_a_sandbox_has(make_server, run_cli):
    """What does not fit the pool waits for its turn in the front, however long those before it run: it is neither
    started late in its own time, nor taken for stuck."""
    server = make_server(MAX_CONCURRENT="64", SANDBOXES="1", EXECUTION_TIMEOUT="6", QUEUE_TIMEOUT="60")
    key = make_key(run_cli, server)
    memories, tables = "(memory 1)" * 4, "(table 10 funcref)" * 8
    hog = assemble(f'(module {memories} {tables} (func (export "_start") (loop $again (br $again))))')
    short = assemble(f'(module {memories} {tables} (func (export "_start")))')
    with Crowd(server, [raw_request(server, key, hog)] * 60) as hogs:
        wait_busy(role_processes(server, "sandbox"))
        with Crowd(server, [raw_request(server, key, short)] * 60) as shorts:
            pass
    assert Counter(reply.outcome for reply in hogs.replies) == {"deadline": 60}
    assert Counter(reply.outcome for reply in shorts.replies) == {"ok": 60}
    with connect(server, key) as client:
        assert metric(client, server, "wasmwiz_sandboxes_died_total") == 0


def test_queue_full(make_server, run_cli, guest):
    server = make_server(MAX_CONCURRENT="2", QUEUE_MAX="2")
    key = make_key(run_cli, server)
    with connect(server, key) as client:
        assert_healthy(client, server, guest)
        check_answer(execute(client, server, guest("loop_code"), timeout_ms=10))
        replies = asyncio.run(send_all(server, [raw_request(server, key, guest("loop_code"), timeout_ms=500)] * 20))
        check_replies(replies)
        outcomes = Counter(reply.outcome for reply in replies)
        assert set(outcomes) == {"deadline", "busy"}
        # Places and queue are shared out to the front's loops, and the kernel chooses a loop for each connection.
        assert outcomes["deadline"] >= 2, "those who had a place or waited for one"
        assert outcomes["busy"] >= 1
        for reply in replies:
            if reply.status == 503:
                assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert_healthy(client, server, guest)
    told = [line for line in server.log_text().splitlines() if "request failed" in line]
    assert len(told) == outcomes["busy"] and all(" warn " in line and 'code="busy"' in line for line in told)


# --- ISOLATION=inline ---------------------------------------------------------------------------

BASIC = [
    ("wat_echo", "ok"),
    ("c_echo", "ok"),
    ("go_hello", "ok"),
    ("exit_255", "exit"),
    ("loop_code", "deadline"),
    ("loop_start", "deadline"),
    ("loop_yield", "deadline"),
    ("loop_sleep", "deadline"),
    ("grow_at_once", "memory_limit"),
    ("table_grow", "memory_limit"),
    ("flood_stdout", "output_limit"),
    ("recurse_direct", "stack_overflow"),
    ("trap_unreachable", "trap"),
    ("trap_load", "trap"),
    ("trap_data_segment", "trap"),
    ("shape_import_unknown", "rejected"),
    ("shape_no_start", "rejected"),
    ("wasi_faults", "ok"),
]


def test_basic_set_inline(make_server, run_cli, guest):
    server = make_server(ISOLATION="inline", **PATIENT)
    with connect(server, make_key(run_cli, server)) as client:
        for name, cause in BASIC:
            # time enough for all that shall not run out of it
            limits = {"timeout_ms": 1000 if cause == "deadline" else 60_000, "max_output_bytes": 65536}
            answer = execute(client, server, guest(name), b"in", args=["a"], **limits)
            assert (name, outcome(answer.status_code, check_answer(answer))) == (name, cause)
            assert_healthy(client, server, guest)
    assert role_processes(server, "sandbox") == []


def test_server_answers_while_guests_run_inline(make_server, run_cli, guest):
    server = make_server(ISOLATION="inline")
    key = make_key(run_cli, server)
    with connect(server, key) as client:
        with Crowd(server, [raw_request(server, key, guest("loop_code"), timeout_ms=2000)] * 4) as crowd:
            wait_busy([server.pid])
            answered = 0
            while not crowd.done:
                assert client.get("/health/live").status_code == 200
                answered += 1
        assert answered > 2
        assert {reply.outcome for reply in crowd.replies} == {"deadline"}


# --- kill -9 ------------------------------------------------------------------------------------


def test_killed_sandbox(make_server, run_cli, guest):
    server = make_server(EXECUTION_TIMEOUT="30")
    key = make_key(run_cli, server)
    with connect(server, key) as client:
        assert_healthy(client, server, guest)
        crashed_before = runs_with_cause(client, server, "sandbox_crashed")
        sandboxes = role_processes(server, "sandbox")
        # Enough hogs that every sandbox has some; good runs among them.
        requests = [raw_request(server, key, guest("loop_code"), timeout_ms=2000)] * 8 * len(sandboxes)
        with Crowd(server, requests) as crowd:
            wait_busy(sandboxes, 10)
            victim = sandboxes[0]
            os.kill(victim, signal.SIGKILL)
            # What is sent now may still be placed on it; nothing else may become of it.
            for _ in range(40):
                answer = execute(client, server, guest("wat_echo"), b"beside")
                assert outcome(answer.status_code, check_answer(answer)) in ("ok", "sandbox_crashed")

            def replaced():
                now = role_processes(server, "sandbox")
                return victim not in now and len(now) == len(sandboxes)

            wait_until(replaced, "a new sandbox", 5)
            for _ in range(10):
                assert_healthy(client, server, guest)
        check_replies(crowd.replies)
        outcomes = Counter(reply.outcome for reply in crowd.replies)
        assert set(outcomes) <= {"deadline", "sandbox_crashed"}
        assert outcomes["sandbox_crashed"] >= 1
        if len(sandboxes) > 1:
            assert outcomes["deadline"] >= 1, "only its own runs are lost"
        for reply in crowd.replies:
            if reply.status == 500:
                assert reply.body["receipt"]["hint"]
                request_id = reply.body["request_id"]
                told = [line for line in server.log_text().splitlines() if "request failed" in line and request_id in line]
                assert len(told) == 1 and " error " in told[0] and 'code="sandbox_crashed"' in told[0]
        crashed = runs_with_cause(client, server, "sandbox_crashed")
        assert crashed - crashed_before >= outcomes["sandbox_crashed"]
        assert set(role_processes(server, "sandbox")) >= set(sandboxes[1:])
        assert_healthy(client, server, guest)


def test_all_sandboxes_killed_again_and_again(make_server, run_cli, guest):
    server = make_server()
    with connect(server, make_key(run_cli, server)) as client:
        count = len(wait_until(lambda: role_processes(server, "sandbox"), "sandboxes"))
        for _ in range(3):
            assert_healthy(client, server, guest)
            victims = role_processes(server, "sandbox")
            for victim in victims:
                os.kill(victim, signal.SIGKILL)

            def fresh(victims=victims):
                now = role_processes(server, "sandbox")
                return len(now) == count and not set(now) & set(victims)

            wait_until(fresh, "all are replaced", 10)
        wait_until(lambda: execute(client, server, guest("wat_echo")).status_code == 200, "it works again", 10)


def test_killed_compiler(make_server, run_cli, guest):
    server = make_server(**PATIENT)
    key = make_key(run_cli, server)
    modules = [malformed.unique(malformed.loops_and_locals(150, 150), uuid.uuid4()) for _ in range(4)]
    with connect(server, key) as client:
        with Crowd(server, [raw_request(server, key, wasm) for wasm in modules]) as crowd:
            os.kill(working_compiler(server), signal.SIGKILL)
            assert_healthy(client, server, guest)
        check_replies(crowd.replies)
        # A compile has no effects, so it may be done again or fail; it may not be forgotten.
        assert {reply.status for reply in crowd.replies} <= {200, 422, 500, 503}
        assert [reply for reply in crowd.replies if reply.status == 200], "the others were compiled"
        fresh = malformed.unique(guest("wat_echo"), uuid.uuid4())
        assert check_answer(execute(client, server, fresh, b"new"))["output"] == "new"
        # The module that lost its compiler has no mark against it.
        for wasm in modules:
            assert execute(client, server, wasm).status_code == 200


def test_killed_server_leaves_nobody_behind(make_server, run_cli, guest):
    server = make_server()
    key = make_key(run_cli, server)
    requests = [raw_request(server, key, guest("loop_code"), timeout_ms=4000)] * 4
    requests.append(raw_request(server, key, malformed.unique(malformed.loops_and_locals(1000, 1000), uuid.uuid4())))
    with Crowd(server, requests) as crowd:
        working_compiler(server)
        wait_busy(role_processes(server, "sandbox"))
        below = descendants(server.pid)
        server.kill()
        wait_until(lambda: not any(is_running(pid) for pid in below), "its processes have ended too")
    assert {reply.status for reply in crowd.replies} == {0}


# --- stop and start -----------------------------------------------------------------------------


@BOTH
def test_sigterm_during_a_run(make_server, run_cli, isolation):
    server = make_server(ISOLATION=isolation, EXECUTION_TIMEOUT="30")
    key = make_key(run_cli, server)
    long = assemble(LONG)
    with connect(server, key) as client:
        # Compiled beforehand, so that work means running.
        check_answer(execute(client, server, long, timeout_ms=1))
        below = descendants(server.pid)
        with Crowd(server, [raw_request(server, key, long)]) as crowd:
            wait_any_busy([server.pid, *below])
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda: refuses(server), "no new connection is taken", 10)
            assert not crowd.done, "the run was still under way"
        check_replies(crowd.replies)
        (reply,) = crowd.replies
        assert (reply.status, reply.body["output"]) == (200, "done")
    assert server.wait() == 0
    assert not any(is_running(pid) for pid in below)


def refuses(server):
    address = urllib.parse.urlsplit(server.url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=5).close()
    except ConnectionError:
        return True
    return False


def test_idle_server_stops_at_once(make_server):
    server = make_server()
    with connect(server) as client:
        client.get("/health/live")  # a kept connection that nobody uses
        assert server.stop() == 0


def test_restart_keeps_what_was_compiled(make_server, run_cli, guest):
    server = make_server(**PATIENT)
    key = make_key(run_cli, server)
    modules = [guest(name) for name in ("wat_echo", "c_echo", "go_echo")]
    with connect(server, key) as client:
        for wasm in modules:
            assert check_answer(execute(client, server, wasm, b"1"))["receipt"]["compile"] == "compiled"
            assert check_answer(execute(client, server, wasm, b"2"))["receipt"]["compile"] == "memory"
    assert server.stop() == 0
    server.start()
    with connect(server, key) as client:
        for wasm in modules:
            body = check_answer(execute(client, server, wasm, b"3"))
            assert (body["output"], body["receipt"]["compile"]) == ("3", "disk")
        assert metric(client, server, "wasmwiz_compiles_total") == 0


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "swapped"])
def test_damaged_cache_is_not_believed(make_server, run_cli, guest, damage):
    """Native code on the disk is run only where its seal is right: whatever happened to the files, the next
    start compiles anew and the result is right."""
    server = make_server()
    key = make_key(run_cli, server)
    names = ("wat_echo", "c_echo")
    with connect(server, key) as client:
        for name in names:
            assert check_answer(execute(client, server, guest(name), b"1"))["output"] == "1"
    assert server.stop() == 0

    # Compiled code is an ELF image, whatever stands around it.
    files = [file for file in server.data_dir.rglob("*") if file.is_file() and b"\x7fELF" in file.read_bytes()]
    contents = [bytearray(file.read_bytes()) for file in files]
    assert len(files) == len(names), files
    for i, file in enumerate(files):
        content = contents[i]
        if damage == "flipped":
            content[len(content) // 2] ^= 1
        elif damage == "cut":
            del content[len(content) // 2 :]
        elif damage == "emptied":
            content.clear()
        else:
            content = contents[1 - i]
        file.write_bytes(content)

    server.start()
    with connect(server, key) as client:
        for name in names:
            body = check_answer(execute(client, server, guest(name), b"again"))
            assert (body["output"], body["receipt"]["compile"]) == ("again", "compiled")


# --- clients ------------------------------------------------------------------------------------


@BOTH
def test_client_that_leaves_cancels_its_run(make_server, run_cli, guest, isolation):
    server = make_server(ISOLATION=isolation, EXECUTION_TIMEOUT="60")
    key = make_key(run_cli, server)
    address = urllib.parse.urlsplit(server.url)
    with connect(server, key) as client:
        check_answer(execute(client, server, guest("loop_code"), timeout_ms=1))
        before = runs_with_cause(client, server, "cancelled")
        with socket.create_connection((address.hostname, address.port)) as caller:
            caller.sendall(raw_request(server, key, guest("loop_code")))
            wait_any_busy([server.pid, *descendants(server.pid)])
        # Long before its sixty seconds are over.
        wait_until(lambda: runs_with_cause(client, server, "cancelled") > before, "the run is cancelled", 10)
        assert_healthy(client, server, guest)


def test_clients_that_leave_in_the_middle_of_a_body(make_server, run_cli, guest):
    server = make_server()
    key = make_key(run_cli, server)
    address = urllib.parse.urlsplit(server.url)
    request = raw_request(server, key, guest("go_echo"), b"x" * 100000)
    with connect(server, key) as client:
        for share in range(1, 40):
            with socket.create_connection((address.hostname, address.port)) as caller:
                caller.sendall(request[: len(request) * share // 40])
        assert_healthy(client, server, guest)


# --- compiling ----------------------------------------------------------------------------------


@BOTH
def test_one_compile_for_many_requests(make_server, run_cli, guest, isolation):
    server = make_server(ISOLATION=isolation, **PATIENT)
    key = make_key(run_cli, server)
    with connect(server, key) as client:
        assert_healthy(client, server, guest)
        before = metric(client, server, "wasmwiz_compiles_total")
        wasm = malformed.unique(malformed.loops_and_locals(150, 150), uuid.uuid4())
        replies = asyncio.run(send_all(server, [raw_request(server, key, wasm)] * 20))
        check_replies(replies)
        assert {reply.outcome for reply in replies} == {"ok"}
        assert metric(client, server, "wasmwiz_compiles_total") == before + 1


def test_compile_bomb_holds_up_nobody(make_server, run_cli, guest):
    server = make_server()
    key = make_key(run_cli, server)
    bomb = raw_request(server, key, malformed.unique(malformed.loops_and_locals(1000, 1000), uuid.uuid4()))
    with connect(server, key) as client:
        assert_healthy(client, server, guest)
        with Crowd(server, [bomb]) as crowd:
            compiler = working_compiler(server)
            for i in range(5):
                assert_healthy(client, server, guest)
                fresh = malformed.unique(guest("wat_echo"), uuid.uuid4())
                assert check_answer(execute(client, server, fresh, f"{i}".encode()))["output"] == f"{i}"
            assert not crowd.done, "the bomb was still being compiled"
        check_replies(crowd.replies)
        assert crowd.replies[0].outcome == "rejected"
        assert not is_running(compiler)


# What twenty callers send in turn, and what may become of it: with fifty milliseconds a short run, too, may come
# to its deadline.
MIXTURE = [
    ("trap_unreachable", ("trap", "deadline")),
    ("loop_code", ("deadline",)),
    (None, ("module_invalid",)),
    ("wat_echo", ("ok", "deadline")),
]


def test_bad_and_good_modules_over_and_over(make_server, run_cli, guest):
    server = make_server()
    key = make_key(run_cli, server)

    def caller(n):
        with connect(server, key) as client:
            for turn in range(8):
                name, wanted = MIXTURE[(n + turn) % len(MIXTURE)]
                wasm = guest(name) if name else malformed.wrong_types()
                answer = execute(client, server, wasm, timeout_ms=50)
                assert outcome(answer.status_code, check_answer(answer)) in wanted

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(caller, range(20)))
