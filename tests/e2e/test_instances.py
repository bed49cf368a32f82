"""Two servers behind one PostgreSQL and one Redis, under load, while one of the four dies; and clocks that are set."""

import contextlib
import itertools
import signal
import struct
import subprocess
import time
import uuid
from pathlib import Path

import httpx
import pytest
from people import (
    PASSWORD,
    Person,
    become_admin,
    check,
    guess_until_refused,
    make_account,
)
from services import SALT, running_redis
from support import (
    connect,
    execute,
    lines,
    load_on,
    metric,
    role_processes,
    wait_until,
)

PER_MINUTE = {"free": 10, "basic": 100, "pro": 500}
HOUR = 3600
EXITS = "exit_1"  # the guest whose runs are 422


class Pair:
    """Two servers with the same database and counters."""

    def __init__(self, make_server, run_cli, postgres, redis, **env):
        self._run_cli = run_cli
        shared = {"DATABASE_URL": postgres.url, "API_SALT": SALT, "RATE_LIMITS": "on"}
        self._env = shared | {"REDIS_URL": redis.url, "DATABASE_TIMEOUT": "2", "TRUSTED_PROXIES": "127.0.0.1"} | env
        lines(run_cli(["migrate", "up"], env=self._env))
        # So high that no load of these tests meets it.
        postgres.ask("INSERT INTO tiers (name, per_minute, per_day, concurrency) VALUES ('load', 600000, 100000000, 1000)")
        self.keys = {tier: self.make_key(tier) for tier in [*PER_MINUTE, "load"]}
        self.servers = [make_server(**self._env), make_server(**self._env)]
        self.wait_health("ok")

    def make_key(self, tier):
        command = ["keys", "create", "--name", f"{tier}-{uuid.uuid4().hex[:8]}", "--tier", tier]
        return lines(self._run_cli(command, env=self._env))[0]

    def wait_health(self, status):
        def health(server):
            with connect(server) as client:
                return client.get("/health").json()["status"]

        wait_until(lambda: {health(server) for server in self.servers} == {status}, f"both are {status}", 30)


@pytest.fixture
def pair(make_server, run_cli, postgres, redis):
    return Pair(make_server, run_cli, postgres, redis)


def count_refused(load, since=0):
    """How often it met the limit of a minute, by requests that began since then."""
    return sum("a minute is used up" in other.text and other.began >= since for other in load.others)


def check_only_limited(load):
    """Nobody heard anything but an outcome or "too often"."""
    assert not load.unknown
    assert all(other.status == 429 for other in load.others), load.others[:3]


def run_once(server, key, wasm):
    with connect(server, key) as client:
        return execute(client, server, wasm, b"x").status_code


def check_discretion(server, path, **credential):
    """What the server knows about its database is not for those who ask: not where it is, not who it is there."""
    answer = httpx.post(server.url + path, timeout=30, **credential)
    assert answer.status_code == 503 and "the database does not answer" in answer.text, answer.text
    for word in ("127.0.0.1", "connection", " port ", "postgres", "refused", "timeout", "database_"):
        assert word not in answer.text.lower(), answer.text


# --- limits -------------------------------------------------------------------------------------


def test_two_instances_never_pass_a_limit(pair, redis, guest):
    """A key begins with a full bucket. Redis decides about each token by its own clock, so between two looks at that
    clock, one before the first run and one after the last, no key gets more than its bucket and what flowed into it
    between them: not one run more, from both sides together."""
    tiers = ["free", "free", "basic", "pro"]
    keys = [pair.make_key(tier) for tier in tiers]
    before = redis.seconds()
    with contextlib.ExitStack() as stack:
        loads = [
            [stack.enter_context(load_on(server, key, guest("wat_echo"), threads=2)) for server in pair.servers]
            for key in keys
        ]
        wait_until(
            lambda: all(count_refused(load) >= 5 for both in loads[:-1] for load in both),
            "every key meets its limit at both servers; that of 500 a minute where the machine is fast enough",
            100,
        )
    seconds = redis.seconds() - before
    for tier, both in zip(tiers, loads, strict=True):
        taken = sum(len(load.accepted) for load in both)
        assert taken <= PER_MINUTE[tier] * (1 + seconds / 60), (tier, seconds)
        assert taken >= PER_MINUTE[tier] or not any(map(count_refused, both)), (tier, seconds)
        for load in both:
            check_only_limited(load)


