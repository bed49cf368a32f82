"""A row for each run: what is in it, that none is lost or counted twice whatever dies, and how it is read."""

import contextlib
import csv
import io
import json
import sqlite3
import time
import uuid

import pytest
from services import SALT
from support import Load, connect, execute, lines, make_key, metric, metrics, wait_until

COLUMNS = (
    "time_ns id key_id user_id module_sha duration_us cpu_us memory_peak_bytes cause status error "
    "wasm_bytes input_bytes output_bytes exit_code queue_us compile_us fuel stderr_bytes host_calls"
).split()
DAY_NS = 86400 * 10**9


@contextlib.contextmanager
def database(server):
    opened = sqlite3.connect(server.data_dir / "wasmwiz.db", timeout=10)
    try:
        yield opened
    finally:
        opened.close()


def rows(server):
    with database(server) as opened:
        found = opened.execute(f"SELECT {', '.join(COLUMNS)} FROM usage_logs ORDER BY time_ns").fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def wait_rows(server, count):
    return wait_until(lambda: len(found := rows(server)) >= count and found, f"{count} rows")


def key_id(client):
    return client.get("/api/auth/me").json()["key_id"]


def make_user(server, role="user"):
    """An account and a key of it; what a registration will do is done by SQL here."""
    user = uuid.uuid4().hex[:16]
    with database(server) as opened, opened:
        columns = [row[1] for row in opened.execute("PRAGMA table_info(users)")]
        values = dict.fromkeys(columns, 0) | {
            "id": user,
            "email": f"{user}@example.org",
            "email_folded": f"{user}@example.org",
            "password_hash": "none",
            "role": role,
            "tier": "pro",
            "active": 1,
        }
        marks = ", ".join("?" * len(columns))
        opened.execute(f"INSERT INTO users ({', '.join(columns)}) VALUES ({marks})", [values[c] for c in columns])
    return user


def give_key(server, identity, user):
    with database(server) as opened, opened:
        assert opened.execute("UPDATE api_keys SET user_id = ? WHERE id = ?", (user, identity)).rowcount == 1
        opened.execute("UPDATE store_changes SET version = version + 1")


@pytest.fixture
def ready(make_server, run_cli):
    """A server of the test's own, and a client with a key of nobody."""
    server = make_server()
    with connect(server, make_key(run_cli, server)) as client:
        yield server, client


# --- rows ---------------------------------------------------------------------------------------


def test_each_run_makes_a_row(ready, guest):
    server, client = ready
    good = execute(client, server, guest("wat_echo"), b"hello").json()
    bad = execute(client, server, guest("wat_forever"), b"", timeout_ms=50).json()
    unfit = execute(client, server, b"\0asm\1\0\0\0", b"").json()
    first, second, third = wait_rows(server, 3)
    assert first["id"] == good["receipt"]["run_id"] == good["request_id"]
    assert first["key_id"] == key_id(client)
    assert first["user_id"] is None
    assert first["cause"] == "ok" and first["status"] == 200 and first["error"] == ""
    assert first["wasm_bytes"] == len(guest("wat_echo")) and first["input_bytes"] == first["output_bytes"] == 5
    assert first["duration_us"] == good["receipt"]["duration_us"]
    assert first["cpu_us"] == good["receipt"]["cpu_us"]
    assert first["memory_peak_bytes"] == good["receipt"]["memory_peak_bytes"] > 0
    for column in ("exit_code", "queue_us", "compile_us", "fuel", "stderr_bytes", "host_calls"):
        assert first[column] == good["receipt"][column]
        assert second[column] == bad["receipt"][column]
    assert first["host_calls"] > 0 and first["compile_us"] > 0
    assert abs(first["time_ns"] - time.time_ns()) < 3600 * 10**9
    assert second["id"] == bad["request_id"] and second["error"] == bad["error"]
    assert second["cause"] == "deadline" and second["status"] == 422
    assert third["id"] == unfit["request_id"] and third["cause"] == "rejected" and third["error"] == unfit["error"]


def test_what_was_refused_makes_none(ready, guest, run_cli):
    server, client = ready
    execute(client, server, guest("wat_echo"), None)  # 400
    execute(client, server, b"not wasm", b"")
    with connect(server, "a-wrong-key") as stranger:
        assert execute(stranger, server, guest("wat_echo"), b"").status_code == 401
    execute(client, server, guest("wat_echo"), b"")
    wait_rows(server, 1)
    time.sleep(0.5)
    assert len(rows(server)) == 1
    local = server.data_dir.parent / "echo.wasm"
    local.write_bytes(guest("wat_echo"))
    assert run_cli(["run", local], b"", env={"DATA_DIR": server.data_dir}).returncode == 0
    assert len(rows(server)) == 1


