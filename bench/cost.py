"""The measurement (h): what it costs to know who asks, to keep to figures and to write down what was used."""

import contextlib
import json
import sqlite3

from client import Connection
from common import Figure, Row, Table, check_echo, load_and_cpu, load_execute
from databases import Postgres, Redis
from servers import BenchError, run

CONNECTIONS = 64
# Differences of a few microseconds drown in what a machine does over seconds: many short samples, side by side.
ROUNDS = 9
# Figures that nobody reaches: the most that a minute may have, which is also what a key may take at once. Each round
# has a key of its own, so that it begins with all of them.
TIER = "UPDATE tiers SET per_minute = 600000, per_day = 4000000000, concurrency = 100000 WHERE name = 'pro'"
OFF = {"RATE_LIMITS": "off", "USAGE": "off"}
ON = {"RATE_LIMITS": "on", "USAGE": "on"}


def cost(bench):
    """Warm requests without limits, with them, and with PostgreSQL and Redis behind them."""
    seconds = bench.seconds(2)
    got = {}
    with contextlib.ExitStack() as servers:
        sides = start(bench, servers)
        for name, server in sides.items():
            check_echo(server)
            check_health(server)
            load_execute(bench, server, CONNECTIONS, 1)
            got[name] = []
        for n in range(ROUNDS):
            for name, server in sides.items():
                server.key = server.new_key(f"round-{n}")
                check_echo(server)
                got[name].append(
                    bench.sample(
                        lambda server=server: load_and_cpu(
                            server, lambda s: load_execute(bench, server, CONNECTIONS, s), seconds
                        )
                    )
                )
    return cost_table(got, identity(bench))


def identity(bench):
    """Microseconds to know a caller whose key was seen before. Every server does that, so it is measured by itself."""
    folder = bench.new_folder()
    folder.mkdir(parents=True, exist_ok=True)
    checks = 100_000 if bench.quick else 2_000_000
    return json.loads(bench.sample(lambda: run([bench.build / "key_check", folder, checks])))["mean_us"]


def start(bench, servers):
    """The servers by name; each is like the one before and one thing more."""
    postgres = servers.enter_context(Postgres(bench.new_folder()))
    redis = servers.enter_context(Redis(bench.new_folder()))
    made = {
        "off": bench.wasmwiz(**OFF),
        "embedded": bench.wasmwiz(**ON),
        "shared": bench.wasmwiz(**ON, DATABASE_URL=postgres.url, REDIS_URL=redis.url),
    }
    with contextlib.closing(sqlite3.connect(made["embedded"].folder / "data" / "wasmwiz.db")) as db, db:
        db.execute(TIER)
    postgres.sql(TIER)
    for server in made.values():
        servers.enter_context(server)
    return made


def check_health(server):
    """Without its Redis a server would go on by itself, and be too good."""
    with Connection(server.port) as connection:
        health = connection.get("/health")
    if health.status != 200:
        raise BenchError(f"a part of the server is not well: {health.body[:600]!r}")


def cost_table(got, identity_us):
    rates = {name: Figure([load.rate for load, _ in rounds]) for name, rounds in got.items()}
    cpu = {name: Figure([us for _, us in rounds]) for name, rounds in got.items()}
    table = Table("What knowing, limiting and counting a caller costs a warm request, 64 connections",
                  ["", "requests/s", "CPU µs a request", "compared"])  # fmt: skip
    more = Figure([one - other for one, other in zip(cpu["embedded"].rounds, cpu["off"].rounds)])
    everything = Figure([us + identity_us for us in more.rounds])
    ratio = Figure([one / other for one, other in zip(rates["shared"].rounds, rates["embedded"].rounds)])
    table.rows = [
        Row("no limits, no usage", [rates["off"], cpu["off"], ""]),
        Row("limits and usage, SQLite and memory: µs more", [rates["embedded"], cpu["embedded"], more]),
        Row("the same and identity: µs", ["", "", everything], 3, "≤ 3 µs"),
        Row("limits and usage, PostgreSQL and Redis: × requests/s", [rates["shared"], cpu["shared"], ratio], at_least=0.8,
            target="≥ 0.8"),
    ]  # fmt: skip
    table.notes = [
        f"Identity is the check of a known key, {identity_us:.2f} µs, measured inside one process: all of the servers do it, "
        "the first one, too. The last line is compared with the one that has limits and usage.",
        "The request of (b), isolation `process`, with a key whose tier has figures that nobody reaches. PostgreSQL and "
        "Redis run on the same cores, with what their packages set; their own processor time is not in the third column, "
        "but it is felt in the second one.",
    ]
    return table