def test_redis_dies_and_comes_back_empty(pair, postgres, redis, guest):
    """How many runs a key gets at most. When both servers have refused it, at `empty` or later, each one's own record
    (the mirror of what Redis said) holds less than one token. From there on a server lets through that token and what
    flows in: while Redis is gone by its record alone, and later because Redis is told that record before it decides.
    So both together give, after `empty`, at most twice what one bucket would; before it, Redis gave exactly one's."""
    per_second = PER_MINUTE["basic"] / 60
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(load_on(s, pair.keys["basic"], guest("wat_echo"), threads=2)) for s in pair.servers]

        def wait_for_more(what):
            seen = [len(load.others) for load in loads]
            wait_until(lambda: all(len(load.others) > n + 10 for load, n in zip(loads, seen, strict=True)), what, 30)

        wait_until(lambda: all(count_refused(load) for load in loads), "the limit is met at both", 60)
        empty = time.monotonic()
        wait_until(lambda: all(count_refused(load, empty) for load in loads), "and met again", 30)
        redis.stop()
        pair.wait_health("degraded")
        wait_for_more("both go on without Redis")
        for server in pair.servers:
            assert run_once(server, pair.keys["pro"], guest("wat_echo")) == 200
        redis.start()
        pair.wait_health("ok")
        wait_for_more("both go on with a Redis that knows nothing")
    ended = time.monotonic()
    taken = sum(len(load.accepted) for load in loads)
    most = PER_MINUTE["basic"] + per_second * (empty - began) + 2 * (1 + per_second * (ended - empty))
    assert PER_MINUTE["basic"] <= taken <= most, (empty - began, ended - empty)
    for load in loads:
        check_only_limited(load)
    check_rows(postgres, loads, len(pair.servers))


# --- rows ---------------------------------------------------------------------------------------


def check_rows(postgres, loads, others=0):
    """Each run that was answered has its row, once; one whose reply was on its way when a server died may have one. And
    so many other runs there were."""
    answered = [run for load in loads for run in load.accepted + load.failed]

    def rows():
        return postgres.ask("SELECT id FROM usage_logs")

    wait_until(lambda: set(answered) <= set(rows()), "all that was answered has a row", 60)
    found = rows()
    assert len(found) == len(set(found)), "no run is there twice"
    assert others <= len(found) - len(answered) <= others + sum(load.unknown for load in loads)
    assert int(postgres.ask("SELECT sum(runs) FROM usage_daily")[0]) == len(found)


def wait_for_runs(loads, count):
    seen = [(len(load.accepted), len(load.failed)) for load in loads]

    def more(load, before):
        return len(load.accepted) > before[0] + count and len(load.failed) > before[1] + count

    wait_until(lambda: all(more(*each) for each in zip(loads, seen, strict=True)), f"{count} more runs", 60)


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL])
def test_the_database_dies_under_two_instances(pair, postgres, guest, how):
    sandboxes = [sorted(role_processes(server, "sandbox")) for server in pair.servers]
    stranger = "ww_" + "x" * 40
    with contextlib.ExitStack() as stack:
        wasms = [guest("wat_echo"), guest(EXITS)]
        loads = [stack.enter_context(load_on(s, pair.keys["load"], *wasms, threads=2)) for s in pair.servers]
        wait_for_runs(loads, 50)
        assert [run_once(server, stranger, wasms[0]) for server in pair.servers] == [401, 401]
        postgres.crash(how)
        unknown = "ww_" + "y" * 40  # not the other: that refusal is remembered for a second
        assert [run_once(server, unknown, wasms[0]) for server in pair.servers] == [503, 503]
        for path in ("/execute", "/api/auth/keys"):
            check_discretion(pair.servers[0], path, headers={"Authorization": f"Bearer {unknown[:-1]}z"}, json={"name": "x"})
        check_discretion(pair.servers[0], "/login", data={"email": "a@example.org", "password": PASSWORD},
                         headers={"Origin": pair.servers[0].url})  # fmt: skip
        wait_for_runs(loads, 100)
        postgres.start()
        wait_for_runs(loads, 50)
    for load in loads:
        assert not load.unknown and not load.others, load.others[:3]
    check_rows(postgres, loads)
    for server in pair.servers:
        wait_until(lambda s=server: run_once(s, unknown, wasms[0]) == 401, "the database is asked again", 30)
    assert [sorted(role_processes(server, "sandbox")) for server in pair.servers] == sandboxes


