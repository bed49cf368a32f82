"""Guests that mean harm, or that are broken: each must end with the right cause and a sentence that helps,
and after each the server must still answer.

A row: the guest (tests/guests/hostile/NAME, or a module made by malformed.py), how its run must end (several
where more than one answer is right), what the sentence or the hint must speak of (a regular expression), and
what is particular: options, input, a check of the whole answer."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import malformed
import pytest
from support import check_answer, execute, outcome, role_processes

PAGE = 65536
LIMIT_BYTES = 128 * 1024 * 1024
CAP = 65536  # the output cap that the floods run under

REFUSED = ("rejected", "module_invalid")  # which of the two depends on who notices first
SURVIVED = ("ok", "rejected")  # compiled in time, or refused in time
ANY_REFUSAL = (*REFUSED, "not_wasm")


@dataclass(frozen=True)
class Row:
    name: str
    want: str | tuple
    word: str = ""
    options: dict = field(default_factory=dict)
    input: bytes = b""
    wasm: object = None  # makes the module; None: the assembled guest of that name
    check: object = None  # called with the answer's body


def receipt_says(**fields):
    def check(body):
        for name, value in fields.items():
            assert body["receipt"][name] == value, (name, body["receipt"])

    return check


def exactly(**fields):
    def check(body):
        for name, value in fields.items():
            assert body[name] == value, (name, body[name][:200])

    return check


def cut_at_cap(stream, counter, letter):
    def check(body):
        assert body["receipt"][counter] == CAP
        assert body[stream] == letter * CAP

    return check


def frames_are_few(body):
    assert 0 < len(body["receipt"]["trap"]["frames"]) <= 100


def frames_are_named(body):
    assert body["output"] == "half the truth\n"
    frames = body["receipt"]["trap"]["frames"]
    assert [frame["function"] for frame in frames] == ["innermost", "middle", "outer"]
    assert [frame["index"] for frame in frames] == [1, 2, 3]
    assert all(frame["offset"] > 0 for frame in frames)


def answer_is_small(body):
    assert len(str(body)) < 16384


def memory_peak_at_most(limit):
    def check(body):
        assert 0 < body["receipt"]["memory_peak_bytes"] <= limit

    return check


ENDLESS = [
    Row("loop_code", "deadline", "time", check=receipt_says(stdout_bytes=0)),
    Row("loop_start", "deadline", "time"),
    Row("loop_yield", "deadline", "time"),
    Row("loop_clock", "deadline", "time"),
    Row("loop_sleep", "deadline", "time"),
    Row("loop_poll_stdin", "deadline", "time"),
    Row("loop_poll_many", "deadline", "time"),
    Row("loop_read", "deadline", "time"),
    Row("loop_write_nothing", "deadline", "time", check=exactly(output="")),
    Row("loop_empty_pieces", "deadline", "time", check=exactly(output="")),
    Row("loop_random", "deadline", "time"),
    Row("loop_br_table", "deadline", "time"),
    Row("loop_call_indirect", "deadline", "time"),
    Row("loop_tail_call", "deadline", "time"),
    Row("loop_fill", "deadline", "time"),
    Row("loop_copy", "deadline", "time"),
    Row("loop_table_copy", "deadline", "time"),
    Row("loop_grow_nothing", "deadline", "time"),
    Row("loop_code", "fuel", "fuel", {"fuel": 100000}),
    Row("loop_yield", "fuel", "fuel", {"fuel": 100000}),
]

BOMBS = [
    Row("grow_page_by_page", "memory_limit", "memory", check=memory_peak_at_most(LIMIT_BYTES)),
    Row("grow_page_by_page", "memory_limit", "memory", {"memory_bytes": 16 * PAGE}, check=memory_peak_at_most(16 * PAGE)),
    Row("grow_at_once", "memory_limit", "memory", check=receipt_says(memory_peak_bytes=PAGE)),
    Row("grow_overflow", "memory_limit", "memory", check=receipt_says(memory_peak_bytes=PAGE)),
    Row("grow_over_by_one", "memory_limit", "memory"),
    Row("grow_four_memories", "memory_limit", "memory", check=memory_peak_at_most(LIMIT_BYTES)),
    Row("grow_to_the_limit", "ok", check=receipt_says(memory_peak_bytes=LIMIT_BYTES), options={"timeout_ms": 3000}),
    Row("grow_own_maximum", "ok", check=receipt_says(memory_peak_bytes=PAGE)),
    Row("memory_minimum", "rejected", "memory"),
    Row("memory_minimum_sum", "rejected", "memory"),
    Row("loop_fill", "rejected", "memory", {"memory_bytes": 1024 * 1024}),
    Row("table_grow", "memory_limit", "table"),
    Row("table_grow_overflow", "memory_limit", "table"),
    Row("table_minimum", "rejected", "table"),
    Row("table_minimum_middling", "rejected", "table"),
    Row("100 tables", "rejected", "100 tables", wasm=lambda: malformed.tables(100)),
    Row("100 memories", "rejected", "100 memories", wasm=lambda: malformed.memories(100)),
]

RECURSION = [
    Row("recurse_direct", "stack_overflow", "stack", check=frames_are_few),
    Row("recurse_mutual", "stack_overflow", "stack", check=frames_are_few),
    Row("recurse_indirect", "stack_overflow", "stack", check=frames_are_few),
    Row("recurse_big_frame", "stack_overflow", "stack", check=frames_are_few),
    Row("recurse_in_start", "stack_overflow", "stack", check=frames_are_few),
    Row("recurse_then_host", "stack_overflow", "stack", check=frames_are_few),
]

FLOODS = [
    Row("flood_stdout", "output_limit", "stdout", {"max_output_bytes": CAP}, check=cut_at_cap("output", "stdout_bytes", "x")),
    Row("flood_stderr", "output_limit", "stderr", {"max_output_bytes": CAP}, check=cut_at_cap("stderr", "stderr_bytes", "y")),
    Row("flood_both", "output_limit", "stdout|stderr", {"max_output_bytes": CAP, "timeout_ms": 3000}),
    Row("flood_huge_piece", "output_limit", "stdout", {"max_output_bytes": CAP, "timeout_ms": 3000}),
    Row("flood_many_pieces", "output_limit", "stdout", {"max_output_bytes": CAP, "timeout_ms": 3000}),
    Row("flood_stdout", "output_limit", "stdout", {"timeout_ms": 5000}, check=receipt_says(stdout_bytes=10 * 1024 * 1024)),
    Row("pieces_overlap_read", "ok", input=bytes(range(256)) * 16),
    Row("pieces_overlap_write", "ok"),
    Row("renumber_stdout", "ok", check=exactly(output="", stderr="moved\n")),
    Row("close_everything", "ok", check=exactly(output="", stderr="")),
]

TRAPS = [
    Row("trap_unreachable", "trap", "unreachable"),
    Row("trap_divide_by_zero", "trap", "divi"),
    Row("trap_remainder_by_zero", "trap", "divi"),
    Row("trap_overflow", "trap", "overflow"),
    Row("trap_conversion_nan", "trap", "conver"),
    Row("trap_conversion_range", "trap", "float|conver"),
    Row("trap_load", "trap", "memory"),
    Row("trap_load_straddling", "trap", "memory"),
    Row("trap_load_far", "trap", "memory"),
    Row("trap_store", "trap", "memory"),
    Row("trap_memory_fill", "trap", "memory"),
    Row("trap_memory_copy", "trap", "memory"),
    Row("trap_memory_init", "trap", "memory"),
    Row("trap_memory_init_dropped", "trap", "memory"),
    Row("trap_table_init", "trap", "table"),
    Row("trap_table_get", "trap", "table"),
    Row("trap_table_set", "trap", "table"),
    Row("trap_table_bounds", "trap", "table"),
    Row("trap_call_null", "trap", "null|uninitiali[sz]ed|empty|element"),
    Row("trap_call_signature", "trap", "signature|type"),
    Row("trap_data_segment", "trap", "memory"),
    Row("trap_element_segment", "trap", "table"),
    Row("trap_in_start", "trap", "unreachable"),
    Row("trap_after_output", "trap", "unreachable", check=frames_are_named),
    Row("trap_deep", "trap", "unreachable", check=frames_are_few),
    Row("trap with a name of 1 MB", "trap", "unreachable", wasm=lambda: malformed.trap_under_a_name("n" * 1000000), check=answer_is_small),
    Row("trap with a cut name", "trap", "unreachable", wasm=lambda: malformed.trap_under_a_name("\U0001f600" * 200), check=answer_is_small),
    Row("trap with a nasty name", "trap", "unreachable", wasm=lambda: malformed.trap_under_a_name('"\0\x1b[2J\r\n\\</script>'), check=answer_is_small),
]

EXITS = [
    Row("exit_0", "ok", check=receipt_says(exit_code=0)),
    Row("exit_1", "exit", "status 1", check=receipt_says(exit_code=1)),
    Row("exit_255", "exit", "status 255", check=receipt_says(exit_code=255)),
    Row("exit_256", "exit", "status 256", check=receipt_says(exit_code=256)),
    Row("exit_4294967295", "exit", "status 4294967295", check=receipt_says(exit_code=4294967295)),
    Row("exit_in_start", "exit", "status 3", check=receipt_says(exit_code=3)),
    Row("exit_well_in_start", "ok", check=receipt_says(exit_code=0)),
    Row("raise_abort", "trap", "signal"),
]

SHAPES = [
    Row("shape_no_start", "rejected", "_start"),
    Row("shape_no_start", "rejected", "nowhere", {"invoke": "nowhere"}),
    Row("shape_start_takes_argument", "rejected", "_start"),
    Row("shape_start_is_global", "rejected", "_start"),
    Row("shape_import_memory", "rejected", r"env.*memory"),
    Row("shape_import_unknown", "rejected", r"env.*launch_missiles"),
    Row("shape_import_control_characters", "rejected", r"env"),
    Row("shape_import_old_wasi", "rejected", "wasi_unstable"),
    Row("shape_import_wasi_typo", "rejected", "fd_teleport"),
    Row("shape_import_wrong_signature", "rejected", "fd_write"),
    Row("shape_import_as_global", "rejected", "fd_write"),
    Row("shape_memory64", "rejected", "64-bit|memory64"),
    Row("shape_shared_memory", "rejected", "shared|threads"),
    Row("shape_atomics", REFUSED, "atomic|threads"),
    Row("shape_exceptions", REFUSED, "exceptions"),
    Row("shape_no_memory", "ok"),
    Row("shape_memory_not_exported", "ok"),
    Row("shape_memory_is_function", ("ok", "rejected")),
    Row("component", "rejected", "component", wasm=lambda: malformed.COMPONENT),
    Row("10 MB and a byte", "module_too_large", "10485760", wasm=lambda: malformed.padded(malformed.functions(1), 10485761)),
    Row("10 MB", "ok", wasm=lambda: malformed.padded(malformed.functions(1), 10485760)),
    Row("60,000 locals", "rejected", "locals", wasm=lambda: malformed.local_variables(60000)),
    Row("2^33 locals", REFUSED, "locals", wasm=malformed.too_many_locals_to_count),
    Row("200,000 functions", "rejected", "functions", wasm=lambda: malformed.functions(200000)),
    Row("20,000 types", "rejected", "types", wasm=lambda: malformed.types(20000)),
    Row("20,000 globals", "rejected", "globals", wasm=lambda: malformed.global_variables(20000)),
    Row("20,000 exports", "rejected", "exports", wasm=lambda: malformed.exports(20000)),
    Row("2,000 imports", "rejected", "imports", wasm=lambda: malformed.imports(2000)),
    Row("200,000 data segments", "rejected", "data segments", wasm=lambda: malformed.data_segments(200000)),
]

HARD_TO_COMPILE = [
    Row("loops and locals", "rejected", "compil", wasm=lambda: malformed.loops_and_locals(1000, 1000)),
    Row("100,000 nested blocks", SURVIVED, wasm=lambda: malformed.nested_blocks(100000)),
    Row("20,000 nested loops", SURVIVED, wasm=lambda: malformed.nested_loops_and_ifs(20000)),
    Row("jump table of 100,000", ANY_REFUSAL, wasm=lambda: malformed.jump_table(100000)),
    Row("20 jump tables of 800", SURVIVED, wasm=lambda: malformed.jump_tables(20, 800)),
    Row("30,000 live values", SURVIVED, wasm=lambda: malformed.many_live_values(30000)),
    Row("40,000 groups of locals", SURVIVED, wasm=lambda: malformed.local_groups(40000)),
    Row("90,000 functions", SURVIVED, wasm=lambda: malformed.functions(90000)),
    Row("90,000 data segments", SURVIVED, wasm=lambda: malformed.data_segments(90000)),
]

BROKEN = [
    Row("empty", "not_wasm", "empty", wasm=lambda: b""),
    Row("text format", "not_wasm", "text|WAT", wasm=lambda: b'(module (func (export "_start")))'),
    Row("words", "not_wasm", wasm=lambda: b"Just a text file.\n"),
    Row("ELF", "not_wasm", "ELF", wasm=lambda: b"\x7fELF\x02\x01\x01" + bytes(200)),
    Row("gzip", "not_wasm", "gzip", wasm=lambda: b"\x1f\x8b\x08\0" + bytes(200)),
    Row("zip", "not_wasm", "zip", wasm=lambda: b"PK\x03\x04" + bytes(200)),
    Row("half of the magic bytes", "not_wasm", wasm=lambda: malformed.MAGIC[:2]),
    Row("magic bytes alone", "module_invalid", "header", wasm=lambda: malformed.MAGIC),
    Row("another version", "module_invalid", "version", wasm=malformed.wrong_version),
    Row("random bytes", "not_wasm", wasm=lambda: malformed.random_bytes(65536, 1)),
    Row("huge section", "module_invalid", wasm=malformed.huge_section),
    Row("endless number", "module_invalid", wasm=malformed.endless_leb),
    Row("wrong order", "module_invalid", "order", wasm=malformed.wrong_order),
    Row("section twice", "module_invalid", "twice|order", wasm=malformed.section_twice),
    Row("unknown section", "module_invalid", "section", wasm=malformed.unknown_section),
    Row("function without body", "module_invalid", wasm=malformed.function_without_body),
    Row("start of nobody", "module_invalid", "start", wasm=malformed.start_of_nobody),
    Row("same export twice", "module_invalid", "export", wasm=malformed.same_export_twice),
    Row("wrong types", "module_invalid", wasm=malformed.wrong_types),
    Row("body without end", "module_invalid", wasm=malformed.body_without_end),
    Row("name not UTF-8", "module_invalid", "UTF-8", wasm=malformed.name_not_utf8),
    Row("broken name section", "ok", wasm=malformed.broken_name_section),
    *(Row(f"huge count in section {n}", REFUSED, wasm=lambda n=n: malformed.huge_count(n)) for n in malformed.SECTIONS),
    *(Row(f"random behind header, seed {n}", REFUSED, wasm=lambda n=n: malformed.random_behind_header(4096, n)) for n in range(8)),
]

ROWS = [*ENDLESS, *BOMBS, *RECURSION, *FLOODS, *TRAPS, *EXITS, *SHAPES, *HARD_TO_COMPILE, *BROKEN]


def row_id(row):
    options = ",".join(f"{name}={value}" for name, value in row.options.items())
    return row.name.replace(" ", "-") + (f"[{options}]" if options else "")


def speaks_of(body, word):
    said = f"{body['error'] or ''} {(body.get('receipt') or {}).get('hint') or ''}"
    assert re.search(word, said, re.IGNORECASE), f"{said!r} does not speak of {word!r}"


def assert_alive(client, server, guest):
    answer = execute(client, server, guest("wat_echo"), b"still here")
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"] == "still here"


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_guest(client, server, guest, row):
    sandboxes = role_processes(server, "sandbox")
    wasm = row.wasm() if row.wasm else guest(row.name)
    answer = execute(client, server, wasm, row.input, **{"timeout_ms": 300} | row.options)
    body = check_answer(answer)
    wanted = (row.want,) if isinstance(row.want, str) else row.want
    assert outcome(answer.status_code, body) in wanted, body
    if body["error"]:
        speaks_of(body, row.word)
    if row.check:
        row.check(body)
    assert_alive(client, server, guest)
    assert set(role_processes(server, "sandbox")) >= set(sandboxes), "no sandbox may die of a guest"


def test_there_are_enough_guests():
    assert len({row.name for row in ROWS}) >= 45


# --- one run after another ----------------------------------------------------------------------


def test_module_and_others_run_after_its_trap(client, server, guest):
    for _ in range(3):
        assert check_answer(execute(client, server, guest("leftover"), b"trap"))["receipt"]["cause"] == "trap"
        assert check_answer(execute(client, server, guest("leftover")))["output"] == "clean"
        assert_alive(client, server, guest)


def test_no_run_finds_what_another_left(client, server, guest):
    for turn in range(60):
        body = check_answer(execute(client, server, guest("leftover"), b"trap" if turn % 3 == 0 else b""))
        assert body["output"] == "clean", f"turn {turn}"


# --- WASI called with everything wrong ----------------------------------------------------------

EFAULT, EBADF, EINVAL = 21, 8, 28
ENOTCAPABLE, ENOTDIR, ENOTSOCK, ENOTSUP, ENOSYS = 76, 54, 57, 58, 52
WASI_ANSWERS = {
    "fault": {EFAULT},
    "badf": {EBADF},
    "inval": {EINVAL},
    "denied": {EBADF, ENOTCAPABLE, ENOTDIR, ENOTSOCK, ENOTSUP, ENOSYS},
    "refused": set(range(1, 77)),
    "any": set(range(77)),
    "fine": {0},
}
# All of preview 1; the guest calls proc_exit to end.
WASI_DEF = Path(__file__).parents[2] / "src" / "sandbox" / "wasi.def"
WASI_FUNCTIONS = set(re.findall(r"^WASI\((\w+)", WASI_DEF.read_text(), re.MULTILINE))


def test_wasi_with_everything_wrong(client, server, guest):
    answer = execute(client, server, guest("wasi_faults"), b"untouched", args=["one", "two"])
    body = check_answer(answer)
    assert answer.status_code == 200, body
    *calls, edge, stdin = body["output"].splitlines()
    assert (edge, stdin) == ("edge edge", "stdin untouched")
    wrong = []
    for call in calls:
        _, want, errno = call.split()
        if int(errno) not in WASI_ANSWERS[want]:
            wrong.append(call)
    assert not wrong
    assert len(WASI_FUNCTIONS) == 46
    assert {call.split()[0] for call in calls} | {"proc_exit"} == WASI_FUNCTIONS
    assert_alive(client, server, guest)


# --- real modules, damaged ----------------------------------------------------------------------


@pytest.mark.parametrize("percent", [1, 5, 10, 25, 50, 75, 90, 99])
def test_truncated_module(client, server, guest, percent):
    wasm = guest("wasi_faults")
    answer = execute(client, server, wasm[: len(wasm) * percent // 100], timeout_ms=300)
    assert outcome(answer.status_code, check_answer(answer)) in ("module_invalid", "ok", "exit")
    # A cut between two sections may leave a valid module only where all code is there.
    assert percent > 50 or answer.status_code == 400
    assert_alive(client, server, guest)


@pytest.mark.parametrize("name", ["leftover", "wasi_faults", "trap_after_output"])
def test_mutated_modules(client, server, guest, name):
    sandboxes = role_processes(server, "sandbox")
    for seed in range(40):
        answer = execute(client, server, malformed.mutated(guest(name), seed), b"input", timeout_ms=200)
        assert answer.status_code in (200, 400, 422), f"seed {seed}: {answer.text}"
        check_answer(answer)
    assert_alive(client, server, guest)
    assert set(role_processes(server, "sandbox")) >= set(sandboxes)


# --- the same through the command line ----------------------------------------------------------

COMMAND_LINE = [
    ("loop_code", ["--timeout", "1s"], 124),
    ("loop_start", ["--timeout", "1s"], 124),
    ("loop_sleep", ["--timeout", "1s"], 124),
    ("loop_code", ["--fuel", "100000"], 124),
    ("grow_at_once", [], 137),
    ("grow_page_by_page", ["--memory", "4MiB"], 137),
    ("table_grow", [], 137),
    ("flood_stdout", ["--max-output", "64KiB"], 137),
    ("flood_stderr", ["--max-output", "64KiB"], 137),
    ("recurse_direct", [], 134),
    ("trap_unreachable", [], 134),
    ("trap_data_segment", [], 134),
    ("exit_0", [], 0),
    ("exit_1", [], 1),
    ("exit_255", [], 255),
    ("exit_in_start", [], 3),
    ("shape_no_start", [], 65),
    ("shape_import_unknown", [], 65),
    ("shape_memory64", [], 65),
    ("memory_minimum", [], 65),
]


@pytest.mark.parametrize(("name", "flags", "status"), COMMAND_LINE)
def test_guest_on_the_command_line(run_cli, guest, tmp_path, name, flags, status):
    file = tmp_path / "guest.wasm"
    file.write_bytes(guest(name))
    done = run_cli(["run", *flags, str(file)])
    assert done.returncode == status, done.stderr


@pytest.mark.parametrize("name", ["exit_256", "exit_4294967295"])
def test_a_large_status_is_no_success(run_cli, guest, tmp_path, name):
    file = tmp_path / "guest.wasm"
    file.write_bytes(guest(name))
    assert run_cli(["run", str(file)]).returncode == 255


@pytest.mark.parametrize(
    "wasm",
    [b"", b"\x7fELF", malformed.MAGIC, malformed.COMPONENT, malformed.wrong_order(), malformed.random_bytes(1000, 2)],
    ids=["empty", "ELF", "magic-alone", "component", "wrong-order", "random"],
)
def test_no_module_on_the_command_line(run_cli, tmp_path, wasm):
    file = tmp_path / "guest.wasm"
    file.write_bytes(wasm)
    done = run_cli(["run", str(file)])
    assert done.returncode == 65, done.stderr
    assert done.stdout == b""
    assert done.stderr.strip(), "it says why"
