"""What the log says about requests: those that failed, those that were turned away, and who asked."""

import json

import httpx
import pytest
from people import PASSWORD, Person, become_admin, check, fresh_email, make_account
from support import connect, execute, make_key


def lines_of(server):
    return [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]


def about(server, answer, *events):
    """The one line with one of these events about the request that has this answer."""
    request_id = answer.headers["x-request-id"]
    found = [line for line in lines_of(server) if line.get("request_id") == request_id and line["event"] in events]
    assert len(found) == 1, (found, answer.text)
    return found[0]


# --- what the server could not do -----------------------------------------------------------------


def test_a_database_that_is_gone_is_told_with_each_request(make_server, run_cli, postgres, guest, tmp_path):
    migrated = run_cli(["migrate", "up"], env={"DATABASE_URL": postgres.url, "DATA_DIR": tmp_path / "data"})
    assert migrated.returncode == 0, migrated.stderr
    server = make_server(DATABASE_URL=postgres.url, LOG_FORMAT="json", LOG_LEVEL="error", TRUSTED_PROXIES="127.0.0.1")
    admin = become_admin(server)
    _, person = make_account(admin, server)
    browser = Person(server)
    made = make_account(admin, server)[0]
    check(browser.login(made["email"]), 200)
    check(browser.http.get("/usage"), 200)
    assert lines_of(server) == []
    postgres.crash()
    unknown = httpx.Client(base_url=server.url, headers={"Authorization": "Bearer ww_" + "y" * 40}, timeout=60)
    answers = [admin("GET", "/api/audit"), browser.http.get("/usage"), execute(unknown, server, guest("wat_echo"), b"x"),
               unknown.post("/execute/stream"), person("GET", "/api/auth/keys")]  # fmt: skip
    for answer in answers:
        line = about(server, answer, "request failed")
        assert answer.status_code == line["status"] == 503
        assert (line["level"], line["code"]) == ("error", "store_down")
        assert len(line["reason"]) > 10 and line["reason"] not in answer.text
    assert {line["level"] for line in lines_of(server)} == {"error"}
    log = server.log_text()
    assert postgres.url not in log and PASSWORD not in log and "ww_y" not in log


def test_what_clients_bring_about_is_a_warning(make_server, run_cli, guest):
    server = make_server(LOG_FORMAT="json")
    with connect(server, make_key(run_cli, server)) as client:
        assert execute(client, server, guest("wat_echo"), b"x").status_code == 200
        for path in ("/execute", "/usage", "/api/auth/me"):
            answer = client.request("BREW", path)
            line = about(server, answer, "request failed")
            assert answer.status_code == line["status"] == 501
            assert (line["level"], line["code"]) == ("warn", "not_implemented")
        assert client.get("/nowhere").status_code == 404
    assert len([line for line in lines_of(server) if line["event"] == "request failed"]) == 3


# --- who was turned away --------------------------------------------------------------------------


@pytest.fixture
def strict(make_server):
    server = make_server(LOG_FORMAT="json", TRUSTED_PROXIES="127.0.0.1", RATE_LIMITS="on", ADDRESS_RATE="5",
                         METRICS_ACCESS="operator")  # fmt: skip
    server.admin = become_admin(server)
    return server


def test_refusals_are_told(strict):
    _, person = make_account(strict.admin, strict)
    browser = Person(strict)
    check(browser.http.post("/api/auth/register", json={"email": fresh_email(), "password": PASSWORD}), 201)
    made, _ = make_account(strict.admin, strict)
    check(browser.login(made["email"]), 200)
    del browser.http.headers["X-CSRF-Token"]
    twice = [("Authorization", "Bearer x"), ("Authorization", "Bearer y")]
    foreign = {"Origin": "http://evil.example"}
    form = {"email": made["email"], "password": PASSWORD}
    cases = [
        (person("GET", "/api/users"), 403, "permission denied", person),  # the role
        (browser("POST", "/api/auth/logout"), 403, "permission denied", browser),  # no CSRF token
        (Person(strict).http.post("/login", data=form, headers=foreign), 403, "permission denied", None),
        (Person(strict)("GET", "/api/users"), 401, "authentication failed", None),
        (Person(strict).http.get("/api/users", headers=twice), 401, "authentication failed", None),
        (Person(strict, "wrong")("GET", "/api/users"), 401, "authentication failed", None),
    ]
    for answer, status, event, who in cases:
        check(answer, status)
        line = about(strict, answer, "permission denied", "authentication failed", "request failed")
        assert (line["event"], line["level"]) == (event, "warn")
        assert line["peer"].startswith("10.1.") and (who is None or line["peer"] == who.address)
        assert len(line["reason"]) > 10
    assert PASSWORD not in strict.log_text()
    visitor = check(Person(strict).http.get("/usage"), 303)  # is shown where to log in
    request_id = visitor.headers["x-request-id"]
    assert {line["event"] for line in lines_of(strict) if line.get("request_id") == request_id} == {"http"}


