"""Webhooks: what a receiver of ours gets from a real server, when it works and when it does not."""

import contextlib
import hashlib
import hmac
import json
import re
import socket
import sqlite3
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from services import SALT
from support import assemble, connect, execute, lines, says, wait_until

ALL = ["limit.reached", "key.created", "module.failing"]
FAILS = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'
DOCS = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"


# --- accounts -----------------------------------------------------------------------------------


def account_rows(tier="free"):
    """SQL for an account with a key, and the key."""
    user, key_id, key = uuid.uuid4().hex[:16], uuid.uuid4().hex[:16], "ww_" + (uuid.uuid4().hex * 2)[:40]
    digest = hmac.new(SALT.encode(), key.encode(), hashlib.sha256).hexdigest()
    email = f"{user}@example.org"
    users = (
        "INSERT INTO users (id, email, email_folded, password_hash, role, tier, active, created_ns, updated_ns)"
        f" VALUES ('{user}', '{email}', '{email}', '', 'user', '{tier}', 1, 1, 1)"
    )
    keys = (
        "INSERT INTO api_keys (id, name, prefix, tier, hash, created_ns, expires_ns, revoked_ns, user_id)"
        f" VALUES ('{key_id}', 'laptop', '{key[:8]}', '{tier}', {{hash}}, 1, 0, 0, '{user}')"
    )
    return user, key_id, key, digest, users, keys


class Account:
    """An account of a server on SQLite, with a client that sends its key."""

    def __init__(self, server, tier="free"):
        self.user, self.key_id, self.key, digest, users, keys = account_rows(tier)
        with contextlib.closing(sqlite3.connect(server.data_dir / "wasmwiz.db", timeout=10)) as database:
            database.execute(users)
            database.execute(keys.format(hash=f"x'{digest}'"))
            database.commit()
        self.client = connect(server, self.key)

    def hook(self, url, events=ALL):
        made = self.client.post("/api/webhooks", json={"url": url, "events": events})
        assert made.status_code == 201, made.text
        return made.json()

    def test(self, hook):
        asked = self.client.post(f"/api/webhooks/{hook['id']}/test")
        assert asked.status_code == 202, asked.text
        return asked.json()["delivery_id"]

    def deliveries(self, hook):
        answer = self.client.get(f"/api/webhooks/{hook['id']}/deliveries")
        assert answer.status_code == 200, answer.text
        return answer.json()["deliveries"]

    def delivery(self, hook, delivery_id):
        return next(d for d in self.deliveries(hook) if d["id"] == delivery_id)

    def is_active(self, hook):
        return self.client.get(f"/api/webhooks/{hook['id']}").json()["active"]


# --- the receiver -------------------------------------------------------------------------------


class Receiver:
    """A server that keeps what it gets and answers as it is told: `statuses` first, then 200; /slow waits for
    `release`."""

    def __init__(self, port=0):
        self.got, self.statuses = [], []
        self.release = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                if self.path == "/slow":
                    receiver.release.wait(30)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                with contextlib.suppress(ConnectionError):
                    self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def events(self, event, path=None):
        return [
            json.loads(body)
            for to, headers, body in list(self.got)
            if headers["WasmWiz-Event"] == event and path in (None, to)
        ]


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def start_receiver():
    made = []

    def start(port):
        made.append(Receiver(port))
        return made[-1]

    yield start
    for each in made:
        each.stop()


@pytest.fixture
def hook_server(make_server):
    return make_server(API_SALT=SALT, WEBHOOKS_RETRY="0.1", RATE_LIMITS="on")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check_signature(secret, headers, body):
    parts = dict(part.split("=") for part in headers["WasmWiz-Signature"].split(","))
    assert abs(time.time() - int(parts["t"])) < 60
    expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert parts["v1"] == expected


# --- what is sent -------------------------------------------------------------------------------


