"""Clients that people use: curl, httpx, Node's fetch and its HTTP/2, wrk, h2load. What is not installed is skipped
here; scripts/setup brings all of it."""

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess

import certificates
import httpx
import pytest
from conftest import GUESTS
from support import connect, form, make_key, runs_with_cause, wait_until

SECONDS = 2  # of a load
BIG = b"0123456789abcdef" * 60_000


def program(name, package):
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return found


def said(command, env=None):
    """What a program wrote to stdout; it has to end well."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, timeout=60, text=True, env=env and os.environ | env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    certificates.make_authority(folder)
    certificates.make_certificate(folder, "server", "DNS:localhost,IP:127.0.0.1")
    return folder


@pytest.fixture
def tls_server(make_server, authority):
    return make_server(TLS_CERT=authority / "server.pem", TLS_KEY=authority / "server.key")


# --- curl ---------------------------------------------------------------------------------------


def curl(server, key, *options, input=b"hello"):
    """A run of the echo guest; (its reply, the version of HTTP that curl spoke)."""
    command = [program("curl", "curl"), "-sS", "-w", "\n%{http_version} %{http_code}", *options,
               "-H", f"Authorization: Bearer {key}", "-F", f"wasm=@{GUESTS / 'c_echo.wasm'}", "-F", "input=<-",
               f"{server.url}/execute"]  # fmt: skip
    done = subprocess.run([str(word) for word in command], input=input, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    body, _, tail = done.stdout.decode().rpartition("\n")
    version, status = tail.split()
    assert status == "200", body
    return json.loads(body), version


@pytest.mark.parametrize(
    ("options", "version"), [(["--http1.1"], "1.1"), (["--http2-prior-knowledge"], "2"), (["--http2"], "1.1")]
)
def test_curl_in_clear_text(server, key, options, version):
    """`--http2` asks for an upgrade in the first request, which nobody has to follow (RFC 9113, section 3.1)."""
    reply, spoken = curl(server, key, *options)
    assert spoken == version and reply["output"] == "hello"


@pytest.mark.parametrize(("http", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
@pytest.mark.parametrize("tls", [["--tls-max", "1.2"], ["--tlsv1.3"]])
def test_curl_over_tls(tls_server, run_cli, authority, http, version, tls):
    key = make_key(run_cli, tls_server)
    reply, spoken = curl(tls_server, key, http, *tls, "--cacert", authority / "authority.pem", input=BIG)
    assert spoken == version and reply["output"] == BIG.decode()


def test_curl_waits_for_100_continue(server, key):
    """A body of this size curl sends only after it was told to go on, or after a second of silence."""
    _, trace = curl(server, key), program("curl", "curl")
    command = [trace, "-sS", "-v", "-H", "Expect: 100-continue", "-H", f"Authorization: Bearer {key}",
               "-F", f"wasm=@{GUESTS / 'c_echo.wasm'}", "-F", "input=x", f"{server.url}/execute"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60, text=True)
    assert "< HTTP/1.1 100 Continue" in done.stderr and '"output":"x"' in done.stdout


# --- httpx --------------------------------------------------------------------------------------


@pytest.mark.parametrize("http2", [False, True])
def test_httpx_with_many_at_once(tls_server, run_cli, authority, guest, http2):
    """Forty runs at once, over a pool of connections, or as streams of one."""
    key = make_key(run_cli, tls_server)
    context = ssl.create_default_context(cafile=str(authority / "authority.pem"))

    async def all_of_them():
        limits = httpx.Limits(max_connections=1 if http2 else 10)
        async with httpx.AsyncClient(
            http1=not http2, http2=http2, verify=context, limits=limits, timeout=60, base_url=tls_server.url
        ) as client:
            return await asyncio.gather(
                *(
                    client.post("/execute", files=form(guest("c_echo"), str(n)), headers={"Authorization": f"Bearer {key}"})
                    for n in range(40)
                )
            )

    answers = asyncio.run(all_of_them())
    assert [answer.json()["output"] for answer in answers] == [str(n) for n in range(40)]
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}


# --- Node ---------------------------------------------------------------------------------------

# `connections` counts what fetch opens; `post(guest, more)` sends a form as a browser would.
FETCH = """
import { readFileSync } from "node:fs";
import diagnostics from "node:diagnostics_channel";
const { URL_, KEY, GUESTS } = process.env;
let connections = 0;
diagnostics.subscribe("undici:client:connected", () => { connections++; });
function post(guest, input, more = {}, options = {}) {
  const form = new FormData();
  form.append("wasm", new Blob([readFileSync(`${GUESTS}/${guest}.wasm`)]), `${guest}.wasm`);
  form.append("input", input);
  for (const [name, value] of Object.entries(more)) form.append(name, value);
  return fetch(`${URL_}/execute`, { method: "POST", body: form, headers: { authorization: `Bearer ${KEY}` }, ...options });
}
"""


def node(script, server, key, **env):
    command = [program("node", "nodejs"), "--no-warnings", "--input-type=module", "-e", script]
    return json.loads(said(command, env={"URL_": server.url, "KEY": key, "GUESTS": str(GUESTS)} | env))


def test_node_fetch_keeps_its_connection(server, key):
    """One connection, and one more where fetch has a reply before it has noticed that its connection is free."""
    script = """
    const outputs = [];
    for (let n = 0; n < 20; n++) {
      const answer = await post("c_shout", `number ${n}`);
      outputs.push((await answer.json()).output);
    }
    const live = await fetch(`${URL_}/health/live`);
    console.log(JSON.stringify({ outputs, kept: connections <= 2, live: (await live.json()).status }));
    """
    got = node(FETCH + script, server, key)
    assert got == {"outputs": [f"NUMBER {n}" for n in range(20)], "kept": True, "live": "ok"}


def test_node_fetch_over_tls_with_a_big_blob(tls_server, run_cli, authority):
    script = """
    const bytes = new Uint8Array(900000).map((_, i) => 97 + i % 26);
    const answer = await post("c_echo", new Blob([bytes]));
    const { output } = await answer.json();
    console.log(JSON.stringify({ status: answer.status, same: output === Buffer.from(bytes).toString() }));
    """
    key = make_key(run_cli, tls_server)
    got = node(FETCH + script, tls_server, key, NODE_EXTRA_CA_CERTS=str(authority / "authority.pem"))
    assert got == {"status": 200, "same": True}


def test_node_abort_cancels_the_run(make_server, run_cli):
    """The run is under way for certain when it is given up."""
    script = """
    const running = async () => /^wasmwiz_runs_running 1$/m.test(await (await fetch(`${URL_}/metrics`)).text());
    const control = new AbortController();
    const answer = post("wat_forever", "", { timeout_ms: "60000" }, { signal: control.signal });
    while (!await running()) await new Promise(done => setTimeout(done, 5));
    control.abort();
    const error = await answer.then(() => "none", error => error.name);
    console.log(JSON.stringify({ error }));
    """
    server = make_server(EXECUTION_TIMEOUT="60")
    key = make_key(run_cli, server)
    assert node(FETCH + script, server, key) == {"error": "AbortError"}
    with connect(server) as client:
        wait_until(lambda: runs_with_cause(client, server, "cancelled") == 1, "the run counts as cancelled")
        wait_until(lambda: "wasmwiz_runs_running 0\n" in client.get("/metrics").text, "nothing runs any more")


def test_node_http2(tls_server, run_cli, authority):
    """Node's own HTTP/2: streams at once on one session, one of them given up."""
    script = """
    import http2 from "node:http2";
    const session = http2.connect(URL_);
    const get = path => new Promise((fine, bad) => {
      const stream = session.request({ ":path": path });
      let status, text = "";
      stream.on("response", head => { status = head[":status"]; });
      stream.on("data", piece => { text += piece; });
      stream.on("end", () => fine({ status, text }));
      stream.on("error", bad);
    });
    session.request({ ":path": "/health" }).close(http2.constants.NGHTTP2_CANCEL);
    const answers = await Promise.all(Array.from({ length: 30 }, () => get("/health/live")));
    session.close();
    console.log(JSON.stringify([...new Set(answers.map(one => `${one.status} ${one.text.trim()}`))]));
    """
    key = make_key(run_cli, tls_server)
    got = node(script.replace("URL_", "process.env.URL_"), tls_server, key, NODE_EXTRA_CA_CERTS=str(authority / "authority.pem"))
    assert got == ['200 {"status":"ok"}']


