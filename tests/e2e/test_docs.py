"""The guides: their commands are run as they stand, their tables are compared with the program."""

import os
import re
import shutil
import signal
import socket
import subprocess
import textwrap

import certificates
import httpx
import pytest
from conftest import GUESTS, PROGRAM, ROOT, environment
from support import make_key, says, wait_until

# What stands before the commands of a page: a server takes the place of the one before, and is there when it says so.
PRELUDE = """
set -eu
curl() { command curl -fsS -m 20 "$@"; }
stop() { [ -z "${SERVER-}" ] || { kill "$SERVER"; wait "$SERVER" || true; SERVER=; }; }
serve() {
    stop
    : >said
    env "$@" build/wasmwiz serve >said 2>>log & SERVER=$!
    for _ in $(seq 200); do
        grep -q '^listening on' said && return
        sleep 0.1
    done
    cat log >&2
    exit 1
}
trap stop EXIT
"""


def page(name):
    return (ROOT / "docs" / name).read_text()


def fenced(text, kind):
    return re.search(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]


def shell_blocks(text):
    """The indented blocks, one after the other, without those between fences."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def project(tmp_path):
    """A folder that looks like the project's own to what is run in it."""
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "wasmwiz").symlink_to(PROGRAM)
    (tmp_path / "tests" / "guests").mkdir(parents=True)
    (tmp_path / "tests" / "guests" / "out").symlink_to(GUESTS)
    return tmp_path


def run_blocks(folder, blocks, ports):
    """Runs the blocks as one script, with other ports; what it wrote to stdout."""
    script = "".join(blocks)
    for written in ports:
        script = script.replace(str(written), str(ports[written]))
    script = re.sub(r"^(.*) build/wasmwiz serve$", r"serve \1", script, flags=re.MULTILINE)
    env = environment({})
    del env["ENVIRONMENT"]  # whoever pastes them has none
    done = subprocess.run(
        ["bash", "-c", PRELUDE + script], cwd=folder, env=env, capture_output=True, timeout=110, text=True
    )
    log = folder / "log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    return done.stdout


# --- README.md ----------------------------------------------------------------------------------


def test_commands_of_the_readme(project):
    """What is to be pasted there, with a server that `make run` would have started."""
    (project / "examples").symlink_to(ROOT / "examples")
    blocks = [block for block in shell_blocks((ROOT / "README.md").read_text()) if not block.startswith("make ")]
    assert len(blocks) == 2
    stopped = "run --timeout 1s examples/guests/forever.wat"
    assert stopped in blocks[1]
    blocks[1] = blocks[1].replace(stopped, stopped + " || echo ended with $?")
    said = run_blocks(project, ["serve ENVIRONMENT=development SERVER_PORT=8080\n", *blocks], {8080: free_port()})
    assert '"output":"HELLO"' in said and "\nHELLO\n" in said and "ended with 124" in said


# --- docs/tls.md --------------------------------------------------------------------------------


def test_commands_of_the_tls_guide(project):
    """All of them, in their order; where one fails, so does this."""
    blocks = shell_blocks(page("tls.md"))
    assert sum("build/wasmwiz serve" in block for block in blocks) == 4
    said = run_blocks(project, blocks, {8443: free_port(), 8080: free_port()})
    assert said.count('{"status":"ok"}') == page("tls.md").count("/health/live\n") and "HELLO" in said
    for expected in ("they fit", "refused", "tls/node-1.pem: OK", "ALPN protocol: h2"):
        assert expected in said, said


def test_hook_of_the_tls_guide(make_server, tmp_path, run_cli):
    """The hook for certbot puts what was renewed into place, and the server shows it."""
    certificates.make_authority(tmp_path)
    kept, renewed = tmp_path / "kept", tmp_path / "renewed"
    for folder, name in ((kept, "old"), (renewed, "new")):
        folder.mkdir()
        pem, key = certificates.make_certificate(tmp_path, name, "DNS:localhost,IP:127.0.0.1")
        ours = folder == kept
        shutil.copy(pem, folder / ("server.pem" if ours else "fullchain.pem"))
        shutil.copy(key, folder / ("server.key" if ours else "privkey.pem"))
    server = make_server(TLS_CERT=kept / "server.pem", TLS_KEY=kept / "server.key")
    hook = tmp_path / "hook"
    text = fenced(page("tls.md"), "sh")
    for written, ours in (("/etc/wasmwiz/tls", kept), ("/var/lib/wasmwiz", server.data_dir), ("-o wasmwiz ", "")):
        assert written in text
        text = text.replace(written, str(ours))
    hook.write_text(text)
    hook.chmod(0o700)
    address = server.url.removeprefix("https://")

    def shown():
        command = ["openssl", "s_client", "-connect", address]
        return subprocess.run(command, input=b"", capture_output=True, timeout=30).stdout

    assert b"CN = old" in shown()
    subprocess.run([hook], env=os.environ | {"RENEWED_LINEAGE": str(renewed)}, check=True, timeout=30)
    wait_until(lambda: b"CN = new" in shown(), "the renewed certificate is shown")
    assert (kept / "server.key").stat().st_mode & 0o777 == 0o400


