"""Who may do what: accounts, sessions, API keys, roles, and what is tried against them. Against the real server."""

import glob
import itertools
import json
import re
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from conftest import running_server
from support import connect, execute, wait_until
from test_store import SALT, Postgres

PASSWORD = "correct horse"
ADMIN = "admin@example.org"
addresses = (f"10.1.{n // 250}.{n % 250 + 1}" for n in itertools.count())  # a client each, as the server sees it


class Person:
    """A client with an address of its own, and a session where it has logged in."""

    def __init__(self, server, key=None, https=False):
        self.address = next(addresses)
        headers = {"X-Forwarded-For": self.address}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if https:
            headers["X-Forwarded-Proto"] = "https"
        self.http = httpx.Client(base_url=server.url, headers=headers, timeout=30)

    def __call__(self, method, path, body=None, **options):
        return self.http.request(method, path, json=body, **options)

    def login(self, email, password=PASSWORD):
        answer = self("POST", "/api/auth/login", {"email": email, "password": password})
        if answer.status_code == 200:
            self.http.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return answer


def fresh_email():
    return f"{uuid.uuid4().hex[:12]}@example.org"


def code_of(answer):
    error = answer.json()["error"]
    assert error["message"].isprintable() and len(error["request_id"]) == 32
    return error["code"]


def check(answer, status, code=None):
    assert answer.status_code == status, (answer.status_code, answer.text)
    if code:
        assert code_of(answer) == code, answer.text
    return answer


def become_admin(server):
    """The first account of a server in development; its client, with its key."""
    made = check(Person(server)("POST", "/api/auth/register", {"email": ADMIN, "password": PASSWORD}), 201).json()
    assert made["role"] == "admin"
    return Person(server, made["key"])


def make_account(admin, server, role="user", tier="pro"):
    body = {"email": fresh_email(), "password": PASSWORD, "role": role, "tier": tier}
    made = check(admin("POST", "/api/users", body), 201).json()
    return made, Person(server, made["key"])


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    database = Postgres(tmp_path_factory.mktemp("postgres"))
    yield database
    database.crash()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("identity"), {"TRUSTED_PROXIES": "127.0.0.1"}) as server:
        server.admin = become_admin(server)
        yield server


@pytest.fixture
def account(site):
    return make_account(site.admin, site)


# --- keys -----------------------------------------------------------------------------------------


def test_u07_key_life(site, account, guest):
    _, person = account
    made = check(person("POST", "/api/auth/keys", {"name": "build"}), 201).json()
    secret = made["key"]
    assert re.fullmatch(r"ww_[0-9A-Za-z]{40}", secret) and secret.startswith(made["prefix"])
    listed = check(person("GET", "/api/auth/keys"), 200)
    assert [key["name"] for key in listed.json()["keys"]] == ["build", "default"]
    assert secret not in listed.text and set(listed.json()["keys"][0]) == {
        "id", "name", "prefix", "created_at", "expires_at", "last_used_at", "revoked_at"}  # fmt: skip
    with connect(site, secret) as client:
        assert execute(client, site, guest("wat_echo"), b"x").status_code == 200
        check(person("DELETE", f"/api/auth/keys/{made['id']}"), 204)
        assert execute(client, site, guest("wat_echo"), b"x").status_code == 401  # at once
        check(client.get("/api/auth/me"), 401, "unauthorized")
    assert person("GET", "/api/auth/keys").json()["keys"][0]["revoked_at"]
    check(person("DELETE", f"/api/auth/keys/{made['id']}"), 204)  # again: nothing to do
    check(person("PATCH", f"/api/auth/keys/{made['id']}", {"name": "back"}), 404)
    check(person("POST", "/api/auth/keys", {"name": "build"}), 201)  # the name is free again


