"""What is tried against accounts and keys, and two databases under them. Against the real server."""

import re
import socket
import sqlite3
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from people import (
    ADMIN,
    PASSWORD,
    Person,
    become_admin,
    check,
    code_of,
    fresh_email,
    guess_until_refused,
    make_account,
    open_site,
)
from services import SALT
from support import metric, wait_until


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with open_site(tmp_path_factory.mktemp("site")) as server:
        yield server


@pytest.fixture
def account(site):
    return make_account(site.admin, site)


# --- what is tried --------------------------------------------------------------------------------


def test_brute_force_is_slowed_down(site, account):
    email = account[0]["email"]
    guesser = Person(site)

    def hits():
        return metric(guesser.http, site, "wasmwiz_limit_hits_total", limit="login")

    before = hits()
    locked = guess_until_refused(lambda: guesser.login(email, "wrong horse"), 5)
    assert code_of(locked) == "rate_limited" and int(locked.headers["Retry-After"]) >= 1
    check(Person(site).login(email), 429)  # for everybody, wherever from
    assert hits() == before + 2
    check(account[1]("GET", "/api/auth/me"), 200)  # keys go on
    wait_until(lambda: Person(site).login(email).status_code == 200, "the account opens again", 60)
    check(guesser.login(email, "wrong horse"), 401)  # and all is forgotten
    # One client, many accounts.
    sprayer = Person(site)
    guess_until_refused(lambda: sprayer.login(fresh_email(), PASSWORD), 20)
    check(sprayer.login(email), 429)
    check(Person(site).login(email), 200)


def test_login_does_not_tell_who_exists(site, account):
    person = Person(site)
    known = person.login(account[0]["email"], "wrong horse").json()["error"]
    unknown = person.login(fresh_email(), "wrong horse").json()["error"]
    assert known["message"] == unknown["message"] and known["code"] == unknown["code"]


def test_many_logins_at_once_leave_room(site, account):
    email, person = account[0]["email"], account[1]
    stop = threading.Event()

    def hammer():
        statuses = set()
        while not stop.is_set():
            statuses.add(Person(site).login(email).status_code)
        return statuses

    with ThreadPoolExecutor(12) as pool:
        crowd = [pool.submit(hammer) for _ in range(12)]
        for n in range(20):
            check(person("POST", "/api/auth/keys", {"name": f"r{n}"}), 201)
        stop.set()
    statuses = set().union(*(each.result() for each in crowd))
    assert 200 in statuses and statuses <= {200, 429, 503}


def raw(server, lines, body=b""):
    """One request, byte for byte; the status of the answer."""
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), 10) as client:
        client.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_authentication_is_not_bypassed(site, account):
    key = account[0]["key"]
    dead = account[1]("POST", "/api/auth/keys", {"name": "dead"}).json()
    check(account[1]("DELETE", f"/api/auth/keys/{dead['id']}"), 204)
    bad = ["", " ", "Bearer", "Bearer ", f"Basic {key}", f"Token {key}", key, f"Bearer{key}", f"Bearer\u00a0{key}",
           f"Bearer {key},{key}", f"Bearer {key} {key}", f"Bearer {key}=", f"Bearer ={key}", f"Bearer \"{key}\"",
           f"Bearer {key[:-1]}", f"Bearer {key}x", f"Bearer {key.swapcase()}", f"Bearer {dead['key']}",
           f"Bearer ww_{'0' * 40}", "Bearer " + "x" * 5000, "Bearer ' OR '1'='1", "Bearer null", "Bearer undefined",
           f"Bearer {key}\t{key}", f"Digest username=\"{key}\"", "Bearer eyJhbGciOiJub25lIn0.e30."]  # fmt: skip
    for path in ("/api/auth/me", "/api/users", "/api/auth/keys"):
        for value in bad:
            lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: {value}"]
            assert raw(site, lines) == 401, (path, value)
    post = ["POST /execute HTTP/1.1", "Host: x", "Content-Type: multipart/form-data; boundary=b", "Content-Length: 7"]
    for value in bad:
        assert raw(site, [*post, f"Authorization: {value}"], b"--b--\r\n") == 401, value
    me = "GET /api/auth/me HTTP/1.1"
    good = f"Authorization: Bearer {key}"
    assert raw(site, [me, "Host: x", good]) == 200
    assert raw(site, [me, "Host: x", f"aUTHORIZATION: bEARER   {key}"]) == 200  # names and schemes have no case
    tricks = [
        [good, good], [good, "Authorization: Bearer x"], ["Authorization: Bearer x", good],
        [f"Authorization : Bearer {key}"],
        [f" Authorization: Bearer {key}"], [f"X: y\r\n Authorization: Bearer {key}"],
        [f"X: y\rAuthorization: Bearer {key}"],
        [f"X: y\nAuthorization:\x00Bearer {key}"], [f"Proxy-Authorization: Bearer {key}"],
        [f"X-Authorization: Bearer {key}"],
        [f"Authorization:\r\n Bearer {key}"], [f"X-Api-Key: {key}"], [f"Authorization\x00: Bearer {key}"],
    ]  # fmt: skip
    for lines in tricks:
        assert raw(site, [me, "Host: x", *lines]) in (400, 401), lines
    assert raw(site, [*post, good, good], b"--b--\r\n") == 401
    for query in (f"?access_token={key}", f"?key={key}", f"?Authorization=Bearer%20{key}"):
        check(Person(site)("GET", f"/api/auth/me{query}"), 401)
    admin_only = (
        "/api/users/",
        "//api/users",
        "/api//users",
        "/api/./users",
        "/API/users",
        "/api/users%2f",
        "/api/users;x",
    )
    for path in admin_only:
        assert raw(site, [f"GET {path} HTTP/1.1", "Host: x", good]) in (400, 403, 404), path
    for field in ("X-HTTP-Method-Override: GET", "X-Original-URL: /health", "X-Rewrite-URL: /health", "X-User: admin"):
        assert raw(site, ["GET /api/users HTTP/1.1", "Host: x", good, field]) == 403


