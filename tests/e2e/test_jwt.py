"""JSON Web Tokens as credentials: made by another implementation, checked by the server, against accounts of its
database."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import signal
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from conftest import GUESTS
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support import check_answer, connect, execute, wait_until

SECRET = "a secret of the tests, long enough for HS256"
AUDIENCE = "wasmwiz"
ISSUER = "https://issuer.test/"
ME = "/api/auth/me"


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def other_rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key, kid):
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return kind.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"}


def jwks(**keys):
    return json.dumps({"keys": [jwk(key, kid) for kid, key in keys.items()]})


def claims(**changed):
    """What a good token says; a value of None leaves a claim out."""
    now = time.time()
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "0123456789abcdef", "iat": now, "exp": now + 300} | changed
    return {name: value for name, value in said.items() if value is not None}


def token(key=SECRET, algorithm="HS256", kid=None, **changed):
    return jwt.encode(claims(**changed), key, algorithm, headers={"kid": kid} if kid else None)


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header, sign=lambda _: b"", **changed):
    """A token that no library would make."""
    text = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims(**changed)).encode())}"
    return f"{text}.{encode(sign(text.encode()))}"


def hs256(secret):
    return lambda text: hmac.new(secret, text, hashlib.sha256).digest()


def change(server, statement, *values):
    """Does something to the server's database, as another process would."""
    with contextlib.closing(sqlite3.connect(server.data_dir / "wasmwiz.db", timeout=20)) as database, database:
        return database.execute(statement, values).rowcount


def add_account(server, user_id="0123456789abcdef", email="ada@example.com", role="operator", tier="basic"):
    change(
        server,
        "INSERT INTO users (id, email, email_folded, password_hash, role, tier, active, created_ns, updated_ns)"
        " VALUES (?, ?, ?, '', ?, ?, 1, 1, 1)",
        *(user_id, email, email.lower(), role, tier),
    )
    return user_id


def me(server, credential):
    with connect(server, credential) as client:
        return client.get(ME)


def expect(server, status, credential):
    answer = me(server, credential)
    assert answer.status_code == status, (answer.text, server.log_text()[-2000:])
    return answer


def served(make_server, **env):
    """A server that takes JWTs, with one account."""
    server = make_server(JWT_AUDIENCE=AUDIENCE, JWT_ISSUER=ISSUER, LOG_LEVEL="debug", **env)
    add_account(server)
    return server


def test_a_token_is_its_account(make_server):
    server = served(make_server, JWT_SECRET=SECRET)
    said = expect(server, 200, token(role="admin", tier="pro")).json()
    assert said["user_id"] == "0123456789abcdef"
    assert (said["role"], said["tier"]) == ("operator", "basic"), "the account's, not the token's"
    with connect(server, token()) as client:
        for _ in range(3):
            body = check_answer(execute(client, server, (GUESTS / "c_echo.wasm").read_bytes(), b"hello"))
            assert body["output"] == "hello"
    assert SECRET not in server.log_text()


def test_keys_are_taken_as_before(make_server, run_cli):
    server = served(make_server, JWT_SECRET=SECRET)
    made = run_cli(["keys", "create", "--name", "plain"], env={"DATA_DIR": server.data_dir})
    assert made.returncode == 0, made.stderr
    key = made.stdout.decode().strip()
    expect(server, 200, key)
    expect(server, 401, key[:-1] + ("0" if key[-1] != "0" else "1"))


def test_without_a_key_no_token_is_good(server):
    for credential in (token(), forged({"alg": "none"})):
        assert expect(server, 401, credential).json()["error"]["code"] == "unauthorized"