def test_a_test_arrives_signed(hook_server, receiver):
    account = Account(hook_server)
    hook = account.hook(f"{receiver.url}/in?a=b")
    delivery_id = account.test(hook)
    wait_until(lambda: account.delivery(hook, delivery_id)["state"] == "done", "it is delivered")
    ((path, headers, body),) = receiver.got
    check_signature(hook["secret"], headers, body)
    assert path == "/in?a=b"
    assert headers["WasmWiz-Delivery"] == delivery_id
    assert headers["WasmWiz-Event"] == "webhook.test"
    assert headers["Content-Type"] == "application/json"
    said = json.loads(body)
    assert said["event"] == "webhook.test" and said["data"] == {"webhook_id": hook["id"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["created"])
    sent = account.delivery(hook, delivery_id)
    assert sent["attempts"] == 1 and sent["error"] == "" and sent["next_attempt_at"] is None
    assert hook["secret"] not in hook_server.log_text()


def test_a_new_key_is_told(hook_server, receiver):
    account = Account(hook_server)
    account.hook(receiver.url)
    made = account.client.post("/api/auth/keys", json={"name": "build"})
    assert made.status_code == 201, made.text
    (told,) = wait_until(lambda: receiver.events("key.created"), "it is told")
    assert told["data"] == {"key_id": made.json()["id"], "name": "build", "tier": "free"}
    assert made.json()["key"].encode() not in receiver.got[0][2]


def test_a_limit_that_is_reached_is_told_once(hook_server, receiver):
    account = Account(hook_server)
    account.hook(f"{receiver.url}/wants")
    account.hook(f"{receiver.url}/wants-not", ["key.created"])
    guest = says(b"x")
    statuses = [execute(account.client, hook_server, guest).status_code for _ in range(16)]
    assert statuses.count(429) >= 4
    wait_until(lambda: receiver.events("limit.reached"), "it is told")
    # What comes behind everything else.
    account.test(account.hook(f"{receiver.url}/last"))
    wait_until(lambda: receiver.events("webhook.test"), "the last one arrives")
    told = receiver.events("limit.reached", "/wants")
    assert len(told) == len(receiver.events("limit.reached"))
    assert len({event["created"][:16] for event in told}) == len(told), "once a minute"
    assert told[0]["data"] == {"key_id": account.key_id, "name": "laptop", "limit": "minute", "figure": 10}


def test_a_module_that_fails_again_and_again_is_told(hook_server, receiver):
    account = Account(hook_server, "pro")
    account.hook(receiver.url)
    good, bad = says(b"x"), assemble(FAILS)
    for _ in range(4):
        assert execute(account.client, hook_server, bad).status_code == 422
    assert execute(account.client, hook_server, good).status_code == 200
    account.test(account.hook(f"{receiver.url}/first", ["key.created"]))
    wait_until(lambda: receiver.events("webhook.test"), "the test arrives")
    assert not receiver.events("module.failing")
    assert execute(account.client, hook_server, bad).status_code == 422
    (told,) = wait_until(lambda: receiver.events("module.failing"), "it is told")
    assert told["data"]["module"] == hashlib.sha256(bad).hexdigest()
    assert told["data"]["failures"] == 5 and told["data"]["cause"] == "trap"
    assert re.fullmatch("[0-9a-f]{32}", told["data"]["run_id"])


# --- when it does not work ----------------------------------------------------------------------


def test_it_is_tried_again_after_failures(hook_server, receiver):
    account = Account(hook_server)
    hook = account.hook(receiver.url)
    receiver.statuses = [500, 302, 404]
    delivery_id = account.test(hook)
    wait_until(lambda: account.delivery(hook, delivery_id)["state"] == "done", "it is delivered", 30)
    assert account.delivery(hook, delivery_id)["attempts"] == 4
    assert len(receiver.got) == 4
    assert {headers["WasmWiz-Delivery"] for _, headers, _ in receiver.got} == {delivery_id}
    assert {path for path, _, _ in receiver.got} == {"/"}, "a redirect is not followed"
    for _, headers, body in receiver.got:
        check_signature(hook["secret"], headers, body)


def test_a_receiver_that_comes_back_gets_what_it_missed(hook_server, start_receiver):
    account = Account(hook_server)
    port = free_port()
    hook = account.hook(f"http://127.0.0.1:{port}/")
    delivery_id = account.test(hook)
    missed = wait_until(lambda: [d for d in account.deliveries(hook) if d["error"]], "an attempt fails")
    assert missed[0]["state"] == "pending" and missed[0]["next_attempt_at"]
    assert "127.0.0.1" in missed[0]["error"]
    receiver = start_receiver(port)
    wait_until(lambda: account.delivery(hook, delivery_id)["state"] == "done", "it is delivered", 30)
    assert len(receiver.got) == 1


def test_a_server_that_is_killed_loses_no_delivery(hook_server, start_receiver):
    account = Account(hook_server)
    port = free_port()
    hook = account.hook(f"http://127.0.0.1:{port}/")
    delivery_id = account.test(hook)
    wait_until(lambda: account.delivery(hook, delivery_id)["attempts"], "an attempt begins")
    hook_server.kill()
    receiver = start_receiver(port)
    hook_server.start()
    wait_until(lambda: receiver.got, "it is delivered", 60)  # a claim that was cut short holds for 30 s
    assert receiver.got[0][1]["WasmWiz-Delivery"] == delivery_id


def test_a_webhook_that_is_never_reached_is_made_inactive(make_server, receiver):
    server = make_server(API_SALT=SALT, WEBHOOKS_RETRY="0.05", WEBHOOKS_ATTEMPTS="2")
    account = Account(server)
    hook = account.hook(receiver.url)
    receiver.statuses = [500, 500]
    delivery_id = account.test(hook)
    wait_until(lambda: not account.is_active(hook), "it is made inactive")
    given_up = account.delivery(hook, delivery_id)
    assert given_up["state"] == "failed" and given_up["attempts"] == 2 and "500" in given_up["error"]
    assert account.client.post(f"/api/webhooks/{hook['id']}/test").status_code == 409
    with contextlib.closing(sqlite3.connect(server.data_dir / "wasmwiz.db", timeout=10)) as database:
        audited = wait_until(
            lambda: database.execute("SELECT target FROM audit_events WHERE action = 'webhook.disable'").fetchall(),
            "it is audited",
        )
    assert audited == [(hook["id"],)]
    changed = account.client.patch(f"/api/webhooks/{hook['id']}", json={"active": True})
    assert changed.json()["active"]
    time.sleep(1)  # tests of one second are one
    delivery_id = account.test(hook)
    wait_until(lambda: account.delivery(hook, delivery_id)["state"] == "done", "it works again")


def test_receivers_that_do_not_answer_hold_up_nobody_else(hook_server, receiver):
    account = Account(hook_server)
    for _ in range(3):
        hook = account.hook(f"{receiver.url}/slow")
        account.test(hook)
        time.sleep(1)  # so that more than one waits for each
        account.test(hook)
    wait_until(lambda: len(receiver.got) == 3, "each slow one is called, once")
    quick = account.hook(f"{receiver.url}/quick")
    delivery_id = account.test(quick)
    wait_until(lambda: account.delivery(quick, delivery_id)["state"] == "done", "the quick one gets its own")
    assert len([1 for path, _, _ in receiver.got if path == "/slow"]) == 3
    receiver.release.set()
    wait_until(lambda: len([1 for path, _, _ in receiver.got if path == "/slow"]) >= 6, "and then the rest")


def test_private_addresses_are_not_called(make_server, receiver):
    server = make_server(API_SALT=SALT, WEBHOOKS_PRIVATE="off")
    account = Account(server)
    for url in [receiver.url, "http://[::1]/", "http://169.254.169.254/", "http://2130706433/", "ftp://a/", "x"]:
        refused = account.client.post("/api/webhooks", json={"url": url, "events": ALL})
        assert refused.status_code == 400, url
        assert refused.json()["error"]["message"].startswith("url: ")
    hook = account.hook(f"http://localhost:{receiver.port}/")
    delivery_id = account.test(hook)
    wait_until(lambda: account.delivery(hook, delivery_id)["state"] == "failed", "it is refused")
    assert "private" in account.delivery(hook, delivery_id)["error"]
    wait_until(lambda: not account.is_active(hook), "it is made inactive")
    assert not receiver.got


def test_two_instances_deliver_once(make_server, run_cli, receiver, postgres):
    env = {"DATABASE_URL": postgres.url, "API_SALT": SALT}
    lines(run_cli(["migrate", "up"], env=env))
    one, two = make_server(**env), make_server(**env)
    _, _, key, digest, users, keys = account_rows()
    hash_text = f"'\\x{digest}'"
    postgres.ask(users)
    postgres.ask(keys.format(hash=hash_text))
    with connect(one, key) as first, connect(two, key) as second:
        made = [
            first.post("/api/webhooks", json={"url": f"{receiver.url}/{i}", "events": ALL}).json() for i in range(10)
        ]
        asked = set()
        for client in (first, second, first):
            asked |= {client.post(f"/api/webhooks/{hook['id']}/test").json()["delivery_id"] for hook in made}

        def states():
            return [
                delivery["state"]
                for hook in made
                for delivery in second.get(f"/api/webhooks/{hook['id']}/deliveries").json()["deliveries"]
            ]

        wait_until(lambda: set(states()) == {"done"}, "all are delivered", 30)
        assert len(states()) == len(asked) >= 10
    got = [headers["WasmWiz-Delivery"] for _, headers, _ in receiver.got]
    assert sorted(got) == sorted(asked), "each once"
    assert one.stop() == 0 and two.stop() == 0


# --- the API ------------------------------------------------------------------------------------


def test_webhooks_are_made_listed_changed_and_deleted(hook_server):
    account = Account(hook_server)
    made = [account.hook(f"https://example.org/{i}") for i in range(10)]
    assert all(re.fullmatch("whsec_[0-9a-f]{64}", hook["secret"]) for hook in made)
    assert len({hook["secret"] for hook in made}) == 10
    one_more = account.client.post("/api/webhooks", json={"url": "https://example.org/", "events": ALL})
    assert one_more.status_code == 409
    page = account.client.get("/api/webhooks?limit=7").json()
    rest = account.client.get(f"/api/webhooks?limit=7&cursor={page['next_cursor']}").json()
    listed = page["webhooks"] + rest["webhooks"]
    assert [hook["id"] for hook in listed] == [hook["id"] for hook in reversed(made)]
    assert rest["next_cursor"] is None
    assert all("secret" not in hook for hook in listed)
    path = f"/api/webhooks/{made[0]['id']}"
    changed = account.client.patch(path, json={"events": ["key.created", "key.created"], "active": False})
    assert changed.status_code == 200
    assert changed.json()["events"] == ["key.created"] and not changed.json()["active"]
    assert changed.json()["url"] == made[0]["url"]
    assert account.client.patch(path, json={"url": "https://example.org/new"}).json()["active"] is False
    assert account.client.get(path).json()["url"] == "https://example.org/new"
    assert account.client.delete(path).status_code == 204
    assert account.client.get(path).status_code == 404
    assert account.client.delete(path).status_code == 404


def test_what_a_webhook_must_be(hook_server, run_cli):
    account = Account(hook_server)
    good = {"url": "https://example.org/", "events": ALL}
    for wrong in [
        {"url": None},
        {"url": 1},
        {"url": ""},
        {"url": "https://example.org/" + "a" * 1024},
        {"url": "https://a b/"},
        {"events": None},
        {"events": []},
        {"events": "key.created"},
        {"events": ["webhook.test"]},
        {"events": ["key.created limit.reached"]},
        {"events": ["limit.reached", 1]},
        {"secret": "mine"},
    ]:
        refused = account.client.post("/api/webhooks", json=good | wrong)
        assert refused.status_code == 400, wrong
        assert next(iter(wrong)) in refused.json()["error"]["message"]
    assert account.client.get("/api/webhooks").json()["webhooks"] == []
    made = run_cli(
        ["keys", "create", "--name", "nobody", "--tier", "pro"],
        env={"DATA_DIR": hook_server.data_dir, "API_SALT": SALT},
    )
    with connect(hook_server, made.stdout.decode().strip()) as nobody:
        assert nobody.get("/api/webhooks").status_code == 403
    with connect(hook_server) as stranger:
        assert stranger.get("/api/webhooks").status_code == 401


def test_webhooks_of_others_are_not_there(hook_server, receiver):
    owner, other = Account(hook_server), Account(hook_server)
    hook = owner.hook(receiver.url)
    path = f"/api/webhooks/{hook['id']}"
    for method, address in [
        ("GET", path),
        ("PATCH", path),
        ("DELETE", path),
        ("POST", f"{path}/test"),
        ("GET", f"{path}/deliveries"),
    ]:
        body = {"json": {"active": False}} if method == "PATCH" else {}
        mine = other.client.request(method, address, **body)
        nowhere = other.client.request(method, address.replace(hook["id"], "0" * 16), **body)
        assert mine.status_code == nowhere.status_code == 404
        assert mine.json()["error"]["message"] == nowhere.json()["error"]["message"]
    assert other.client.get("/api/webhooks").json()["webhooks"] == []
    assert owner.client.get(path).json()["active"]
    for wrong in [f"{path}/", f"{path}/other", "/api/webhooks/x", "/api/webhooks/%00", f"{path}/deliveries/x"]:
        assert owner.client.get(wrong).status_code == 404, wrong


# --- the documentation's examples ---------------------------------------------------------------


def code_block(language):
    return re.search(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]


def test_the_examples_of_the_documentation_work(hook_server, receiver):
    account = Account(hook_server)
    hook = account.hook(receiver.url)
    account.test(hook)
    _, headers, body = wait_until(lambda: receiver.got, "it arrives")[0]
    signature = headers["WasmWiz-Signature"]
    old = re.sub(r"t=\d+", "t=1000", signature)
    cases = [
        (hook["secret"], signature, body.decode(), True),
        (hook["secret"] + "0", signature, body.decode(), False),
        (hook["secret"], signature, body.decode() + " ", False),
        (hook["secret"], old, body.decode(), False),
        (hook["secret"], signature.split(",")[0], body.decode(), False),
        (hook["secret"], "", body.decode(), False),
        (hook["secret"], "v1=é,t=x", body.decode(), False),
    ]
    names = {}
    exec(code_block("python"), names)
    assert [names["verify"](secret, field, text.encode()) for secret, field, text, _ in cases] == [
        right for *_, right in cases
    ]
    script = code_block("js") + (
        "const cases = JSON.parse(require('node:fs').readFileSync(0));"
        "console.log(JSON.stringify(cases.map(([s, f, t]) => verify(s, f, Buffer.from(t)))));"
    )
    said = subprocess.run(
        ["node", "-e", script], input=json.dumps(cases).encode(), capture_output=True, timeout=60
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == [right for *_, right in cases]