def check_through_proxy(server, run_cli, http, https, authority, name):
    """A run through a proxy; the redirect; who the client is and that it came by TLS."""
    key = make_key(run_cli, server)
    to = f"https://{name}:{https}"
    command = ["curl", "-sS", "-i", "-m", "20", "--interface", "127.0.0.2", "--cacert", authority, "--resolve", f"{name}:{https}:127.0.0.1",
               "-H", f"Authorization: Bearer {key}", "-H", "X-Forwarded-For: 192.0.2.9",
               "-F", "wasm=@-;filename=guest.wasm", "-F", "input=", f"{to}/execute"]  # fmt: skip
    done = subprocess.run([str(word) for word in command], input=says(b"behind"), capture_output=True, timeout=30)
    assert b'"output":"behind"' in done.stdout, done.stdout + done.stderr
    assert b"strict-transport-security: max-age=31536000" in done.stdout.lower()
    wait_until(lambda: "127.0.0.2" in server.log_text(), "the client is logged")
    assert "192.0.2.9" not in server.log_text(), "what the client wrote itself is not believed"
    moved = httpx.get(f"http://127.0.0.1:{http}/a?b=c", headers={"Host": name}, follow_redirects=False)
    assert moved.status_code == 308 and moved.headers["location"].endswith("/a?b=c")


@pytest.fixture
def behind(make_server, tmp_path):
    """(the server, authority, certificate, key) for a proxy as api.example.com."""
    certificates.make_authority(tmp_path)
    pair = certificates.make_certificate(tmp_path, "api", "DNS:api.example.com")
    return make_server(TRUSTED_PROXIES="127.0.0.1"), tmp_path / "authority.pem", *pair


def test_nginx_of_the_tls_guide(behind, run_cli, tmp_path):
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed (Debian package nginx-light)")
    server, authority, pem, key = behind
    http, https = free_port(), free_port()
    text = fenced(page("tls.md"), "nginx")
    live = "/etc/letsencrypt/live/api.example.com"
    for written, ours in (
        ("127.0.0.1:8080", server.url.removeprefix("http://")),
        ("listen 443", f"listen 127.0.0.1:{https}"),
        ("listen 80", f"listen 127.0.0.1:{http}"),
        (f"{live}/fullchain.pem", pem),
        (f"{live}/privkey.pem", key),
    ):
        assert written in text
        text = text.replace(written, str(ours))
    folder = tmp_path / "nginx"
    folder.mkdir()
    temp = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi"))
    config = folder / "nginx.conf"
    config.write_text(f"daemon off; master_process off; pid {folder}/pid; events {{}}\nhttp {{ access_log off; {temp}\n{text}}}\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["nginx", "-c", config, "-e", folder / "log"], stdout=log, stderr=log)
    try:
        wait_until(lambda: accepts(https), f"nginx answers: {(folder / 'log').read_text()}")
        check_through_proxy(server, run_cli, http, https, authority, "api.example.com")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- docs/tuning.md -----------------------------------------------------------------------------

UNITS = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "": 1}
NO_LIMITS = {"SERVER_PORT", "REDIRECT_PORT"}


def settings_with_numbers(run_cli):
    """{variable: default as text} of all settings that take a number."""
    done = run_cli(["settings", "markdown"])
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (\S*) \| \d\w* to \d\w* \|", done.stdout.decode(), re.MULTILINE)
    return {name: default for name, default in rows if name not in NO_LIMITS}


def test_every_limit_is_in_the_tuning_guide_with_its_default(run_cli):
    limits = settings_with_numbers(run_cli)
    assert len(limits) > 20
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page("tuning.md"), re.MULTILINE))
    assert set(told) == set(limits), "the tables of docs/tuning.md have a row for each setting with a number"
    for name, default in limits.items():
        number = re.fullmatch(r"(\d+) ?(\w*)", told[name])
        if default == "0":
            assert not number, f"{name}: 0 means that the program chooses; docs/tuning.md says how"
        else:
            assert number and int(number[1]) * UNITS[number[2]] == int(default), f"{name}: {told[name]}, not {default}"


def test_codes_causes_and_metrics_of_the_tuning_guide_are_there(client, server):
    text = page("tuning.md")
    shown = client.get("/metrics").text
    for name, label in set(re.findall(r"`((?:wasmwiz|process)_\w+)(\{\w+=\"\w+\"\})?", text)):
        assert f"\n{name}{label or ''}" in shown, f"{name}{label} is no metric"
    known = set(re.findall(r"^\| `(\w+)` \|", page("errors.md"), re.MULTILINE))
    used = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)) | set(re.findall(r"cause `(\w+)`", text))
    used = {word for word in used if not word.startswith(("wasmwiz_", "process_", "max_connections"))}
    assert len(used) > 10 and used <= known, used - known