def test_refused_lines_are_bounded(strict):
    _, person = make_account(strict.admin, strict)
    statuses = [person("GET", "/api/users").status_code for _ in range(7)]
    assert statuses == [403] * 5 + [429] * 2
    stranger = Person(strict)
    foreign = [stranger.http.post("/login", headers={"Origin": "http://evil.example"}).status_code for _ in range(7)]
    assert foreign == [403] * 5 + [429] * 2
    told = [line for line in lines_of(strict) if line["event"] == "permission denied"]
    assert [line["peer"] for line in told] == [person.address] * 5 + [stranger.address] * 5


def test_metrics_are_for_operators(strict):
    for role, status in (("operator", 200), ("admin", 200), ("user", 403)):
        _, person = make_account(strict.admin, strict, role)
        key_id = person("GET", "/api/auth/me").json()["key_id"]
        answer = check(person.http.get("/metrics"), status)
        assert ("wasmwiz_runs_total" in answer.text) == (status == 200)
        if status == 403:
            line = about(strict, answer, "permission denied")
            assert (line["who"], line["peer"]) == (key_id, person.address)
    stranger = Person(strict, "wrong")
    answers = [stranger.http.get("/metrics") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    for answer in answers[:5]:
        assert about(strict, answer, "authentication failed")["peer"] == stranger.address
    assert about(strict, answers[5], "rate limit")["peer"] == stranger.address
    assert answers[0].headers["www-authenticate"] == "Bearer" and "wasmwiz_runs_total" not in answers[5].text
    nobody = Person(strict).http.get("/metrics")
    assert check(nobody, 401) and about(strict, nobody, "authentication failed")


def test_executions_past_a_limit_are_told(strict, run_cli, guest):
    made = run_cli(["keys", "create", "--name", "few", "--tier", "free"], env={"DATA_DIR": strict.data_dir})
    with connect(strict, made.stdout.decode().strip()) as client:
        for _ in range(30):  # a slow machine gets some back meanwhile
            answer = execute(client, strict, guest("wat_echo"), b"x")
            if answer.status_code == 429:
                break
        line = about(strict, check(answer, 429), "rate limit")
    assert (line["level"], line["peer"], line["reason"]) == ("warn", "127.0.0.1", answer.json()["error"])
    assert line["who"]


def test_security_lines_name_their_request(make_server):
    server = make_server(LOG_FORMAT="json", TRUSTED_PROXIES="127.0.0.1", LOG_LEVEL="info")
    admin = become_admin(server)
    made, _ = make_account(admin, server)
    browser = Person(server)
    answers = {
        "login.failed": check(browser.login(made["email"], "wrong horse"), 401),
        "login.ok": check(browser.login(made["email"]), 200),
        "key.create": check(browser("POST", "/api/auth/keys", {"name": "mine"}), 201),
        "password.failed": check(
            browser("POST", "/api/auth/password", {"current_password": "x" * 10, "new_password": PASSWORD}), 403
        ),
        "user.tier": check(admin("PATCH", f"/api/users/{made['id']}", {"tier": "basic"}), 200),
        "session.end": check(browser("POST", "/api/auth/logout"), 204),
    }
    for _ in range(30):
        locked = Person(server).login(made["email"], "wrong horse")
        if locked.status_code == 429:
            break
    answers["login.locked"] = check(locked, 429)
    for action, answer in answers.items():
        assert about(server, answer, "security")["action"] == action
    lines = [line for line in lines_of(server) if line["event"] == "security"]
    assert len(lines) > 10 and all(len(line["request_id"]) == 32 for line in lines)


# --- how much is said -----------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "levels"), [("info", {"info", "warn"}), ("warn", {"warn"}), ("error", set())])
@pytest.mark.parametrize("name", ["LOG_LEVEL", "RUST_LOG"])
def test_nothing_below_the_level_is_said(make_server, run_cli, guest, tmp_path, name, least, levels):
    file = tmp_path / "server.log"
    server = make_server(**{name: least}, LOG_FORMAT="json", LOG_FILE=str(file))
    with connect(server, make_key(run_cli, server)) as client:
        assert execute(client, server, guest("wat_echo"), b"x").status_code == 200
        assert client.get("/api/auth/me", headers={"Authorization": "Bearer wrong"}).status_code == 401
    server.stop()
    in_file = [json.loads(line) for line in file.read_text().splitlines()]
    for lines in (lines_of(server), in_file):
        assert {line["level"] for line in lines} == levels


def test_a_level_that_nobody_knows(run_cli, tmp_path):
    refused = run_cli(["serve"], env={"RUST_LOG": "wasmwiz=loud", "DATA_DIR": tmp_path / "data", "SERVER_PORT": "0"})
    assert refused.returncode == 78
    assert "RUST_LOG" in refused.stderr.decode() and "wasmwiz=loud" in refused.stderr.decode()