def test_keys_are_renamed_and_expire(account):
    _, person = account
    made = check(person("POST", "/api/auth/keys", {"name": "short", "expires_in": 3600}), 201).json()
    assert made["expires_at"]
    changed = check(person("PATCH", f"/api/auth/keys/{made['id']}", {"name": "long", "expires_in": 0}), 200).json()
    assert changed["name"] == "long" and changed["expires_at"] is None
    check(person("PATCH", f"/api/auth/keys/{made['id']}", {}), 400, "field_invalid")
    check(person("PATCH", f"/api/auth/keys/{made['id']}", {"name": "default"}), 409, "conflict")
    check(person("PATCH", f"/api/auth/keys/{made['id']}", {"name": "a b"}), 400, "field_invalid")
    check(person("POST", "/api/auth/keys", {"name": "long"}), 409, "conflict")
    check(person("PATCH", f"/api/auth/keys/{made['id']}", {"expires_in": 1}), 200)
    with connect_to(person, made["key"]) as client:
        check(client.get("/api/auth/me"), 200)
        wait_until(lambda: client.get("/api/auth/me").status_code == 401, "the key expires")


def connect_to(person, key):
    return httpx.Client(base_url=person.http.base_url, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def test_keys_of_others_are_not_there(site, account):
    _, person = account
    other_account, other = make_account(site.admin, site)
    made = other("POST", "/api/auth/keys", {"name": "theirs"}).json()
    check(person("DELETE", f"/api/auth/keys/{made['id']}"), 404, "not_found")
    check(person("PATCH", f"/api/auth/keys/{made['id']}", {"name": "mine"}), 404, "not_found")
    check(person("GET", f"/api/auth/keys?user_id={other_account['id']}"), 403, "forbidden")
    for wrong in ("0" * 16, "x", made["id"][:-1], made["id"] + "0", made["id"] + "/", "..%2f" + made["id"], "%00"):
        check(person("DELETE", f"/api/auth/keys/{wrong}"), 404, "not_found")
    assert other("GET", "/api/auth/keys").json()["keys"][0]["name"] == "theirs"
    seen = site.admin("GET", f"/api/auth/keys?user_id={other_account['id']}").json()["keys"]
    assert [key["name"] for key in seen] == ["theirs", "default"]
    check(site.admin("DELETE", f"/api/auth/keys/{made['id']}"), 204)
    assert other("GET", "/api/auth/keys").json()["keys"][0]["revoked_at"]


def test_keys_come_in_pages_and_have_a_number(account):
    _, person = account
    for n in range(49):
        check(person("POST", "/api/auth/keys", {"name": f"k{n}"}), 201)
    refused = check(person("POST", "/api/auth/keys", {"name": "one-more"}), 409, "conflict")
    assert "50" in refused.text
    names, cursor = [], ""
    for _ in range(20):
        page = check(person("GET", f"/api/auth/keys?limit=7{cursor}"), 200).json()
        names += [key["name"] for key in page["keys"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert names == [f"k{n}" for n in reversed(range(49))] + ["default"]
    wrong = ("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=%zz", "limit=%31%00",
             "cursor=x", "cursor=1", "cursor=-1-1", "cursor=1-zz", "cursor=99999999999999999999-00", "cursor=")  # fmt: skip
    for query in wrong:
        check(person("GET", f"/api/auth/keys?{query}"), 400, "field_invalid")


def test_key_of_nobody(site, run_cli):
    made = run_cli(["keys", "create", "--name", f"n{uuid.uuid4().hex[:8]}"], env={"DATA_DIR": site.data_dir})
    person = Person(site, made.stdout.decode().strip())
    assert check(person("GET", "/api/auth/me"), 200).json()["user_id"] == ""
    check(person("GET", "/api/auth/keys"), 403, "forbidden")
    check(person("POST", "/api/auth/keys", {"name": "x"}), 403, "forbidden")
    check(person("GET", "/api/users"), 403, "forbidden")


# --- accounts and sessions ------------------------------------------------------------------------


def test_register_login_logout(site):
    email = fresh_email()
    person = Person(site)
    made = check(person("POST", "/api/auth/register", {"email": email.upper(), "password": PASSWORD}), 201).json()
    assert made["role"] == "user" and made["tier"] == "free" and made["active"] is True
    check(person("POST", "/api/auth/register", {"email": email, "password": PASSWORD}), 409, "conflict")
    assert connect_to(person, made["key"]).get("/api/auth/me").json()["user_id"] == made["id"]
    check(person("GET", "/api/auth/me"), 401)
    check(person.login(email, "wrong horse"), 401, "unauthorized")
    check(person.login(email), 200)
    me = check(person("GET", "/api/auth/me"), 200).json()
    assert me["email"] == email.upper() and me["key_id"] == "" and me["csrf_token"]
    check(person("POST", "/api/auth/keys", {"name": "from-browser"}), 201)
    session = person.http.cookies["wasmwiz"]
    left = check(person("POST", "/api/auth/logout"), 204)
    assert "Max-Age=0" in left.headers["Set-Cookie"] and "wasmwiz" not in person.http.cookies
    check(Person(site)("GET", "/api/auth/me", headers={"Cookie": f"wasmwiz={session}"}), 401, "unauthorized")


def test_logout_is_for_sessions(account):
    check(account[1]("POST", "/api/auth/logout"), 400, "bad_request")


@pytest.mark.parametrize("https", [False, True])
def test_cookie_attributes(site, account, https):
    person = Person(site, https=https)
    cookie = check(person.login(account[0]["email"]), 200).headers["Set-Cookie"]
    value, *attributes = cookie.split("; ")
    assert re.fullmatch(("__Host-" if https else "") + "wasmwiz=[0-9a-f]{64}", value)
    wanted = {"Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Lax"} | ({"Secure"} if https else set())
    assert set(attributes) == wanted
    fields = {"Cookie": value}
    check(Person(site, https=https)("GET", "/api/auth/me", headers=fields), 200)
    check(Person(site, https=not https)("GET", "/api/auth/me", headers=fields), 401)


def test_csrf(site, account):
    person, other = Person(site), Person(site)
    check(person.login(account[0]["email"]), 200)
    check(other.login(account[0]["email"]), 200)
    token = person.http.headers.pop("X-CSRF-Token")
    other_token = other.http.headers["X-CSRF-Token"]
    calls = (("POST", "/api/auth/keys", {"name": "x"}), ("POST", "/api/auth/logout", None),
             ("DELETE", "/api/auth/sessions", None), ("PATCH", f"/api/auth/keys/{'0' * 16}", {"name": "x"}))  # fmt: skip
    for method, path, body in calls:
        for fields in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": other_token}, {"X-CSRF-Token": token[:-1]},
                       {"X-CSRF-Token": token.upper() + "0"}, {"CSRF-Token": token}):  # fmt: skip
            answer = check(person(method, path, body, headers=fields), 403, "forbidden")
            assert "X-CSRF-Token" in answer.text and token not in answer.text
        check(person(method, f"{path}?X-CSRF-Token={token}&csrf_token={token}", body), 403, "forbidden")
    for path in ("/api/auth/me", "/api/auth/keys", "/api/auth/sessions"):
        check(person("GET", path), 200)
    assert person("HEAD", "/api/auth/me").status_code == 200
    check(person("POST", "/api/auth/keys", {"name": "x"}, headers={"X-CSRF-Token": token}), 201)
    # A key is no cookie: it needs no token, and goes before a cookie.
    check(account[1]("POST", "/api/auth/keys", {"name": "y"}, headers={"Cookie": "wasmwiz=" + "0" * 64}), 201)
    # An old session is no obstacle to a new one.
    check(person.login(account[0]["email"]), 200)


def test_cookies_that_are_none(site, account):
    person, other = Person(site), Person(site)
    check(person.login(account[0]["email"]), 200)
    email = make_account(site.admin, site)[0]["email"]
    check(other.login(email), 200)
    mine, theirs = person.http.cookies["wasmwiz"], other.http.cookies["wasmwiz"]
    stranger = Person(site)
    bad = (f"wasmwiz={mine}; wasmwiz={theirs}", f"wasmwiz={mine}; wasmwiz={mine}", f"wasmwiz={mine}x", f"Wasmwiz={mine}",
           f"__Host-wasmwiz={mine}", f"wasmwiz=\"{mine}\"", f"wasmwiz={mine.upper()}", "wasmwiz=" + "0" * 64,
           "wasmwiz=", "wasmwiz", f"wasmwiz={mine[:-1]}", f"x=wasmwiz={mine}", "wasmwiz=' OR 1=1 --")  # fmt: skip
    for cookie in bad:
        check(stranger("GET", "/api/auth/me", headers={"Cookie": cookie}), 401, "unauthorized")
    two = [("Cookie", f"wasmwiz={mine}"), ("Cookie", f"wasmwiz={theirs}")]
    check(stranger("GET", "/api/auth/me", headers=two), 401, "unauthorized")
    check(stranger("GET", "/api/auth/me", headers={"Cookie": f"a=b; wasmwiz={mine}"}), 200)
    # A credential that is sent goes first, also when it is bad.
    fields = {"Cookie": f"wasmwiz={mine}", "Authorization": "Bearer ww_" + "x" * 40}
    check(stranger("GET", "/api/auth/me", headers=fields), 401, "unauthorized")
    # An execution takes a key and nothing else.
    assert stranger.http.post("/execute", headers={"Cookie": f"wasmwiz={mine}"}).status_code == 401


def test_password_change(site, account):
    email = account[0]["email"]
    person, other = Person(site), Person(site)
    check(person.login(email), 200)
    check(other.login(email), 200)
    body = {"current_password": "wrong horse", "new_password": "battery staple"}
    check(person("POST", "/api/auth/password", body), 403, "forbidden")
    check(person("POST", "/api/auth/password", {"current_password": PASSWORD, "new_password": "short"}), 400)
    check(other("GET", "/api/auth/me"), 200)
    check(person("POST", "/api/auth/password", body | {"current_password": PASSWORD}), 204)
    check(person("GET", "/api/auth/me"), 200)
    check(other("GET", "/api/auth/me"), 401)
    check(Person(site).login(email), 401)
    check(Person(site).login(email, "battery staple"), 200)


def test_sessions_are_listed_and_ended(site, account):
    email = account[0]["email"]
    person, second, third = Person(site), Person(site), Person(site)
    for who in (person, second, third):
        check(who.login(email), 200)
    listed = check(person("GET", "/api/auth/sessions"), 200)
    sessions = listed.json()["sessions"]
    assert {s["address"] for s in sessions} == {person.address, second.address, third.address}
    assert [s["address"] for s in sessions if s["current"]] == [person.address]
    assert person.http.cookies["wasmwiz"] not in listed.text
    of_second = next(s["id"] for s in sessions if s["address"] == second.address)
    stranger = make_account(site.admin, site)[1]
    check(stranger("DELETE", f"/api/auth/sessions/{of_second}"), 404)
    check(person("DELETE", f"/api/auth/sessions/{of_second}"), 204)
    check(second("GET", "/api/auth/me"), 401)
    check(third("GET", "/api/auth/me"), 200)
    check(person("DELETE", "/api/auth/sessions"), 204)
    check(third("GET", "/api/auth/me"), 401)
    check(person("GET", "/api/auth/me"), 200)


def test_sessions_expire(make_server):
    server = make_server(SESSION_IDLE="1", TRUSTED_PROXIES="127.0.0.1")
    become_admin(server)
    person = Person(server)
    check(person.login(ADMIN), 200)
    check(person("GET", "/api/auth/me"), 200)
    time.sleep(1.2)
    check(person("GET", "/api/auth/me"), 401, "unauthorized")


def test_registration_closed(make_server):
    server = make_server(ENVIRONMENT="production", API_SALT=SALT)
    body = {"email": fresh_email(), "password": PASSWORD}
    answer = check(httpx.post(f"{server.url}/api/auth/register", json=body), 403, "forbidden")
    assert "REGISTRATION" in answer.text
    opened = make_server(ENVIRONMENT="production", API_SALT=SALT, REGISTRATION="open")
    made = check(httpx.post(f"{opened.url}/api/auth/register", json=body), 201).json()
    assert made["role"] == "user"  # nobody becomes an administrator by being quick


def test_one_of_many_first_accounts_is_administrator(make_server):
    server = make_server()

    def register(n):
        body = {"email": f"{n}@example.org", "password": PASSWORD}
        return httpx.post(f"{server.url}/api/auth/register", json=body, timeout=30)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(register, range(6)))
    roles = [answer.json()["role"] for answer in answers if answer.status_code == 201]
    assert len(roles) >= 2 and roles.count("admin") == 1


# --- what is tried --------------------------------------------------------------------------------


def test_brute_force_is_slowed_down(site, account):
    email = account[0]["email"]
    guesser = Person(site)
    seen = [guesser.login(email, f"wrong horse {n}") for n in range(6)]
    assert [answer.status_code for answer in seen] == [401] * 5 + [429]
    locked = seen[-1]
    assert code_of(locked) == "rate_limited" and int(locked.headers["Retry-After"]) >= 1
    check(Person(site).login(email), 429)  # for everybody, wherever from
    check(account[1]("GET", "/api/auth/me"), 200)  # keys go on
    wait_until(lambda: Person(site).login(email).status_code == 200, "the account opens again")
    check(guesser.login(email, "wrong horse"), 401)  # and all is forgotten
    # One client, many accounts.
    sprayer = Person(site)
    statuses = [sprayer.login(fresh_email(), PASSWORD).status_code for _ in range(21)]
    assert statuses == [401] * 20 + [429]
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
        [good, good], [good, "Authorization: Bearer x"], ["Authorization: Bearer x", good], [f"Authorization : Bearer {key}"],
        [f" Authorization: Bearer {key}"], [f"X: y\r\n Authorization: Bearer {key}"], [f"X: y\rAuthorization: Bearer {key}"],
        [f"X: y\nAuthorization:\x00Bearer {key}"], [f"Proxy-Authorization: Bearer {key}"], [f"X-Authorization: Bearer {key}"],
        [f"Authorization:\r\n Bearer {key}"], [f"X-Api-Key: {key}"], [f"Authorization\x00: Bearer {key}"],
    ]  # fmt: skip
    for lines in tricks:
        assert raw(site, [me, "Host: x", *lines]) in (400, 401), lines
    assert raw(site, [*post, good, good], b"--b--\r\n") == 401
    for query in (f"?access_token={key}", f"?key={key}", f"?Authorization=Bearer%20{key}"):
        check(Person(site)("GET", f"/api/auth/me{query}"), 401)
    admin_only = ("/api/users/", "//api/users", "/api//users", "/api/./users", "/API/users", "/api/users%2f", "/api/users;x")
    for path in admin_only:
        assert raw(site, [f"GET {path} HTTP/1.1", "Host: x", good]) in (400, 403, 404), path
    for field in ("X-HTTP-Method-Override: GET", "X-Original-URL: /health", "X-Rewrite-URL: /health", "X-User: admin"):
        assert raw(site, ["GET /api/users HTTP/1.1", "Host: x", good, field]) == 403


