"""The measurements (a) to (f), each a function that returns its table."""

import contextlib
import json
import time
from pathlib import Path

from client import Connection, form
from common import (
    INPUT,
    ROUNDS,
    Figure,
    Row,
    Table,
    check_echo,
    echo_form,
    guest,
    load_and_cpu,
    load_execute,
    need,
)
from load import wrk
from machine import command_line, descendants, memory_bytes
from servers import run

SETTLE_SECONDS = 0.5  # a fresh server has got its spare processes ready by then
HOGS = 8
MAPPINGS_A_GUEST = 5  # of the kernel, at most
MAPPINGS_SPARE = 2000


# --- (a) ----------------------------------------------------------------------------------------


def inside(bench):
    """One run inside the sandbox, from its message to the answer: store, instance, run, delete."""
    runs = 5000 if bench.quick else 100000
    table = Table("One run inside the sandbox, from message to answer (store to delete), µs",
                  ["guest", "best of 20 batches", "mean"])  # fmt: skip
    got = {"c_echo": [], "wat_echo": []}
    for _ in range(ROUNDS):
        for name, results in got.items():
            command = [bench.build / "run_cost", guest(name), runs, len(INPUT)]
            results.append(
                json.loads(bench.sample(lambda command=command: run(command)))
            )
    for name, results in got.items():
        best, mean = (
            Figure([each[key] for each in results]) for key in ("best_us", "mean_us")
        )
        judged = {"at_most": 8, "target": "≤ 8"} if name == "c_echo" else {}
        table.rows.append(Row(f"{name}, 1 KB through it", [best, mean], **judged))
    return table


# --- (b) ----------------------------------------------------------------------------------------


def warm(bench):
    """Requests of a module that is loaded, side by side with nginx, for both kinds of isolation."""
    connections, seconds = 64, bench.seconds(8)
    body = echo_form()
    sides = {}  # name: (server, load function)
    with contextlib.ExitStack() as servers:
        nginx = servers.enter_context(bench.nginx())
        sides["nginx, GET"] = (
            nginx,
            lambda s: wrk(bench.folder, nginx.port, connections=connections, seconds=s),
        )
        sides["nginx, POST"] = nginx, lambda s: wrk(
            bench.folder, nginx.port, connections=connections, seconds=s, body=body)  # fmt: skip
        for isolation in ("process", "inline"):
            server = servers.enter_context(bench.wasmwiz(ISOLATION=isolation))
            check_echo(server)
            sides[f"wasmwiz, {isolation}"] = server, lambda s, server=server: load_execute(
                bench, server, connections, s, body)  # fmt: skip
        for _, load in sides.values():
            load(1)
        got = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, side in sides.items():
                got[name].append(
                    bench.sample(lambda side=side: load_and_cpu(*side, seconds))
                )
    return warm_table(got, len(body))


def warm_table(got, body_bytes):
    table = Table(f"POST /execute, warm: a module of 1 KB echoes 1 KB ({body_bytes:,} bytes of body), 64 connections",
                  ["server", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "× nginx GET"])  # fmt: skip
    yardstick = [cpu for _, cpu in got["nginx, GET"]]
    limits = {"wasmwiz, process": 3.5, "wasmwiz, inline": 2.5}
    for name, rounds in got.items():
        cells = [
            Figure([getattr(load, key) for load, _ in rounds])
            for key in ("rate", "p50_ms", "p99_ms")
        ]
        cells.append(Figure([cpu for _, cpu in rounds]))
        cells.append(Figure([cpu / one for (_, cpu), one in zip(rounds, yardstick)]))
        limit = limits.get(name)
        table.rows.append(Row(name, cells, limit, f"≤ {limit}" if limit else ""))
    table.notes = [
        "CPU is user and system time of the server and all processes below it, not of the load, which runs on the same "
        "cores. nginx: `return 200`, a worker a core, keep-alive, no log; with POST it gets the same body and drops it.",
    ]
    return table


# --- (c) ----------------------------------------------------------------------------------------


def cold(bench):
    """The first request that a server gets, for a module that is new, and again after a restart."""
    table = Table("Cold: the first request of a fresh server, on a connection that is already open, ms",
                  ["module", "new: compiled", "of it compiling", "the same again", "after a restart: upload", "in all"])  # fmt: skip
    rounds = ROUNDS if bench.quick else 7
    names = ("c_stdio", "rust_words", "go_hello")
    got = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            body = form(guest(name).read_bytes(), b"")
            got[name].append(bench.sample(lambda body=body: cold_round(bench, body)))
    for name in names:
        size = guest(name).stat().st_size
        cells = [Figure(list(values)) for values in zip(*got[name])]
        table.rows.append(
            Row(f"{name}, {size / 1000:,.0f} KB", cells, 5, "≤ 5, without compiling")
        )
    table.notes = [
        "The client's clock, from the first byte sent to the last byte received; upload: until the client had handed "
        f"its last byte to the kernel. A new server and data folder for each of {rounds} rounds; the key is new to the "
        "server, too. Compiling is what the receipt says (`compile_us`), the compiler process's start included where "
        "none was spare. After the restart the receipt must say `disk`: the sealed code of the cache.",
    ]
    return table


def cold_round(bench, body):
    server = bench.wasmwiz()
    with server:
        first, again = first_requests(server, body, 2)
    compiling = need(first, "ok", "compiled")["compile_us"] / 1e3
    need(again, "ok", "memory")
    with server:
        [restarted] = first_requests(server, body, 1)
    need(restarted, "ok", "disk")
    return (
        first.total_ms,
        compiling,
        again.total_ms,
        restarted.upload_ms,
        restarted.total_ms,
    )