def test_what_is_not_right_is_refused(make_server):
    server = served(make_server, JWT_SECRET=SECRET)
    good = token()
    head, body, signature = good.split(".")
    now = time.time()
    bad = {
        "another secret": token("x" * 40),
        "expired": token(exp=now - 100),
        "no end": token(exp=None),
        "an end that is text": forged({"alg": "HS256"}, hs256(SECRET.encode()), exp=str(now + 100)),
        "not yet": token(nbf=now + 1000),
        "made in the future": token(iat=now + 1000),
        "another audience": token(aud="other"),
        "other audiences": token(aud=["other", "wasm"]),
        "no audience": token(aud=None),
        "another issuer": token(iss="https://other.test/"),
        "no issuer": token(iss=None),
        "nobody": token(sub="fedcba9876543210"),
        "no subject": token(sub=None),
        "HS512": token("x" * 64, "HS512"),
        "critical": forged({"alg": "HS256", "crit": ["exp"]}, hs256(SECRET.encode())),
        "another kind of token": forged({"alg": "HS256", "typ": "logout+jwt"}, hs256(SECRET.encode())),
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "padding": f"{good}=",
        "another payload": f"{head}.{encode(json.dumps(claims(role='admin')).encode())}.{signature}",
        "a shorter signature": good[:-2],
        "too long": token(more="x" * 8000),
    }
    for name in ("none", "None", "NONE", "nOnE", "hs256", ""):
        bad[f"alg {name}"] = forged({"alg": name, "typ": "JWT"})
        bad[f"alg {name}, signed"] = forged({"alg": name, "typ": "JWT"}, hs256(SECRET.encode()))
    for what, credential in bad.items():
        answer = me(server, credential)
        assert answer.status_code == 401, (what, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "JWT" not in answer.text, "why is for the log alone"
    for credential in (good, token(aud=["other", AUDIENCE]), token(exp=now - 30), token(nbf=now + 30, iat=now + 30)):
        expect(server, 200, credential)
    assert signature not in server.log_text()


def test_the_account_decides(make_server):
    server = served(make_server, JWT_SECRET=SECRET)
    credential = token()
    expect(server, 200, credential)
    change(server, "UPDATE users SET active = 0")
    wait_until(lambda: me(server, credential).status_code == 403, "the account is not active")
    with connect(server, credential) as client:
        refused = execute(client, server, (GUESTS / "c_echo.wasm").read_bytes())
        assert refused.status_code == 403
    change(server, "UPDATE users SET active = 1, role = 'user', tier = 'pro'")
    wait_until(lambda: me(server, credential).status_code == 200, "the account is active again")
    assert me(server, credential).json()["role"] == "user"
    assert me(server, credential).json()["tier"] == "pro"
    change(server, "DELETE FROM users")
    wait_until(lambda: me(server, credential).status_code == 401, "the account is gone")


def test_an_e_mail_may_name_the_account(make_server):
    server = served(make_server, JWT_SECRET=SECRET, JWT_SUBJECT="email")
    expect(server, 200, token(sub="ada@example.com"))
    expect(server, 200, token(sub="ADA@example.com"))
    expect(server, 401, token())
    expect(server, 401, token(email="ada@example.com", email_verified=True))

    server = served(make_server, JWT_SECRET=SECRET, JWT_SUBJECT="email_claim")
    expect(server, 200, token(sub="auth|1", email="ada@example.com", email_verified=True))
    for verified in (None, False, "true", 1):
        expect(server, 401, token(sub="ada@example.com", email="ada@example.com", email_verified=verified))
    expect(server, 401, token(sub="ada@example.com"))


def test_a_token_ends_when_it_is_remembered_too(make_server):
    server = served(make_server, JWT_SECRET=SECRET, JWT_LEEWAY="0")
    credential = token(exp=time.time() + 3, iat=time.time() - 1)
    expect(server, 200, credential)
    wait_until(lambda: me(server, credential).status_code == 401, "the token has expired")
    server = served(make_server, JWT_SECRET=SECRET, JWT_LEEWAY="0", JWT_MAX_AGE="60")
    expect(server, 200, token())
    expect(server, 401, token(iat=time.time() - 61))
    expect(server, 401, token(iat=None))


def test_keys_of_a_file(make_server, tmp_path, rsa_key, other_rsa_key, ec_key):
    path = tmp_path / "jwks.json"
    path.write_text(jwks(r=rsa_key, e=ec_key))
    server = served(make_server, JWT_JWKS=path)
    expect(server, 200, token(rsa_key, "RS256", "r"))
    expect(server, 200, token(ec_key, "ES256", "e"))
    expect(server, 200, token(rsa_key, "RS256"))  # the only one of its algorithm
    der = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    rs256 = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    bad = [
        token(other_rsa_key, "RS256", "r"),
        token(rsa_key, "RS256", "unknown"),
        token(rsa_key, "RS256", "e"),
        token(ec_key, "ES256", "r"),
        token(rsa_key, "RS512", "r"),
        token(rsa_key, "PS256", "r"),
        forged({"alg": "none", "kid": "r"}),
        forged({"alg": "ES256", "kid": "r"}, lambda text: rs256.sign(text, rsa_key)),
        forged({"alg": "RS256", "kid": "e"}, lambda text: der.sign(text, ec_key)),
        # the public key, which everybody has, as the secret
        *(forged({"alg": "HS256", "kid": kid}, hs256(pem(key))) for kid, key in (("r", rsa_key), ("e", ec_key))),
        forged({"alg": "HS256", "kid": "r"}, hs256(jwks(r=rsa_key).encode())),
        forged({"alg": "HS256", "kid": "r"}, hs256(b"")),
    ]
    for credential in bad:
        expect(server, 401, credential)

    path.write_text(jwks(new=other_rsa_key, e=ec_key))
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: me(server, token(other_rsa_key, "RS256", "new")).status_code == 200, "the new key is read")
    expect(server, 401, token(rsa_key, "RS256", "r"))
    expect(server, 200, token(ec_key, "ES256", "e"))

    path.write_text("{")  # the keys of before stay
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: "were not read" in server.log_text(), "the log tells")
    expect(server, 200, token(ec_key, "ES256", "e"))


