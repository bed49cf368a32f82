"""TLS as clients see it: versions, names, resumption, client certificates, reloading, the redirect."""

import os
import re
import signal
import socket
import ssl
import subprocess
import urllib.parse

import certificates
import httpx
import pytest
from support import connect, execute, make_key, says, wait_until


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    certificates.make_authority(folder)
    certificates.make_certificate(folder, "first", "DNS:localhost,IP:127.0.0.1")
    certificates.make_certificate(folder, "second", "DNS:second.test")
    certificates.make_certificate(folder, "client", "DNS:node.test")
    return folder


@pytest.fixture
def tls_server(make_server, pki):
    def make(names=("first",), **env):
        files = {
            "TLS_CERT": ",".join(str(pki / f"{name}.pem") for name in names),
            "TLS_KEY": ",".join(str(pki / f"{name}.key") for name in names),
        }
        return make_server(**(files | env))

    return make


def trusting(pki, **options):
    context = ssl.create_default_context(cafile=str(pki / "authority.pem"))
    return httpx.Client(verify=context, timeout=30, **options)


def s_client(server, *arguments, input=b""):
    address = urllib.parse.urlsplit(server.url)
    command = ["openssl", "s_client", "-connect", f"{address.hostname}:{address.port}", *map(str, arguments)]
    return subprocess.run(command, input=input, capture_output=True, timeout=30)


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", *map(str, arguments)], capture_output=True, timeout=30, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_over_tls(tls_server, pki, run_cli):
    server = tls_server()
    assert server.url.startswith("https://")
    key = make_key(run_cli, server)
    for http2 in (False, True):
        with trusting(pki, http2=http2, headers={"Authorization": f"Bearer {key}"}) as client:
            answer = execute(client, server, says(b"over TLS"))
            assert answer.status_code == 200 and answer.json()["output"] == "over TLS"
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(("flags", "version"), [(["--http1.1"], "1.1"), (["--http2"], "2")])
@pytest.mark.parametrize("tls", ["--tls-max=1.2", "--tlsv1.3"])
def test_curl(tls_server, pki, flags, version, tls):
    server = tls_server()
    said = curl(*flags, *tls.split("="), "--cacert", pki / "authority.pem", "-w", " %{http_version}", f"{server.url}/health/live")
    assert said.endswith(f" {version}")


def test_old_versions_and_unknown_protocols_are_refused(tls_server):
    server = tls_server()
    assert b"alert protocol version" in s_client(server, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0").stderr
    assert b"alert no application protocol" in s_client(server, "-alpn", "spdy/3").stderr


def test_clear_text_is_no_tls(tls_server):
    address = urllib.parse.urlsplit(tls_server().url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert not s.recv(4096).startswith(b"HTTP/")


def test_names(tls_server):
    server = tls_server(names=("first", "second"))
    for asked, shown in (("localhost", b"first"), ("second.test", b"second"), ("other.test", b"first")):
        assert b"subject=CN = " + shown in s_client(server, "-servername", asked).stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_resumption(tls_server, tmp_path, version):
    server, session = tls_server(), tmp_path / "session"
    request = b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    first = s_client(server, version, "-ign_eof", "-sess_out", session, input=request)
    assert b"200 OK" in first.stdout and b"\nNew, " in first.stdout
    assert b"\nReused, " in s_client(server, version, "-sess_in", session).stdout


@pytest.mark.parametrize("auth", ["optional", "required"])
def test_client_certificates(tls_server, pki, auth):
    server = tls_server(TLS_CLIENT_AUTH=auth, TLS_CLIENT_CA=str(pki / "authority.pem"))
    live = f"{server.url}/health/live"
    with trusting(pki) as client:
        if auth == "required":
            with pytest.raises(httpx.TransportError):
                client.get(live)
        else:
            assert client.get(live).status_code == 200
    context = ssl.create_default_context(cafile=str(pki / "authority.pem"))
    context.load_cert_chain(pki / "client.pem", pki / "client.key")
    with httpx.Client(verify=context) as client:
        assert client.get(live).status_code == 200


def test_reload_drops_no_connection(tls_server, pki, tmp_path):
    pem, key = tmp_path / "live.pem", tmp_path / "live.key"

    def put(name):
        pem.write_bytes((pki / f"{name}.pem").read_bytes())
        key.write_bytes((pki / f"{name}.key").read_bytes())

    def shown():
        return re.search(rb"subject=CN = (\w+)", s_client(server).stdout)[1]

    put("first")
    server = tls_server(TLS_CERT=str(pem), TLS_KEY=str(key))
    with trusting(pki) as client:
        assert client.get(f"{server.url}/health/live").status_code == 200
        stream = client._transport._pool.connections[0]
        put("second")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: shown() == b"second", "the new certificate is shown")
        key.write_text("no key\n")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "not reloaded" in server.log_text(), "the bad file is logged")
        assert shown() == b"second"
        assert client.get(f"{server.url}/health/live").status_code == 200
        assert client._transport._pool.connections[0] is stream


def test_redirect(tls_server, pki):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = tls_server(REDIRECT_PORT=str(port))
    answer = httpx.get(f"http://127.0.0.1:{port}/health/live?a=b", follow_redirects=False)
    assert answer.status_code == 308 and answer.headers["location"] == f"{server.url}/health/live?a=b"
    assert "strict-transport-security" not in answer.headers
    assert httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": "a/b"}).status_code == 400
    with trusting(pki, follow_redirects=True) as client:
        assert client.get(f"http://127.0.0.1:{port}/health/live").status_code == 200


@pytest.mark.parametrize(
    "env",
    [
        {"TLS_CERT": "none.pem", "TLS_KEY": "none.key"},
        {"TLS_CERT": "none.pem"},
        {"REDIRECT_PORT": "1"},
        {"TLS_CLIENT_AUTH": "required"},
        {"TRUSTED_PROXIES": "10.0.0.0/33"},
    ],
)
def test_settings_that_cannot_be(run_cli, env):
    done = run_cli(["serve"], env=env | {"SERVER_PORT": "0"})
    assert done.returncode != 0
    assert any(word in done.stderr.decode() for word in [*env, "none.pem", "trusted proxy"])


def test_trusted_proxies(make_server):
    server = make_server(TRUSTED_PROXIES="127.0.0.0/8")
    with connect(server) as client:
        answer = client.get("/health/live", headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"})
        assert "strict-transport-security" in answer.headers
        wait_until(lambda: "192.0.2.7" in server.log_text(), "the client is in the access log")
        assert "strict-transport-security" not in client.get("/health/live").headers