def test_smuggled_requests_carry_nothing(site):
    hidden = b"GET /api/users HTTP/1.1\r\nHost: x\r\n" + f"Authorization: {site.admin.http.headers['authorization']}".encode()
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


# --- roles ----------------------------------------------------------------------------------------

ZERO = "0" * 16
ENDPOINTS = [  # method, path, the least who may
    ("GET", "/api/auth/me", "nobody's key"),
    ("POST", "/api/auth/logout", "user"),
    ("POST", "/api/auth/password", "user"),
    ("GET", "/api/auth/sessions", "user"),
    ("DELETE", f"/api/auth/sessions/{ZERO}", "user"),
    ("POST", "/api/auth/keys", "user"),
    ("GET", "/api/auth/keys", "user"),
    ("PATCH", f"/api/auth/keys/{ZERO}", "user"),
    ("DELETE", f"/api/auth/keys/{ZERO}", "user"),
    ("GET", "/api/tiers", "nobody's key"),
    ("GET", "/api/audit", "operator"),
    ("GET", "/api/users", "admin"),
    ("POST", "/api/users", "admin"),
    ("GET", f"/api/users/{ZERO}", "admin"),
    ("PATCH", f"/api/users/{ZERO}", "admin"),
    ("DELETE", f"/api/users/{ZERO}", "admin"),
    ("PUT", "/api/tiers/none", "admin"),
    ("DELETE", "/api/tiers/none", "admin"),
]
RANKS = ["nobody", "nobody's key", "user", "operator", "admin"]