def test_rate_limit_hits_are_counted_and_make_no_rows(make_server, run_cli, guest):
    server = make_server(RATE_LIMITS="on")
    made = run_cli(["keys", "create", "--name", "f", "--tier", "free"], env={"DATA_DIR": server.data_dir})
    with connect(server, made.stdout.decode().strip()) as client:
        answers = []
        while answers.count(429) < 3:
            answers.append(execute(client, server, guest("wat_echo"), b"").status_code)
        assert set(answers) == {200, 429} and answers.count(200) >= 10
        assert metric(client, server, "wasmwiz_limit_hits_total", limit="minute") == 3
        wait_rows(server, answers.count(200))
        time.sleep(0.3)
        assert len(rows(server)) == answers.count(200)


def test_metrics_tell(ready, guest):
    server, client = ready
    for _ in range(5):
        execute(client, server, guest("wat_echo"), b"")
    wait_rows(server, 5)

    def sample(name):
        return metrics(client, server)[name, frozenset()]

    wait_until(lambda: sample("wasmwiz_usage_rows_written_total") == 5, "rows are counted")
    wait_until(lambda: sample("wasmwiz_usage_rows_waiting") == 0, "none waits")
    wait_until(lambda: sample("wasmwiz_api_keys_active") == 1, "the key is counted", 15)
    assert sample("wasmwiz_usage_rows_lost_total") == 0
    assert sample("wasmwiz_usage_journal_bytes") > 0
    wait_until(lambda: last_use(server) > 0, "the key's last use is noted", 15)


def last_use(server):
    with database(server) as opened:
        return opened.execute("SELECT max(last_used_ns) FROM api_keys").fetchone()[0]


# --- what dies ----------------------------------------------------------------------------------


def check_each_once(found, load):
    """Each accepted run is there once; one whose reply was on its way when the server died may be there, too."""
    assert len(found) == len(set(found)), "no run is there twice"
    missing = set(load.accepted) - set(found)
    assert not missing, f"{len(missing)} of {len(load.accepted)} accepted runs are missing"
    assert len(found) - len(load.accepted) <= load.unknown


@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.9])
def test_killed_under_load(ready, guest, run_cli, seconds):
    server, _ = ready
    load = Load(server, make_key(run_cli, server), guest("wat_echo"))
    wait_until(lambda: load.accepted, "the first run")
    time.sleep(seconds)
    server.kill()
    load.stop()
    server.start()
    wait_until(
        lambda: set(load.accepted) <= {row["id"] for row in rows(server)}, "what was accepted is there", 20
    )
    check_each_once([row["id"] for row in rows(server)], load)
    with database(server) as opened:
        total = opened.execute("SELECT sum(runs) FROM usage_daily").fetchone()[0]
    assert total == len(rows(server)), "the sums a day agree with the rows"


def test_stopped_under_load(ready, guest, run_cli):
    server, _ = ready
    load = Load(server, make_key(run_cli, server), guest("wat_echo"))
    wait_until(lambda: len(load.accepted) > 50, "some runs")
    assert server.stop() == 0
    load.stop()
    check_each_once([row["id"] for row in rows(server)], load)


def test_damage_does_not_stop_a_start(ready, guest, run_cli):
    server, client = ready
    with database(server) as opened:
        opened.execute("BEGIN IMMEDIATE")  # so that runs stay in the journal
        for _ in range(3):
            assert execute(client, server, guest("wat_echo"), b"").status_code == 200
        server.kill()
    journals = list((server.data_dir / "usage").glob("*.journal"))
    assert journals
    for path in journals:
        content = bytearray(path.read_bytes())
        content[4096 + 440 + 60] ^= 0xFF  # of the second record
        path.write_bytes(content)
    (server.data_dir / "usage" / "0123456789abcdef.journal").write_bytes(b"x" * 100000)
    server.start()
    with connect(server, make_key(run_cli, server)) as other:
        execute(other, server, guest("wat_echo"), b"")
        wait_until(lambda: metric(other, server, "wasmwiz_usage_rows_lost_total") >= 1, "the damage is counted")
        wait_rows(server, 2)
    aside = server.data_dir / "usage" / "0123456789abcdef.journal.bad"
    wait_until(aside.exists, "the foreign file is put aside")
    assert "were not whole" in server.log_text()