# --- loads --------------------------------------------------------------------------------------


def wrk(url, *options):
    out = said([program("wrk", "wrk"), "-t1", "-c16", f"-d{SECONDS}s", *options, url])
    assert "Socket errors" not in out and "Non-2xx" not in out, out
    assert int(re.search(r"(\d+) requests in", out)[1]) > 0, out


def test_wrk(server, key, guest, tmp_path):
    wrk(f"{server.url}/health/live")
    request = httpx.Request("POST", server.url, files=form(guest("c_echo"), b"x" * 1024))
    (tmp_path / "body").write_bytes(request.read())
    script = tmp_path / "post.lua"
    script.write_text(f"""
        wrk.method, wrk.body = "POST", assert(io.open("{tmp_path / 'body'}", "rb")):read("*a")
        wrk.headers["Content-Type"] = "{request.headers['content-type']}"
        wrk.headers["Authorization"] = "Bearer {key}"
        """)
    wrk(f"{server.url}/execute", "-s", str(script))


def test_wrk_over_tls(tls_server):
    wrk(f"{tls_server.url}/health/live")


@pytest.mark.parametrize("options", [["-m", "16"], ["--h1"]])
@pytest.mark.parametrize("tls", [False, True])
def test_h2load(server, tls_server, options, tls):
    url = (tls_server if tls else server).url
    out = said([program("h2load", "nghttp2-client"), "-t1", "-c8", "-D", SECONDS, *options, f"{url}/health/live"])
    found = re.search(r"(\d+) done, \d+ succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", out)
    assert found and int(found[1]) > 0, out