def test_a_key_of_a_pem_file_and_a_secret(make_server, tmp_path, ec_key, rsa_key):
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ec_key))
    server = served(make_server, JWT_PUBLIC_KEY=path, JWT_SECRET=SECRET)
    expect(server, 200, token(ec_key, "ES256"))
    expect(server, 200, token(ec_key, "ES256", "whatever its issuer calls it"))
    expect(server, 200, token())
    expect(server, 401, token(rsa_key, "RS256"))
    expect(server, 401, forged({"alg": "HS256"}, hs256(pem(ec_key))))


class Issuer:
    """An HTTP server on this machine that gives out `document`, or `status` where it is not 200."""

    def __init__(self, document, port=0):
        issuer = self
        self.document, self.status, self.asked = document, 200, 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked += 1
                body = issuer.document.encode()
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def wait_asked(self, more):
        wanted = self.asked + more
        wait_until(lambda: self.asked >= wanted, "the issuer is asked")

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def make_issuer():
    with contextlib.ExitStack() as issuers:

        def make(*args):
            issuer = Issuer(*args)
            issuers.callback(issuer.close)
            return issuer

        yield make


def test_keys_of_an_address(make_server, make_issuer, rsa_key, other_rsa_key, ec_key):
    issuer = make_issuer(jwks(old=rsa_key))
    server = served(make_server, JWT_JWKS=issuer.url, JWT_JWKS_REFRESH="1h")
    expect(server, 200, token(rsa_key, "RS256", "old"))
    asked = issuer.asked

    issuer.document = jwks(old=rsa_key, new=other_rsa_key)
    expect(server, 200, token(other_rsa_key, "RS256", "new"))  # the first that needs it has it fetched
    assert issuer.asked == asked + 1
    for number in range(20):  # and nobody can have it fetched over and over
        expect(server, 401, token(ec_key, "ES256", f"kid-{number}"))
    assert issuer.asked == asked + 1
    expect(server, 200, token(rsa_key, "RS256", "old"))