def first_requests(server, body, count):
    time.sleep(SETTLE_SECONDS)
    with Connection(server.port) as connection:
        connection.get("/health/live")
        return [connection.execute(server.key, body) for _ in range(count)]


# --- (d) ----------------------------------------------------------------------------------------


def hogs(bench):
    """Short runs alone, and with hogs in the same sandboxes all the time."""
    seconds = bench.seconds(5)
    alone, crowded = [], []
    with bench.wasmwiz(EXECUTION_TIMEOUT=60) as server:
        check_echo(server)
        load_execute(bench, server, 8, 1)
        for _ in range(ROUNDS):
            alone.append(bench.sample(lambda: load_execute(bench, server, 8, seconds)))
            crowded.append(
                bench.sample(lambda: load_beside_hogs(bench, server, seconds))
            )
    table = Table(f"Short runs (1 KB echoed, 8 connections) alone and beside {HOGS} endless loops",
                  ["", "requests/s", "p50 ms", "p99 ms"])  # fmt: skip
    for name, rounds in (("alone", alone), (f"with {HOGS} hogs", crowded)):
        cells = [
            Figure([getattr(load, key) for load in rounds])
            for key in ("rate", "p50_ms", "p99_ms")
        ]
        table.rows.append(Row(name, cells))
    limit = 3 * table.rows[0].cells[-1].median + 5
    table.rows[1].at_most, table.rows[1].target = (
        limit,
        f"≤ {limit:.1f} (3 × alone + 5)",
    )
    table.notes = [
        "Isolation `process`. Each hog has to end by its deadline, after the load has ended."
    ]
    return table


def load_beside_hogs(bench, server, seconds):
    with hogging(server, seconds + 2):
        return load_execute(bench, server, 8, seconds)


@contextlib.contextmanager
def hogging(server, seconds):
    """HOGS endless loops that run until `seconds` from now; leaving waits for them."""
    body = form(
        guest("wat_forever").read_bytes(), b"", timeout_ms=round(seconds * 1000)
    )
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(Connection(server.port)) for _ in range(HOGS)
        ]
        for connection in connections:
            connection.send_execute(server.key, body)
        time.sleep(0.3)
        yield
        for connection in connections:
            need(connection.receive(), "deadline")


# --- (e) ----------------------------------------------------------------------------------------


def parked(bench):
    """What a guest costs that waits for its input, with thousands of them in one sandbox."""
    guests = 2000 if bench.quick else 10000
    mappings = int(Path("/proc/sys/vm/max_map_count").read_text())
    possible = (mappings - MAPPINGS_SPARE) // MAPPINGS_A_GUEST
    table = Table(
        "",
        [
            "guest",
            "mappings",
            "kept after its end KB",
            "resident KB",
            "page tables KB",
            "together KB",
        ],
    )
    if possible < guests:
        table.notes.append(
            f"vm.max_map_count is {mappings}: enough for {possible:,} guests, not {guests:,}."
        )
        guests = possible
    table.title = f"{guests:,} guests parked in a wait for stdin, memory and kernel mappings of each"
    command = [bench.build / "parked", guest("c_echo"), guests]
    got = [json.loads(bench.sample(lambda: run(command))) for _ in range(ROUNDS)]
    resident, tables = (
        [each[key] / 1000 for each in got]
        for key in ("resident_bytes", "page_table_bytes")
    )
    cells = [
        Figure([each["mappings"] for each in got]),
        Figure([each["kept_bytes"] / 1000 for each in got]),
        Figure(resident),
        Figure(tables),
        Figure([one + other for one, other in zip(resident, tables)]),
    ]
    table.rows = [Row("c_echo", cells, 40, "≤ 40")]
    table.notes.append("After the measurement each gets its input and has to end well.")
    return table


# --- (f) ----------------------------------------------------------------------------------------


def memory(bench):
    """What the processes hold: just started, and after a load."""
    seconds = bench.seconds(10)
    before, after = [], []
    for _ in range(ROUNDS):
        with bench.wasmwiz() as server, bench.nginx() as nginx:
            time.sleep(SETTLE_SECONDS)
            before.append(memory_by_role(server, nginx))
            load_execute(bench, server, 64, seconds)
            wrk(bench.folder, nginx.port, connections=64, seconds=1)
            after.append(memory_by_role(server, nginx))
    table = Table("Memory of the processes, MB",
                  ["process", "resident at start", "proportional", f"resident after {seconds} s of load", "proportional"])  # fmt: skip
    for role in sorted(set(before[0]) & set(after[0]), key=list(before[0]).index):
        table.rows.append(Row(role, [
            figure_mb([each.get(role, (None, None))[which] for each in rounds])
            for rounds in (before, after) for which in (0, 1)
        ]))  # fmt: skip
    table.notes = [
        "Proportional (PSS): a page that n processes share counts 1/n in each. Load: as in (b)."
    ]
    return table


def figure_mb(values):
    return "–" if None in values else Figure([value / 1e6 for value in values])


def memory_by_role(server, nginx):
    """{what: (resident, proportional)}; several processes of a kind are numbered."""
    found = {"front": memory_bytes(server.pid)}
    counts = {}
    for pid in sorted(descendants(server.pid)):
        role = (command_line(pid) + ["?", "?"])[1]
        counts[role] = counts.get(role, 0) + 1
        found[f"{role} {counts[role]}"] = memory_bytes(pid)
    sums = [memory_bytes(pid) for pid in [nginx.pid, *descendants(nginx.pid)]]
    found["all of wasmwiz"] = add_up(found.values())
    found["all of nginx"] = add_up(sums)
    return found


def add_up(pairs):
    return tuple(None if None in column else sum(column) for column in zip(*pairs))


PHASES = {"a": inside, "b": warm, "c": cold, "d": hogs, "e": parked, "f": memory}
