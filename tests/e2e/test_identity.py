"""Who may do what: accounts, sessions, API keys, roles. Against the real server."""

import itertools
import json
import re
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from people import (
    ADMIN,
    PASSWORD,
    Person,
    become_admin,
    check,
    fresh_email,
    guess_until_refused,
    make_account,
    open_site,
)
from services import SALT
from support import wait_until


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with open_site(tmp_path_factory.mktemp("site")) as server:
        yield server


@pytest.fixture
def account(site):
    return make_account(site.admin, site)


# --- keys -----------------------------------------------------------------------------------------


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
             "cursor=x", "cursor=1", "cursor=-1-1", "cursor=1-zz", "cursor=99999999999999999999-00",
             "cursor=")  # fmt: skip
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
             ("DELETE", "/api/auth/sessions", None), ("PATCH", f"/api/auth/keys/{'0' * 16}",
             {"name": "x"}))  # fmt: skip
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
    bad = (f"wasmwiz={mine}; wasmwiz={theirs}", f"wasmwiz={mine}; wasmwiz={mine}", f"wasmwiz={mine}x",
    f"Wasmwiz={mine}",
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
    for body in ({"role": "root"}, {"role": "ADMIN"}, {"tier": "lead"}, {"active": "yes"}, {"active": 0}, {},
    {"id": "x"},
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
    guess_until_refused(lambda: Person(server).login("x@example.org"), 5)
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
