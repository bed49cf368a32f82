"""People for the tests of accounts: clients with an address of their own, an administrator, accounts."""

import itertools
import uuid
from contextlib import contextmanager

import httpx
from conftest import running_server

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


def guess_until_refused(guess, free):
    """Calls guess() until it is told to wait, which is after that many attempts, or some more on a machine so slow that
    the delay is over before the next: it doubles each time. Returns that answer."""
    for n in range(free + 10):
        answer = guess()
        if answer.status_code == 429:
            assert n >= free, f"refused after {n} attempts"
            return answer
        check(answer, 401)
    raise AssertionError(f"{n} wrong guesses, and still no delay")


def become_admin(server):
    """The first account of a server in development; its client, with its key."""
    made = check(Person(server)("POST", "/api/auth/register", {"email": ADMIN, "password": PASSWORD}), 201).json()
    assert made["role"] == "admin"
    return Person(server, made["key"])


def make_account(admin, server, role="user", tier="pro"):
    body = {"email": fresh_email(), "password": PASSWORD, "role": role, "tier": tier}
    made = check(admin("POST", "/api/users", body), 201).json()
    return made, Person(server, made["key"])


@contextmanager
def open_site(folder):
    """A server with an administrator, who is `admin`, and which believes the addresses that clients tell."""
    with running_server(folder, {"TRUSTED_PROXIES": "127.0.0.1"}) as server:
        server.admin = become_admin(server)
        yield server