def test_smuggled_requests_carry_nothing(site):
    hidden = (
        b"GET /api/users HTTP/1.1\r\nHost: x\r\n"
        + f"Authorization: {site.admin.http.headers['authorization']}".encode()
    )
    hidden += b"\r\n\r\n"
    start = ["POST /api/auth/login HTTP/1.1", "Host: x", "Content-Type: application/json"]
    for framing in (
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Content-Length: 2", "Content-Length: 3"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding : chunked"],
        ["Content-Length: +2"],
    ):
        assert raw(site, [*start, *framing], b"0\r\n\r\n" + hidden) == 400, framing


def test_inactive_account(site, account):
    made, person = account
    browser = Person(site)
    check(browser.login(made["email"]), 200)
    check(site.admin("PATCH", f"/api/users/{made['id']}", {"active": False}), 200)
    check(person("GET", "/api/auth/me"), 403, "forbidden")
    assert person.http.post("/execute").status_code in (403, 415)
    assert browser("GET", "/api/auth/me").status_code == 401
    check(Person(site).login(made["email"]), 403, "forbidden")
    check(site.admin("PATCH", f"/api/users/{made['id']}", {"active": True}), 200)
    check(person("GET", "/api/auth/me"), 200)


# --- what is asked for is bounded -----------------------------------------------------------------


def test_bodies_and_fields_are_bounded(site, account):
    person = account[1]
    path = "/api/auth/keys"

    def post(content, kind="application/json"):
        return person.http.post(path, content=content, headers={"Content-Type": kind})

    check(post(b'{"name":"' + b"x" * 5000 + b'"}'), 413, "body_too_large")
    check(person.http.post(path, content=iter([b"{" + b" " * 5000, b"}"])), 413, "body_too_large")
    check(post(b'{"name":"x"}', "text/plain"), 415, "unsupported_type")
    check(post(b'{"name":"x"}', "application/x-www-form-urlencoded"), 415, "unsupported_type")
    for broken in (b"{", b"[]", b'"x"', b"null", b"{}{}", b'{"name":"a","name":"b"}', b'{"name":"\xff"}',
                   b"[" * 3000, b'{"name":' + b"[" * 3000, b'{"name":"\\u0000"}', b'{"name":1e999}',
                   b"\xef\xbb\xbf{}"):  # fmt: skip
        answer = post(broken)
        assert answer.status_code == 400 and code_of(answer) in ("bad_request", "field_invalid"), (broken, answer.text)
    for body in ({}, {"name": ""}, {"name": None}, {"name": 5}, {"name": ["x"]}, {"name": {"a": 1}}, {"name": "x" * 65},
                 {"name": "a b"}, {"name": "ä"}, {"name": "x", "tier": "pro"}, {"name": "x", "user_id": "0" * 16},
                 {"name": "x", "expires_in": -1}, {"name": "x", "expires_in": 10**12}, {"name": "x", "expires_in": "1"},
                 {"name": "x", "expires_in": 0.5}, {"__proto__": 1}):  # fmt: skip
        check(person("POST", path, body), 400, "field_invalid")
    check(person("POST", path), 400, "field_invalid")
    check(post(b'{"name":"fine"}', "Application/JSON; charset=utf-8"), 201)
    stranger = Person(site)
    for body in ({"email": "a@b"}, {"email": "a@b", "password": "x" * 257}, {"email": "x" * 300, "password": PASSWORD},
                 {"email": "a b@c", "password": PASSWORD}, {"email": "a@b", "password": "short"},
                 {"email": "a@b@c", "password": PASSWORD}, {"email": "a\n@b", "password": PASSWORD},
                 {"email": "a@b", "password": PASSWORD, "role": "admin"}):  # fmt: skip
        check(stranger("POST", "/api/auth/register", body), 400, "field_invalid")