def test_a_key_that_is_withdrawn(make_server, make_issuer, rsa_key, ec_key):
    issuer = make_issuer(jwks(r=rsa_key, e=ec_key))
    server = served(make_server, JWT_JWKS=issuer.url, JWT_JWKS_REFRESH="1s")
    remembered = token(rsa_key, "RS256", "r")
    expect(server, 200, remembered)

    # No answer that is not a key set takes keys away.
    for status, document in ((500, jwks(e=ec_key)), (200, ""), (200, "{}"), (200, '{"keys":[]}'), (200, "x" * 70000)):
        issuer.status, issuer.document = status, document
        issuer.wait_asked(2)  # the first answer was looked at by the time of the second
        expect(server, 200, remembered)

    issuer.status, issuer.document = 200, jwks(e=ec_key)
    wait_until(lambda: me(server, remembered).status_code == 401, "the key is gone, and what it signed")
    expect(server, 200, token(ec_key, "ES256", "e"))


def test_an_issuer_that_is_silent_at_first(make_server, make_issuer, rsa_key):
    gone = Issuer("")
    gone.close()
    server = served(make_server, JWT_JWKS=gone.url, JWT_JWKS_REFRESH="1s")
    credential = token(rsa_key, "RS256", "r")
    answer = expect(server, 503, credential)  # not 401: nobody can say yet that it is bad
    assert int(answer.headers["retry-after"]) > 0
    expect(server, 401, token("x" * 40))
    assert "were not read" in server.log_text()
    make_issuer(jwks(r=rsa_key), gone.port)
    wait_until(lambda: me(server, credential).status_code == 200, "the keys came")
    expect(server, 401, token(rsa_key, "RS256", "unknown"))


@pytest.mark.parametrize(
    ("env", "complaints"),
    [
        ({"JWT_SECRET": "short", "JWT_AUDIENCE": "a"}, ["JWT_SECRET: it has 5 bytes"]),
        ({"JWT_SECRET": SECRET}, ["JWT_AUDIENCE: it is required"]),
        ({"JWT_SECRET": "short"}, ["JWT_SECRET: it has 5 bytes", "JWT_AUDIENCE: it is required"]),
        ({"JWT_AUDIENCE": "a"}, ["need a key"]),
        ({"JWT_JWKS": "http://issuer.test/jwks.json", "JWT_AUDIENCE": "a"}, ["JWT_JWKS: a URL"]),
        ({"JWT_JWKS": "https://user:secret-word@issuer.test/", "JWT_AUDIENCE": "a"}, ["JWT_JWKS: a URL"]),
        ({"JWT_JWKS": "https://issuer.test:99999/", "JWT_AUDIENCE": "a"}, ["JWT_JWKS: "]),
        ({"JWT_JWKS": "absent.json", "JWT_AUDIENCE": "a"}, ["JWT_JWKS: \\\"absent.json\\\" can't be read"]),
        ({"JWT_PUBLIC_KEY": "absent.pem", "JWT_AUDIENCE": "a"}, ["JWT_PUBLIC_KEY: \\\"absent.pem\\\" can't be"]),
        ({"JWT_SECRET": SECRET, "JWT_AUDIENCE": "a", "JWT_SUBJECT": "name"}, ["JWT_SUBJECT"]),
        ({"JWT_SECRET": SECRET, "JWT_AUDIENCE": "a", "JWT_LEEWAY": "1h"}, ["JWT_LEEWAY"]),
    ],
)
def test_settings_that_cannot_be(run_cli, tmp_path, env, complaints):
    ended = run_cli(["serve"], env={"DATA_DIR": tmp_path, "SERVER_PORT": "0"} | env)
    assert ended.returncode != 0
    said = ended.stderr.decode()
    for complaint in complaints:
        assert complaint.replace('\\"', '"') in said.replace('\\"', '"'), said
    assert SECRET not in said
    assert "secret-word" not in said