def test_an_instance_dies_under_load(pair, postgres, guest):
    dies, lives = pair.servers
    with contextlib.ExitStack() as stack:
        wasms = [guest("wat_echo"), guest(EXITS)]
        loads = [stack.enter_context(load_on(s, pair.keys["load"], *wasms, threads=4)) for s in pair.servers]
        wait_for_runs(loads, 50)
        dies.kill()
        wait_for_runs(loads[1:], 50)
        dies.start()
        loads.append(stack.enter_context(load_on(dies, pair.keys["load"], *wasms, threads=2)))
        wait_for_runs(loads[1:], 50)
    assert loads[0].unknown <= 4
    for load in loads[1:]:
        assert not load.unknown and not load.others, load.others[:3]
    check_rows(postgres, loads)
    for server in (dies, lives):
        with connect(server) as client:
            assert metric(client, server, "wasmwiz_usage_rows_lost_total") == 0


# --- what one is told reaches the other ---------------------------------------------------------


def within_a_second(condition, what):
    """A second is promised; half of one more is for the asking itself."""
    wait_until(condition, what, 1.5)


def test_what_one_instance_is_told_the_other_knows_within_a_second(pair):
    one, two = pair.servers
    admin = become_admin(one)
    made, person = make_account(admin, one, tier="free")
    # A key that is revoked, with another key of the same account.
    key = check(person("POST", "/api/auth/keys", {"name": "shared"}), 201).json()
    elsewhere = Person(two, key["key"])
    check(elsewhere("GET", "/api/auth/me"), 200)
    check(person("DELETE", f"/api/auth/keys/{key['id']}"), 204)
    within_a_second(lambda: elsewhere("GET", "/api/auth/me").status_code == 401, "a revoked key is refused")
    # A tier.
    mine = Person(two, made["key"])
    assert mine("GET", "/api/auth/me").json()["tier"] == "free"
    check(admin("PATCH", f"/api/users/{made['id']}", {"tier": "pro"}), 200)
    assert person("GET", "/api/auth/me").json()["tier"] == "pro"
    within_a_second(lambda: mine("GET", "/api/auth/me").json()["tier"] == "pro", "the tier is another")
    # A password: its sessions end on both, but for the one that changed it.
    here, there, changes = Person(one), Person(two), Person(one)
    for who in (here, there, changes):
        check(who.login(made["email"]), 200)
    body = {"current_password": PASSWORD, "new_password": "battery staple"}
    check(changes("POST", "/api/auth/password", body), 204)
    for who in (here, there):
        within_a_second(lambda w=who: w("GET", "/api/auth/me").status_code == 401, "the session has ended")
    check(changes("GET", "/api/auth/me"), 200)
    check(Person(two).login(made["email"]), 401)
    # A session that was ended at one, and wrong passwords at both.
    cookie = {"Cookie": f"wasmwiz={changes.http.cookies['wasmwiz']}"}
    check(Person(two)("GET", "/api/auth/me", headers=cookie), 200)
    check(changes("POST", "/api/auth/logout"), 204)
    within_a_second(lambda: Person(two)("GET", "/api/auth/me", headers=cookie).status_code == 401, "logged out")
    turns = itertools.cycle(pair.servers)
    guess_until_refused(lambda: Person(next(turns)).login(made["email"], "wrong horse"), 4)  # and one before


# --- clocks -------------------------------------------------------------------------------------


class Clock:
    """A wall clock that a test may set, for processes with these variables."""

    def __init__(self, folder):
        library, self._file = folder / "wall_clock.so", folder / "wall_clock"
        source = Path(__file__).with_name("wall_clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        self.seconds = 0
        self._file.write_bytes(struct.pack("q", 0))
        self.env = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._file)}

    def move(self, seconds):
        self.seconds += seconds
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", self.seconds))

    def now(self):
        return time.time() + self.seconds


@pytest.fixture
def clock(tmp_path):
    """At noon, so that an hour back is the same day."""
    moved = Clock(tmp_path)
    moved.move(12 * HOUR - int(time.time()) % (24 * HOUR))
    return moved