def test_requests_are_limited(make_server, run_cli):
    server = make_server(RATE_LIMITS="on", KEY_RATE="5", ADDRESS_RATE="8", TRUSTED_PROXIES="127.0.0.1")
    made = run_cli(["keys", "create", "--name", "x"], env={"DATA_DIR": server.data_dir})
    person, stranger = Person(server, made.stdout.decode().strip()), Person(server)
    for n in range(5):
        answer = check(person("GET", "/api/auth/me"), 200)
        assert answer.headers["RateLimit-Limit"] == answer.headers["X-RateLimit-Limit"] == "5"
        assert int(answer.headers["RateLimit-Remaining"]) <= 4 - n + 1
    refused = check(person("GET", "/api/auth/me"), 429, "rate_limited")
    assert int(refused.headers["Retry-After"]) >= 1 and len(refused.headers.get_list("Retry-After")) == 1
    statuses = [stranger("GET", "/api/auth/me").status_code for _ in range(9)]
    assert statuses == [401] * 8 + [429]
    check(Person(server)("GET", "/api/auth/me"), 401)  # another address
    assert "rate limit" in server.log_text()
    for limit, hits in {"requests": 1, "address": 1, "login": 0, "minute": 0}.items():
        assert metric(person.http, server, "wasmwiz_limit_hits_total", limit=limit) == hits, limit


def test_known_clients_do_not_count_as_addresses(make_server, run_cli):
    server = make_server(RATE_LIMITS="on", KEY_RATE="60", ADDRESS_RATE="5", TRUSTED_PROXIES="127.0.0.1")
    made = run_cli(["keys", "create", "--name", "x"], env={"DATA_DIR": server.data_dir})
    person = Person(server, made.stdout.decode().strip())
    for _ in range(20):
        check(person("GET", "/api/auth/me"), 200)


# --- several instances, two databases -------------------------------------------------------------


def start(make_server, backend, postgres, run_cli):
    env = {"API_SALT": SALT, "TRUSTED_PROXIES": "127.0.0.1"}
    if backend == "postgresql":
        env["DATABASE_URL"] = postgres.url
        wait_until(lambda: run_cli(["migrate", "up"], env=env).returncode == 0, "PostgreSQL takes the schema", 30)
    return make_server(**env)


TABLES = ("tiers", "users", "api_keys", "sessions", "webhooks", "usage_logs", "schema_migrations")


def snapshot(server, backend, postgres):
    """All rows of the tables that nothing below may touch by accident."""
    if backend == "sqlite":
        with sqlite3.connect(server.data_dir / "wasmwiz.db") as db:
            return {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}"))) for table in TABLES}
    return {table: sorted(postgres.ask(f"SELECT * FROM {table}")) for table in TABLES}