def test_roles(site, run_cli):
    made = run_cli(["keys", "create", "--name", f"n{uuid.uuid4().hex[:8]}"], env={"DATA_DIR": site.data_dir})
    people = {"nobody": Person(site), "nobody's key": Person(site, made.stdout.decode().strip()), "admin": site.admin}
    for role in ("user", "operator"):
        people[role] = make_account(site.admin, site, role)[1]
    for (method, path, least), rank in itertools.product(ENDPOINTS, RANKS):
        answer = people[rank](method, path)
        if rank == "nobody":
            check(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        elif RANKS.index(rank) < RANKS.index(least):
            check(answer, 403, "forbidden")
        else:
            assert answer.status_code not in (401, 403, 500), (method, path, rank, answer.text)


def test_users_are_administrated(site):
    admin = site.admin
    made, person = make_account(admin, site, "operator", "basic")
    assert check(admin("GET", f"/api/users/{made['id']}"), 200).json()["role"] == "operator"
    check(person("GET", "/api/audit"), 200)
    changed = check(admin("PATCH", f"/api/users/{made['id']}", {"role": "user", "tier": "pro"}), 200).json()
    assert changed["role"] == "user" and changed["tier"] == "pro"
    check(person("GET", "/api/audit"), 403)  # at once
    assert person("GET", "/api/auth/me").json()["tier"] == "pro"
    for body in ({"role": "root"}, {"role": "ADMIN"}, {"tier": "lead"}, {"active": "yes"}, {"active": 0}, {}, {"id": "x"},
                 {"password": "short"}, {"role": ["admin"]}, {"email": "new@example.org"}):  # fmt: skip
        check(admin("PATCH", f"/api/users/{made['id']}", body), 400, "field_invalid")
    browser = Person(site)
    check(browser.login(made["email"]), 200)
    check(admin("PATCH", f"/api/users/{made['id']}", {"password": "battery staple"}), 200)
    check(browser("GET", "/api/auth/me"), 401)
    check(Person(site).login(made["email"], "battery staple"), 200)
    users, cursor = [], ""
    for _ in range(200):
        page = check(admin("GET", f"/api/users?limit=3{cursor}"), 200).json()
        users += [user["id"] for user in page["users"]]
        assert "argon2" not in json.dumps(page) and "password" not in json.dumps(page)
        if not page["next_cursor"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert made["id"] in users and len(set(users)) == len(users)
    check(admin("DELETE", f"/api/users/{made['id']}"), 204)
    check(admin("DELETE", f"/api/users/{made['id']}"), 404)
    check(person("GET", "/api/auth/me"), 401)  # its keys went with it


def test_the_last_administrator_stays(make_server):
    server = make_server(TRUSTED_PROXIES="127.0.0.1")
    admin = become_admin(server)
    me = admin("GET", "/api/auth/me").json()["user_id"]
    for change in ({"role": "user"}, {"role": "operator"}, {"active": False}):
        check(admin("PATCH", f"/api/users/{me}", change), 409, "conflict")
    check(admin("DELETE", f"/api/users/{me}"), 409, "conflict")
    others = [make_account(admin, server, "admin") for _ in range(3)]
    # They all take the role from each other at once; one is left.
    people = [(me, admin), *((made["id"], person) for made, person in others)]
    with ThreadPoolExecutor(4) as pool:
        turns = [(person, people[(n + 1) % 4][0]) for n, (_, person) in enumerate(people)]
        list(pool.map(lambda turn: turn[0]("PATCH", f"/api/users/{turn[1]}", {"role": "user"}), turns))
    with sqlite3.connect(server.data_dir / "wasmwiz.db") as db:
        assert db.execute("SELECT count(*) FROM users WHERE role = 'admin' AND active = 1").fetchone()[0] >= 1


def test_tiers(site, run_cli):
    admin, figures = site.admin, {"per_minute": 7, "per_day": 70, "concurrency": 2}
    check(admin("PUT", "/api/tiers/gold", figures), 200)
    assert {"name": "gold"} | figures in admin("GET", "/api/tiers").json()["tiers"]
    made, person = make_account(admin, site, tier="gold")
    assert person("GET", "/api/auth/me").json()["tier"] == "gold"
    check(admin("DELETE", "/api/tiers/gold"), 409, "conflict")
    command = ["keys", "create", "--name", f"g{uuid.uuid4().hex[:8]}", "--tier", "gold"]
    assert run_cli(command, env={"DATA_DIR": site.data_dir}).returncode == 0  # any tier that is there
    for body in ({**figures, "per_minute": 0}, {**figures, "per_day": -1}, {**figures, "concurrency": 2**40}, {},
                 {**figures, "per_minute": 1.5}, {**figures, "per_minute": "7"}, {**figures, "name": "x"}):  # fmt: skip
        check(admin("PUT", "/api/tiers/silver", body), 400, "field_invalid")
    for name in ("Gold", "a" * 17, "a b", "a%20b", "a/b", "'", ".."):
        assert admin("PUT", f"/api/tiers/{name}", figures).status_code in (400, 404)
    check(admin("PUT", "/api/tiers/silver", figures), 200)
    check(admin("DELETE", "/api/tiers/silver"), 204)
    check(admin("DELETE", "/api/tiers/silver"), 404)


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
                   b"[" * 3000, b'{"name":' + b"[" * 3000, b'{"name":"\\u0000"}', b'{"name":1e999}', b"\xef\xbb\xbf{}"):  # fmt: skip
        answer = post(broken)
        assert answer.status_code == 400 and code_of(answer) in ("bad_request", "field_invalid"), (broken, answer.text)
    for body in ({}, {"name": ""}, {"name": None}, {"name": 5}, {"name": ["x"]}, {"name": {"a": 1}}, {"name": "x" * 65},
                 {"name": "a b"}, {"name": "ä"}, {"name": "x", "tier": "pro"}, {"name": "x", "user_id": ZERO},
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


def test_what_one_instance_revokes_the_other_refuses_within_a_second(make_server, postgres, run_cli):
    one, two = (start(make_server, "postgresql", postgres, run_cli) for _ in range(2))
    check(Person(one)("POST", "/api/auth/register", {"email": fresh_email(), "password": PASSWORD}), 201)
    person = Person(one)
    made = check(person("POST", "/api/auth/register", {"email": fresh_email(), "password": PASSWORD}), 201).json()
    check(person.login(made["email"]), 200)
    for _ in range(3):
        key = check(person("POST", "/api/auth/keys", {"name": "shared"}), 201).json()
        elsewhere = Person(two, key["key"])
        wait_until(lambda: elsewhere("GET", "/api/auth/me").status_code == 200, "the other instance knows the key")
        check(person("DELETE", f"/api/auth/keys/{key['id']}"), 204)
        time.sleep(1)
        check(elsewhere("GET", "/api/auth/me"), 401, "unauthorized")
    # Sessions and guesses are shared, too.
    cookie = {"Cookie": f"wasmwiz={person.http.cookies['wasmwiz']}"}
    check(Person(two)("GET", "/api/auth/me", headers=cookie), 200)
    check(person("POST", "/api/auth/logout"), 204)
    check(Person(two)("GET", "/api/auth/me", headers=cookie), 401)
    statuses = [Person((one, two)[n % 2]).login(made["email"], "wrong horse").status_code for n in range(6)]
    assert statuses == [401] * 5 + [429]


TABLES = ("tiers", "users", "api_keys", "sessions", "webhooks", "usage_logs", "schema_migrations")


def snapshot(server, backend, postgres):
    """All rows of the tables that nothing below may touch by accident."""
    if backend == "sqlite":
        with sqlite3.connect(server.data_dir / "wasmwiz.db") as db:
            return {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}"))) for table in TABLES}
    psql = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"))[-1]

    def rows(table):
        command = [psql, postgres.url, "-At", "-c", f"SELECT * FROM {table}"]
        return sorted(subprocess.run(command, capture_output=True, check=True).stdout.splitlines())

    return {table: rows(table) for table in TABLES}


INJECTIONS = [
    "' OR '1'='1", "'; DROP TABLE users; --", "\" OR \"\"=\"", "x'; UPDATE users SET role='admin'; --", "$1", "?1", "\\'; --",
    "'/**/OR/**/1=1--", "'||(SELECT/**/password_hash/**/FROM/**/users)||'", "a'--@example.org", "%27%20OR%201=1", "$$;$$",
    "1;SELECT/**/pg_sleep(9)", "\x00'", "{number}",
]  # fmt: skip


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_text_is_never_sql(backend, make_server, postgres, run_cli):
    server = start(make_server, backend, postgres, run_cli)
    first = check(Person(server)("POST", "/api/auth/register", {"email": fresh_email(), "password": PASSWORD}), 201).json()
    if first["role"] != "admin":  # another test was first in this database
        psql = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"))[-1]
        sql = f"UPDATE users SET role = 'admin' WHERE id = '{first['id']}'"
        subprocess.run([psql, postgres.url, "-c", sql], check=True, capture_output=True)
    admin = Person(server, first["key"])
    wait_until(lambda: admin("GET", "/api/users").status_code == 200, "the role is known")
    before = snapshot(server, backend, postgres)
    quoted = [urllib.parse.quote(text, safe="") for text in INJECTIONS]
    refused = []
    for text, path in zip(INJECTIONS, quoted, strict=True):
        stranger = Person(server)
        refused += [
            stranger("POST", "/api/auth/login", {"email": text, "password": text}),
            stranger("POST", "/api/auth/login", {"email": first["email"], "password": text}),
            Person(server, "x" + path.replace("%", ""))("GET", "/api/auth/me"),
            stranger("GET", "/api/auth/me", headers={"Cookie": f"wasmwiz={path}"}),
            admin("POST", "/api/auth/keys", {"name": text}),
            admin("POST", "/api/auth/password", {"current_password": text, "new_password": PASSWORD + "!"}),
            admin("PATCH", f"/api/users/{path}", {"role": "user"}),
            admin("PATCH", f"/api/users/{first['id']}", {"role": text}),
            admin("PATCH", f"/api/users/{first['id']}", {"tier": text}),
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


# --- what is written down -------------------------------------------------------------------------


def test_events_are_kept_and_secrets_are_not(make_server):
    server = make_server(TRUSTED_PROXIES="127.0.0.1", LOG_LEVEL="debug")
    admin = become_admin(server)
    made, person = make_account(admin, server)
    browser = Person(server)
    check(browser.login(made["email"], "wrong horse"), 401)
    check(browser.login(made["email"]), 200)
    session, token = browser.http.cookies["wasmwiz"], browser.http.headers["X-CSRF-Token"]
    key = check(browser("POST", "/api/auth/keys", {"name": "audited"}), 201).json()
    check(browser("PATCH", f"/api/auth/keys/{key['id']}", {"name": "renamed"}), 200)
    check(browser("DELETE", f"/api/auth/keys/{key['id']}"), 204)
    body = {"current_password": PASSWORD, "new_password": "battery staple"}
    check(browser("POST", "/api/auth/password", body), 204)
    check(browser("POST", "/api/auth/logout"), 204)
    check(admin("PATCH", f"/api/users/{made['id']}", {"role": "operator", "tier": "basic", "active": False}), 200)
    for _ in range(5):
        check(Person(server).login("x@example.org"), 401)
    check(Person(server).login("x@example.org"), 429)
    assert Person(server, "ww_" + "y" * 40).http.post("/execute").status_code == 401
    events = check(admin("GET", "/api/audit?limit=1000"), 200).json()["events"]
    actions = {event["action"] for event in events}
    assert actions >= {"user.create", "key.create", "login.failed", "login.ok", "key.change", "key.revoke",
                       "password.change", "session.end", "user.role", "user.tier", "user.deactivate"}  # fmt: skip
    failed = [event for event in events if event["action"] == "login.failed" and event["target"] == made["id"]]
    assert [event["address"] for event in failed] == [browser.address]
    revoked = check(admin("GET", f"/api/audit?target={key['id']}&actor={made['id']}&limit=2"), 200).json()
    assert [event["action"] for event in revoked["events"]] == ["key.revoke", "key.change"]
    more = check(admin("GET", f"/api/audit?target={key['id']}&limit=2&cursor={revoked['next_cursor']}"), 200).json()
    assert [event["action"] for event in more["events"]] == ["key.create"] and more["next_cursor"] is None
    log = server.log_text()
    for action in ("login.failed", "login.locked", "key.revoke", "authentication failed"):
        assert action in log
    secrets = (PASSWORD, "wrong horse", "battery staple", session, token, key["key"], made["key"], "ww_yyyy", "argon2")
    for secret in secrets:
        assert secret not in log and secret not in json.dumps(events)
    with sqlite3.connect(server.data_dir / "wasmwiz.db") as db:
        kept = "\n".join(db.iterdump())
    for secret in (PASSWORD, "battery staple", session, token, key["key"], made["key"], browser.address + "x"):
        assert secret not in kept