def test_clock_of_a_server_is_set_back(make_server, postgres, run_cli, guest, clock):
    """Its own counters: those of a minute do not look at this clock, those of a day count on."""
    env = {"DATABASE_URL": postgres.url, "API_SALT": SALT}
    lines(run_cli(["migrate", "up"], env=env))
    postgres.ask("INSERT INTO tiers (name, per_minute, per_day, concurrency) VALUES ('few', 1000, 12, 10)")
    keys = {
        tier: lines(run_cli(["keys", "create", "--name", tier, "--tier", tier], env=env))[0]
        for tier in ("free", "few", "pro")
    }
    server = make_server(**env, **clock.env, RATE_LIMITS="on", TRUSTED_PROXIES="127.0.0.1")
    admin = become_admin(server)
    made, _ = make_account(admin, server)
    person, leaves = Person(server), Person(server)
    for who in (person, leaves):
        check(who.login(made["email"]), 200)
    cookie = {"Cookie": f"wasmwiz={leaves.http.cookies['wasmwiz']}"}
    check(leaves("POST", "/api/auth/logout"), 204)
    revoked = check(person("POST", "/api/auth/keys", {"name": "revoked"}), 201).json()
    check(person("DELETE", f"/api/auth/keys/{revoked['id']}"), 204)
    short = check(person("POST", "/api/auth/keys", {"name": "short", "expires_in": 2 * HOUR}), 201).json()

    def runs(key, count):
        with connect(server, keys[key]) as client:
            return [execute(client, server, guest("wat_echo"), b"").status_code for _ in range(count)].count(200)

    began = time.monotonic()
    free = runs("free", 20)
    assert runs("few", 20) == 12
    clock.move(-HOUR)
    free += runs("free", 20)
    assert 10 <= free <= 10 + (time.monotonic() - began) / 6
    assert runs("few", 20) == 0
    assert runs("pro", 20) == 20
    check(person("GET", "/api/auth/me"), 200)
    check(Person(server)("GET", "/api/auth/me", headers=cookie), 401)
    check(Person(server, revoked["key"])("GET", "/api/auth/me"), 401)
    check(Person(server, short["key"])("GET", "/api/auth/me"), 200)
    check(Person(server).login(made["email"]), 200)
    # Rows of both times are written, each with the time that the clock showed.
    count = free + 12 + 20
    wait_until(lambda: len(postgres.ask("SELECT id FROM usage_logs")) == count, "the rows are there", 30)
    times = [int(ns) / 1e9 for ns in postgres.ask("SELECT time_ns FROM usage_logs")]
    assert clock.now() - 600 < min(times) < clock.now() < max(times) < clock.now() + HOUR
    # Forward again, and further: what has an end ends, and a new day begins.
    clock.move(HOUR + 24 * HOUR)
    check(Person(server, short["key"])("GET", "/api/auth/me"), 401)
    check(person("GET", "/api/auth/me"), 401)
    assert runs("few", 20) == 12
    assert server.is_running()


def test_who_was_locked_out_waits_no_longer_when_the_clock_is_set_back(make_server, clock):
    server = make_server(**clock.env, TRUSTED_PROXIES="127.0.0.1")
    made, _ = make_account(become_admin(server), server)
    guess_until_refused(lambda: Person(server).login(made["email"], "wrong horse"), 5)
    clock.move(-HOUR)
    wait_until(lambda: Person(server).login(made["email"]).status_code == 200, "the account opens again", 60)


def test_clock_of_redis_is_set_back(make_server, run_cli, postgres, guest, clock):
    """It is the clock that all limits go by: a bucket that would be full long from now is empty and fills from here."""
    with running_redis(clock.env) as redis:
        pair = Pair(make_server, run_cli, postgres, redis)
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            key = pair.keys["basic"]
            loads = [stack.enter_context(load_on(s, key, guest("wat_echo"), threads=2)) for s in pair.servers]
            wait_until(lambda: all(count_refused(load) for load in loads), "the limit is met at both", 60)
            before = redis.seconds()
            clock.move(-HOUR)
            assert redis.seconds() < before
            seen = [len(load.accepted) for load in loads]
            wait_until(
                lambda: sum(len(load.accepted) for load in loads) > sum(seen) + 5, "tokens flow in again", 60
            )
        seconds = time.monotonic() - began
        taken = sum(len(load.accepted) for load in loads)
        assert PER_MINUTE["basic"] <= taken <= PER_MINUTE["basic"] * (1 + seconds / 60), seconds
        for load in loads:
            check_only_limited(load)