def test_the_database_dies_under_load(run_cli, make_server, postgres, guest):
    env = {"DATABASE_URL": postgres.url, "API_SALT": SALT, "DATABASE_TIMEOUT": "2"}
    lines(run_cli(["migrate", "up"], env=env))
    server = make_server(**env)
    made = run_cli(["keys", "create", "--name", "load", "--tier", "pro"], env=env)
    load = Load(server, lines(made)[0], guest("wat_echo"), threads=2)
    wait_until(lambda: len(load.accepted) > 100, "some runs")
    postgres.crash()
    before = len(load.accepted)
    wait_until(lambda: len(load.accepted) > before + 200, "runs go on without it")
    with connect(server) as client:
        wait_until(lambda: metric(client, server, "wasmwiz_usage_rows_waiting") > 100, "they wait in the journal")
    postgres.start()
    time.sleep(0.5)
    load.stop()
    assert not load.unknown
    # While it starts up again it may be asked about the key; the journal was never full.
    assert all("store_down" in o.text and "no room left" not in o.text for o in load.others), load.others[:3]

    def ids():
        return postgres.ask("SELECT id FROM usage_logs")

    wait_until(lambda: set(load.accepted) <= set(ids()), "all are there", 30)
    check_each_once(ids(), load)
    assert int(postgres.ask("SELECT sum(runs) FROM usage_daily")[0]) == len(load.accepted)


# --- reading ------------------------------------------------------------------------------------


def test_totals_agree_with_rows(ready, guest):
    server, client = ready
    for n in range(4):
        execute(client, server, guest("wat_echo"), b"x" * n)
    execute(client, server, guest("wat_forever"), b"", timeout_ms=20)
    wait_rows(server, 5)
    found = client.get("/api/usage/runs").json()["runs"]
    assert len(found) == 5

    def totals(by):
        answer = client.get("/api/usage", params={"by": by})
        assert answer.status_code == 200, answer.text
        assert answer.json()["by"] == by
        return answer.json()["totals"]

    for by in ("day", "key", "module", "cause"):
        for column in ("duration_us", "cpu_us", "wasm_bytes", "input_bytes", "output_bytes"):
            assert sum(t[column] for t in totals(by)) == sum(row[column] for row in found), (by, column)
        assert sum(t["runs"] for t in totals(by)) == 5
    assert {t["cause"]: t["runs"] for t in totals("cause")} == {"ok": 4, "deadline": 1}
    assert [t["key_id"] for t in totals("key")] == [key_id(client)]
    assert {t["runs"] for t in totals("module")} == {4, 1}
    assert client.get("/api/usage", params={"from": "2000-01-01", "to": "2001-01-01"}).json()["totals"] == []