INJECTIONS = [
    "' OR '1'='1", "'; DROP TABLE users; --", "\" OR \"\"=\"", "x'; UPDATE users SET role='admin'; --", "$1", "?1",
    "\\'; --",
    "'/**/OR/**/1=1--", "'||(SELECT/**/password_hash/**/FROM/**/users)||'", "a'--@example.org", "%27%20OR%201=1",
    "$$;$$",
    "1;SELECT/**/pg_sleep(9)", "\x00'", "{number}",
]  # fmt: skip


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_text_is_never_sql(backend, make_server, postgres, run_cli):
    server = start(make_server, backend, postgres, run_cli)
    admin = become_admin(server)
    own_id = admin("GET", "/api/auth/me").json()["user_id"]
    before = snapshot(server, backend, postgres)
    quoted = [urllib.parse.quote(text, safe="") for text in INJECTIONS]
    refused = []
    for text, path in zip(INJECTIONS, quoted, strict=True):
        stranger = Person(server)
        refused += [
            stranger("POST", "/api/auth/login", {"email": text, "password": text}),
            stranger("POST", "/api/auth/login", {"email": ADMIN, "password": text}),
            Person(server, "x" + path.replace("%", ""))("GET", "/api/auth/me"),
            stranger("GET", "/api/auth/me", headers={"Cookie": f"wasmwiz={path}"}),
            admin("POST", "/api/auth/keys", {"name": text}),
            admin("POST", "/api/auth/password", {"current_password": text, "new_password": PASSWORD + "!"}),
            admin("PATCH", f"/api/users/{path}", {"role": "user"}),
            admin("PATCH", f"/api/users/{own_id}", {"role": text}),
            admin("PATCH", f"/api/users/{own_id}", {"tier": text}),
            admin("DELETE", f"/api/users/{path}"),
            admin("DELETE", f"/api/auth/keys/{path}"),
            admin("DELETE", f"/api/auth/sessions/{path}"),
            admin("DELETE", f"/api/tiers/{path}"),
            admin("PUT", f"/api/tiers/{path}", {"per_minute": 1, "per_day": 1, "concurrency": 1}),
            admin("GET", f"/api/auth/keys?cursor={path}"),
            admin("GET", f"/api/users?limit={path}"),
            admin("POST", "/api/users", {"email": fresh_email(), "password": PASSWORD, "tier": text}),
        ]
        for query in (f"actor={path}", f"target={path}"):
            answer = admin("GET", f"/api/audit?{query}")
            assert answer.status_code == 400 or answer.json()["events"] == [], answer.text
        answer = admin("GET", f"/api/auth/keys?user_id={path}")
        assert answer.status_code == 400 or answer.json()["keys"] == [], answer.text
    assert {answer.status_code for answer in refused} <= {400, 401, 403, 404, 429}
    assert snapshot(server, backend, postgres) == before
    # As an address it is kept as it is, and only that row is new.
    email = "x'--;DROP/**/TABLE/**/users@example.org"
    made = check(admin("POST", "/api/users", {"email": email, "password": PASSWORD}), 201).json()
    assert made["email"] == email
    assert check(Person(server).login(email.upper()), 200).json()["id"] == made["id"]
    after = snapshot(server, backend, postgres)
    added = {table: len(after[table]) - len(before[table]) for table in TABLES}
    assert added == dict.fromkeys(TABLES, 0) | {"users": 1, "api_keys": 1, "sessions": 1}
    assert all(set(before[table]) <= set(after[table]) for table in TABLES)


ENDPOINTS = Path(__file__).resolve().parents[2] / "src" / "api" / "endpoints.def"
ENDPOINT = re.compile(r'^ENDPOINT\((\w+), "([^"]+)", \w+, \d+, "([^"]*)"', re.MULTILINE)
QUERIES = ("cursor", "limit", "user_id", "key_id", "actor", "target", "by", "from", "to", "format")
FITTING = {
    "password": PASSWORD, "name": "fits", "expires_in": 60, "role": "user", "tier": "free", "active": True,
    "per_minute": 1, "per_day": 1, "concurrency": 1, "url": "https://example.org/hook", "events": ["key.created"],
}  # fmt: skip


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_no_field_of_any_endpoint_is_sql(backend, make_server, postgres, run_cli):
    """Every address, field and parameter of the table of endpoints, one at a time, the others as they should be."""
    server = start(make_server, backend, postgres, run_cli)
    admin = become_admin(server)
    check(admin("POST", "/api/webhooks", {"url": FITTING["url"], "events": ["key.created"]}), 201)
    before = snapshot(server, backend, postgres)
    seen = set()
    found = ENDPOINT.findall(ENDPOINTS.read_text())
    assert len(found) > 25
    for method, path, fields in found:
        if path in ("/api/auth/logout", "/api/auth/password", "/api/log") or (method, path) == ("DELETE", "/api/auth/sessions"):
            continue  # these end the session that asks, or do not end
        for text in INJECTIONS:
            quoted = urllib.parse.quote(text, safe="")
            asked = [(path.replace("*", quoted), None)] if "*" in path else []
            if method == "GET":
                asked += [(f"{path.replace('*', 'x')}?{name}={quoted}", None) for name in QUERIES]
            for field in fields.split():
                fitting = {name: FITTING.get(name, fresh_email()) for name in fields.split()}
                for value in (text, [text]):
                    asked.append((path.replace("*", "fits"), fitting | {field: value}))
            for address, body in asked:
                person = Person(server) if path in ("/api/auth/register", "/api/auth/login") else admin
                answer = person(method, address, body)
                assert answer.status_code < 500, (method, address, body, answer.text)
                seen.add(answer.status_code)
    assert {200, 400, 404} <= seen
    after = snapshot(server, backend, postgres)
    for table in ("users", "api_keys", "webhooks", "schema_migrations"):
        assert set(before[table]) <= set(after[table]), table