@pytest.mark.parametrize(
    "query",
    ["by=week", "from=yesterday", "from=2026-02-30", "from=2026-02-01&to=2026-01-01", "key_id=x", "limit=0",
     "user_id=%00", "key_id=0011223344556677&user_id=0011223344556677"],
)  # fmt: skip
def test_wrong_questions(ready, query):
    _, client = ready
    answer = client.get(f"/api/usage?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "field_invalid"


def test_pages_and_exports(ready, guest):
    server, client = ready
    ids = [execute(client, server, guest("wat_echo"), b"").json()["request_id"] for _ in range(7)]
    wait_rows(server, 7)
    seen, cursor = [], None
    while True:
        page = client.get("/api/usage/runs", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [row["run_id"] for row in page["runs"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == ids[::-1]

    answer = client.get("/api/usage/export", params={"format": "csv", "limit": 3, "from": "2026-01-01"})
    text = answer.text
    while "next" in answer.links:
        answer = client.get(answer.links["next"]["url"])
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
        text += answer.text
    parsed = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["run_id"] for row in parsed] == ids[::-1]
    assert all(None not in row and None not in row.values() for row in parsed)
    exported = client.get("/api/usage/export", params={"format": "json"}).json()
    assert [row["run_id"] for row in exported["runs"]] == ids[::-1]
    assert client.get("/api/usage/export", params={"format": "xml"}).status_code == 400


def test_no_formula_gets_into_a_spreadsheet(ready, guest):
    server, client = ready
    execute(client, server, guest("wat_echo"), b"")
    wait_rows(server, 1)
    evil = '=HYPERLINK("http://example.org","a")\r\n,b'
    with database(server) as opened, opened:
        opened.execute("UPDATE usage_logs SET error = ?", (evil,))
    text = client.get("/api/usage/export").content.decode()
    assert text.count("\r\n") == 3  # two lines, and the one inside quotes
    assert next(csv.DictReader(io.StringIO(text, newline="")))["error"] == "'" + evil


def test_usage_of_others_is_invisible(ready, guest, run_cli):
    server, client = ready
    keys = [make_key(run_cli, server) for _ in range(3)]
    people = [connect(server, key) for key in keys]
    ids = [key_id(person) for person in people]
    users = [make_user(server), make_user(server), make_user(server, "operator")]
    for identity, user in zip(ids, users, strict=True):
        give_key(server, identity, user)
    wait_until(lambda: people[2].get("/api/auth/me").json()["role"] == "operator", "the keys have their users")
    for person in (client, *people[:2]):
        execute(person, server, guest("wat_echo"), b"")
    wait_rows(server, 3)

    def seen(person, **query):
        answer = person.get("/api/usage/runs", params=query)
        return answer.status_code, {row["key_id"] for row in answer.json().get("runs", [])}

    nobody = key_id(client)
    assert seen(client) == (200, {nobody})
    assert seen(client, key_id=nobody) == (200, {nobody})
    assert seen(client, key_id=ids[0])[0] == 403
    assert seen(client, user_id=users[0])[0] == 403
    assert seen(people[0]) == (200, {ids[0]})
    assert seen(people[0], key_id=ids[0]) == (200, {ids[0]})
    assert seen(people[0], user_id=users[0]) == (200, {ids[0]})
    assert seen(people[0], key_id=ids[1])[0] == 403
    assert seen(people[0], key_id=nobody)[0] == 403
    assert seen(people[0], user_id=users[1])[0] == 403
    assert seen(people[2]) == (200, {nobody, ids[0], ids[1]})
    assert seen(people[2], user_id=users[1]) == (200, {ids[1]})
    assert seen(people[2], key_id=ids[0]) == (200, {ids[0]})
    for path in ("/api/usage", "/api/usage/export"):
        assert people[0].get(path, params={"user_id": users[1]}).status_code == 403
        with connect(server) as stranger:
            assert stranger.get(path).status_code == 401
    assert len(people[0].get("/api/usage", params={"by": "key"}).json()["totals"]) == 1
    for person in people:
        person.close()


def test_the_command_line(ready, guest, run_cli):
    server, client = ready
    for _ in range(3):
        execute(client, server, guest("wat_echo"), b"ab")
    wait_rows(server, 3)
    env = {"DATA_DIR": server.data_dir}
    table = lines(run_cli(["usage"], env=env))
    assert table[0].split()[:2] == ["day", "runs"] and table[1].split()[1] == "3"
    parsed = list(csv.DictReader(lines(run_cli(["usage", "--by", "key", "--format", "csv"], env=env))))
    assert [(row["key_id"], row["runs"], row["input_bytes"]) for row in parsed] == [(key_id(client), "3", "6")]
    answered = json.loads(run_cli(["usage", "--by", "cause", "--format", "json"], env=env).stdout)
    assert [(row["cause"], row["runs"]) for row in answered] == [("ok", 3)]
    assert lines(run_cli(["usage", "--to", "2000-01-02", "--from", "2000-01-01"], env=env)) == ["no runs"]
    assert lines(run_cli(["usage", "--key", "0000000000000000"], env=env)) == ["no runs"]
    for wrong in (["--by", "week"], ["--from", "x"], ["--format", "xml"], ["--by"], ["more"]):
        assert run_cli(["usage", *wrong], env=env).returncode == 64


# --- retention ----------------------------------------------------------------------------------


def test_old_rows_are_deleted_and_their_sums_stay(make_server, run_cli, guest):
    server = make_server(RETENTION_INTERVAL="1", USAGE_RETENTION="30d", AUDIT_RETENTION="30d")
    with connect(server, make_key(run_cli, server)) as client:
        old, young = (execute(client, server, guest("wat_echo"), b"").json()["request_id"] for _ in range(2))
        wait_rows(server, 2)
        with database(server) as opened, opened:
            opened.execute("UPDATE usage_logs SET time_ns = time_ns - ? WHERE id = ?", (31 * DAY_NS, old))
            opened.execute("UPDATE usage_logs SET time_ns = time_ns - ? WHERE id = ?", (29 * DAY_NS, young))
            for age in (31, 1):
                opened.execute(
                    "INSERT INTO audit_events (time_ns, actor, action, target, address, detail) "
                    "VALUES (?, 'a', 'b', 'c', '', '{}')",
                    (time.time_ns() - age * DAY_NS,),
                )
        wait_until(lambda: [row["id"] for row in rows(server)] == [young], "the old row is gone", 20)
        wait_until(lambda: metric(client, server, "wasmwiz_rows_deleted_total", table="audit") == 1, "the event, too")
        assert metric(client, server, "wasmwiz_rows_deleted_total", table="usage") == 1
        assert client.get("/api/usage").json()["totals"][0]["runs"] == 2
        wait_until(lambda: "old rows deleted" in server.log_text(), "it is told")
