"""What those who run a server see of it: settings and their mistakes, health, metrics, logs, traces, its end."""

import json
import os
import re
import signal
import socket
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import (
    LONG,
    Crowd,
    assemble,
    check_answer,
    connect,
    execute,
    make_key,
    metric,
    metrics,
    raw_request,
    role_processes,
    wait_until,
)

SALT = "0123456789abcdef a salt of the tests"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp


def log_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


# --- settings -----------------------------------------------------------------------------------


def check(run_cli, tmp_path, **env):
    given = {"DATA_DIR": tmp_path / "data", "SERVER_PORT": "0"} | env
    return run_cli(["serve", "--check"], env=given, cwd=tmp_path)


def test_check_prints_what_is_in_effect_and_no_secret(run_cli, tmp_path):
    done = check(
        run_cli,
        tmp_path,
        API_SALT=SALT,
        DATABASE_URL="postgresql://somebody:hidden-word@db/x",
        OTEL_EXPORTER_OTLP_HEADERS="authorization=hidden-word",
        QUEUE_MAX="77",
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert re.search(r"^QUEUE_MAX +77$", said, re.MULTILINE)
    assert re.search(r"^DATABASE_URL +\(set\)$", said, re.MULTILINE)
    assert "hidden-word" not in said and SALT not in said
    assert not (tmp_path / "data").exists(), "it only looks"


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"API_SALT": "12345678"}, "API_SALT"),
        ({"ENVIRONMENT": "production"}, "API_SALT"),
        ({"DATABASE_POOL_MIN": "9", "DATABASE_POOL_MAX": "3"}, "DATABASE_POOL_MIN"),
        ({"DATABASE_REPLICA_URL": "postgresql://u:p@h/d"}, "DATABASE_REPLICA_URL"),
        ({"DATABASE_URL": "mysql://u:hidden-word@h/d"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql:hidden-word@h/d"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:s@hidden-word@h/d"}, "DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:"}, "DATABASE_URL"),
        (
            {"DATABASE_URL": "postgresql://u:p@h/d", "DATABASE_REPLICA_URL": "mysql://u:hidden-word@h/d"},
            "DATABASE_REPLICA_URL",
        ),
        (
            {"DATABASE_URL": "postgresql://u:p@h/d", "DATABASE_REPLICA_URL": "postgresql://u:%zzhidden-word@h/d"},
            "DATABASE_REPLICA_URL",
        ),
        ({"REDIS_URL": "http://:hidden-word@127.0.0.1"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://:hidden-word@127.0.0.1:99999"}, "REDIS_URL"),
        ({"SERVER_HOST": "two words"}, "SERVER_HOST"),
        ({"SERVER_HOST": "127.0.0.256"}, "SERVER_HOST"),
        ({"SERVER_HOST": "http://127.0.0.1"}, "SERVER_HOST"),
        ({"TLS_CERT": "/nowhere/cert.pem"}, "TLS_KEY"),
        ({"TLS_CERT": "/nowhere/cert.pem", "TLS_KEY": "/nowhere/key.pem"}, "/nowhere/key.pem"),
        ({"REDIRECT_PORT": "8081"}, "REDIRECT_PORT"),
        ({"TLS_CLIENT_AUTH": "required"}, "TLS_CLIENT_CA"),
        ({"TRUSTED_PROXIES": "10.0.0.0/33"}, "TRUSTED_PROXIES"),
        ({"WASM_TEMP_DIR": "/dev/null/tmp"}, "WASM_TEMP_DIR"),
        ({"DATA_DIR": "/dev/null/data"}, "DATA_DIR"),
        ({"LOG_FILE": "/nowhere/at/all.log"}, "LOG_FILE"),
        ({"GUEST_MEMORY": "1MiB"}, "MEMORY_LIMIT"),
        ({"FRONT_MEMORY": "1MiB"}, "FRONT_MEMORY"),
        ({"FRONT_MEMORY": "1GiB", "ISOLATION": "inline"}, "FRONT_MEMORY"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER_ARG": "1.5"},
            "OTEL_TRACES_SAMPLER_ARG",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "a b=c"},
            "OTEL_EXPORTER_OTLP_HEADERS",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(run_cli, tmp_path, env, named):
    for args in (["serve", "--check"], ["serve"]):
        done = run_cli(args, env={"DATA_DIR": tmp_path / "data", "SERVER_PORT": "0"} | env, cwd=tmp_path)
        assert done.returncode == 78, done.stderr
        assert named in done.stderr.decode()
        assert "hidden-word" not in done.stderr.decode()
        assert done.stdout == b""


def test_all_mistakes_are_told_at_once(run_cli, tmp_path):
    wrong = {
        "API_SALT": "short", "QUEUE_MAX": "no", "REDIRECT_PORT": "8081", "LOG_FILE": "/nowhere/x",
        "DATABASE_URL": "mysql://h", "REDIS_URL": "http://h", "SERVER_HOST": "no host",
    }  # fmt: skip
    done = check(run_cli, tmp_path, **wrong)
    assert done.returncode == 78
    for name in wrong:
        assert name in done.stderr.decode()
    assert "short" not in done.stderr.decode()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "localhost", "node-1.example.org.", "my_node"])
def test_forms_of_a_host(run_cli, tmp_path, host):
    done = check(run_cli, tmp_path, SERVER_HOST=host)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("salt", [None, "8letters"])
def test_commands_want_the_salt_that_serve_wants(run_cli, tmp_path, salt):
    env = {"DATA_DIR": tmp_path / "data", "SERVER_PORT": "0"}
    made = run_cli(["keys", "create", "--name", "first"], env=env)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "data" / "api_salt").exists(), "a development server's own"
    env |= {"ENVIRONMENT": "production", "API_SALT": salt}
    served = run_cli(["serve"], env=env)
    assert served.returncode == 78
    (sentence,) = [line for line in served.stderr.splitlines() if line.startswith(b"API_SALT")]
    for args in (
        ["keys", "create", "--name", "second"],
        ["admin", "create", "root@example.org", "--password-stdin"],
        ["admin", "role", "root@example.org", "user"],
        ["admin", "password", "root@example.org", "--password-stdin"],
    ):
        done = run_cli(args, b"correct horse battery\n", env=env)
        assert done.returncode == 78, (args, done.stderr)
        assert sentence in done.stderr.splitlines() and done.stdout == b""
    listed = run_cli(["keys", "list"], env=env)
    assert listed.returncode == 0 and b"first" in listed.stdout, "what needs no salt asks for none"
    assert b"second" not in listed.stdout
    assert run_cli(["keys", "create", "--name", "second"], env=env | {"API_SALT": SALT}).returncode == 0


def test_unknown_names_in_env_file_are_told(run_cli, tmp_path):
    (tmp_path / ".env").write_text("QUEUE_MXA=5\nPOSTGRES_PASSWORD=hidden-word\nQUEUE_MAX=5\n")
    done = check(run_cli, tmp_path)
    assert done.returncode == 0
    said = done.stderr.decode()
    assert re.search(r"QUEUE_MXA.*QUEUE_MAX", said)
    assert "POSTGRES_PASSWORD" in said and "hidden-word" not in said
    assert len(said.splitlines()) == 3


# --- the first run ------------------------------------------------------------------------------


def test_first_run(run_cli, make_server, tmp_path):
    env = {"ENVIRONMENT": "production", "API_SALT": SALT, "DATABASE_URL": f"sqlite:{tmp_path}/first.db"}
    migrated = run_cli(["migrate", "up"], env=env | {"DATA_DIR": tmp_path / "data"})
    assert migrated.returncode == 0, migrated.stderr
    server = make_server(**env)
    with connect(server) as client:
        assert client.get("/health/live").status_code == 200
        wait_until(lambda: client.get("/health/ready").status_code == 200, "it is ready")
        health = client.get("/health")
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    checks = health.json()["checks"]
    assert set(checks) == {
        "process", "database", "limits", "file_system", "disk", "memory", "sandboxes", "compiler",
    }  # fmt: skip
    for name, told in checks.items():
        assert told["status"] == "ok", checks
        assert name == "process" or told["latency_us"] >= 0
    assert str(tmp_path) not in health.text and "/" not in health.text, "no path for strangers"
    assert server.stop() == 0
    refused = run_cli(["serve"], env=env | {"API_SALT": "8letters", "DATA_DIR": server.data_dir})
    assert refused.returncode == 78
    assert "API_SALT" in refused.stderr.decode() and "16" in refused.stderr.decode()
    assert "8letters" not in refused.stderr.decode()


def started(server):
    (line,) = [line for line in log_lines(server.log) if line["event"] == "started"]
    return line


@pytest.mark.parametrize(
    ("environment", "host"), [("development", "127.0.0.1"), ("staging", "0.0.0.0"), ("production", "0.0.0.0")]
)
def test_defaults_of_address_and_database(make_server, environment, host):
    server = make_server(ENVIRONMENT=environment, SERVER_HOST=None, API_SALT=SALT, LOG_FORMAT="json")
    said = started(server)
    assert said["host"] == host
    assert (said["database"], said["database_at"]) == ("sqlite", f"{server.data_dir}/wasmwiz.db")
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{said['port']:04X}"
    assert wanted in [row[1] for row in table if row[3] == LISTENS]


def test_the_start_tells_the_database_without_its_password(make_server, run_cli, postgres):
    env = {"DATABASE_URL": postgres.url, "API_SALT": SALT}
    assert run_cli(["migrate", "up"], env=env).returncode == 0
    server = make_server(LOG_FORMAT="json", **env)
    said = started(server)
    place = postgres.url.rpartition("@")[2]
    assert (said["database"], said["database_at"]) == ("postgresql", place)


def test_health_asks_redis_although_nothing_else_does(make_server, redis):
    server = make_server(REDIS_URL=redis.url)
    with connect(server) as client:

        def limits():
            health = client.get("/health")
            assert health.status_code == 200, "it is optional"
            return health.json()["checks"]["limits"]

        wait_until(lambda: limits()["status"] == "ok", "Redis is there")
        assert limits()["latency_us"] > 0
        redis.pause()
        address = urllib.parse.urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), 20) as leaving:
            leaving.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")  # and gone before Redis is given up
        wait_until(lambda: limits()["status"] == "degraded", "it is missed")
        redis.resume()
        wait_until(lambda: limits()["status"] == "ok", "it is back")


def test_health_looks_at_all_folders(make_server, tmp_path):
    uploads, logs = tmp_path / "uploads", tmp_path / "logs"
    logs.mkdir()
    server = make_server(WASM_TEMP_DIR=str(uploads), LOG_FILE=str(logs / "server.log"))
    with connect(server) as client:

        def check_health(http_status, status, detail):
            health = client.get("/health")
            assert health.status_code == http_status
            told = health.json()["checks"]["file_system"]
            assert (told["status"], told.get("detail", "")) == (status, detail)
            assert health.json()["checks"]["disk"]["status"] == status
            assert str(tmp_path) not in health.text and "/" not in health.text

        wait_until(lambda: client.get("/health").status_code == 200, "a sandbox serves")
        check_health(200, "ok", "")
        for folder, http_status, status, detail in (
            (server.data_dir, 503, "failed", "the data folder can't be written"),
            (uploads, 503, "failed", "the folder of uploads can't be written"),
            (logs, 200, "degraded", "the log's folder can't be written"),
        ):
            aside = folder.rename(tmp_path / "aside")
            check_health(http_status, status, detail)
            assert str(folder) in server.log_text().rpartition("\n")[0].rpartition("file_system")[2]
            aside.rename(folder)
            check_health(200, "ok", "")


def test_a_server_that_drains_is_not_ready(make_server):
    server = make_server()
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), 20) as kept, kept.makefile("rb") as replies:
        kept.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /health/ready HTTP/1.1\r\n")
        assert replies.readline() == b"HTTP/1.1 200 OK\r\n"
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: "draining" in server.log_text(), "it drains")
        kept.sendall(b"Host: x\r\n\r\n")
        head, _, body = replies.read().partition(b"HTTP/1.1 503 ")[2].partition(b"\r\n\r\n")
    assert re.search(rb"^retry-after: \d+\r?$", head, re.MULTILINE | re.IGNORECASE)
    assert re.search(rb"^connection: close\r?$", head, re.MULTILINE | re.IGNORECASE)
    assert json.loads(body)["error"]["code"] == "shutting_down"
    assert server.wait() == 0


def test_health_tells_what_fails_and_readiness_stays(make_server):
    server = make_server(REDIS_URL="redis://:hidden-word@127.0.0.1:1")
    with connect(server) as client:
        wait_until(lambda: client.get("/health").json()["checks"]["limits"]["status"] == "degraded", "Redis is missed")
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert "127.0.0.1" not in health.text and "hidden-word" not in health.text
        assert client.get("/health/ready").status_code == 200
        assert metric(client, server, "wasmwiz_limits_degraded") == 1
    assert "hidden-word" not in server.log_text()


def test_the_memory_of_the_server_itself_is_bounded(make_server, run_cli, guest):
    server = make_server(FRONT_MEMORY="256MiB")
    with connect(server, make_key(run_cli, server)) as client:
        assert check_answer(execute(client, server, guest("wat_echo"), b"x"))["output"] == "x"

    def bound(pid):
        with open(f"/proc/{pid}/limits") as limits:
            return re.search(r"Max data size +(\w+) ", limits.read())[1]

    assert bound(server.pid) == "268435456"
    for role in ("sandbox", "compiler"):
        wait_until(
            lambda role=role: [bound(pid) != "268435456" for pid in role_processes(server, role)][:1] == [True],
            f"a {role} has a bound of its own",
        )


# --- metrics ------------------------------------------------------------------------------------


def check_format(text):
    """The rules of the Prometheus text format and of its names: promtool's, as far as they concern us."""
    kinds, seen, current = {}, set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in kinds, f"{current} comes twice"
            assert line.split(" ", 3)[3].endswith("."), line
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current
            kinds[name] = kind
            assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
            assert not re.search(r"_(ms|us|ns|milliseconds|kib|mib|percent)(_|$)|[A-Z]", name), name
        else:
            parsed = re.fullmatch(r'([a-z_]+)((?:\{[a-z_]+="[^"]*"\})?) (\S+)', line)
            assert parsed, line
            float(parsed[3])
            base = re.sub(r"_(bucket|sum|count)$", "", parsed[1]) if kinds[current] == "histogram" else parsed[1]
            assert base == current, line
            assert (parsed[1], parsed[2]) not in seen, line
            seen.add((parsed[1], parsed[2]))
    assert len(seen) < 400, "labels are bounded"
    return kinds


def test_metrics(make_server, run_cli, guest):
    server = make_server(RATE_LIMITS="on")
    made = run_cli(["keys", "create", "--name", "few", "--tier", "free"], env={"DATA_DIR": server.data_dir})
    with connect(server, made.stdout.decode().strip()) as client:
        answers = [execute(client, server, guest("wat_echo"), b"x").status_code for _ in range(11)]
        assert answers == [200] * 10 + [429]
        assert execute(client, server, guest("wat_echo"), b"x", headers={"Authorization": "Bearer no"}).status_code == 401
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        kinds = check_format(answer.text)
        assert kinds["wasmwiz_run_queue_seconds"] == "histogram"
        assert metric(client, server, "wasmwiz_runs_total", cause="ok") == 10
        assert metric(client, server, "wasmwiz_ring_messages_total", direction="to_sandbox") >= 10
        assert metric(client, server, "wasmwiz_ring_messages_total", direction="from_sandbox") >= 10
        assert metric(client, server, "wasmwiz_limit_hits_total", limit="minute") == 1
        assert metric(client, server, "wasmwiz_limit_hits_total") == 1
        assert metric(client, server, "wasmwiz_errors_total", code="unauthorized") == 1
        assert metric(client, server, "wasmwiz_run_queue_seconds_count") == 10
        assert metric(client, server, "wasmwiz_run_memory_bytes_count") == 10
        assert metric(client, server, "wasmwiz_run_memory_bytes_sum") >= 10 * 65536
        assert metric(client, server, "wasmwiz_module_compile_seconds_count") == 1
        assert metric(client, server, "wasmwiz_module_cache_hits_total", place="memory") == 9
        assert metric(client, server, "wasmwiz_compiles_total") == 1
        gauges = {name: value for (name, labels), value in metrics(client, server).items() if not labels}
    assert gauges["process_open_fds"] == pytest.approx(len(os.listdir(f"/proc/{server.pid}/fd")), abs=8)
    assert gauges["process_threads"] == len(os.listdir(f"/proc/{server.pid}/task"))
    assert 0 < gauges["process_cpu_seconds_total"] < 60
    assert abs(gauges["process_start_time_seconds"] - time.time()) < 600
    for name in (
        "process_resident_memory_bytes",
        "wasmwiz_children_cpu_seconds_total",
        "wasmwiz_sandboxes_resident_memory_bytes",
        "wasmwiz_disk_free_bytes",
        "wasmwiz_memory_available_bytes",
        "wasmwiz_store_connections",
    ):
        assert gauges[name] > 0, name
    assert gauges["wasmwiz_sandboxes"] == len(role_processes(server, "sandbox"))
    assert gauges["wasmwiz_log_lines_lost_total"] == gauges["wasmwiz_limits_degraded"] == 0


def test_metrics_for_operators(make_server, run_cli):
    server = make_server(METRICS_ACCESS="operator")
    with connect(server) as nobody:
        refused = nobody.get("/metrics")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "wasmwiz_runs_total" not in refused.text
        assert nobody.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    with connect(server, make_key(run_cli, server)) as somebody:
        assert somebody.get("/metrics").status_code == 403, "a key of no account"


def test_sandboxes_are_ready_when_they_say_so(make_server):
    server = make_server(SANDBOXES="1")
    with connect(server) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200, "it is ready")
        (pid,) = role_processes(server, "sandbox")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: metric(client, server, "wasmwiz_sandboxes_died_total") == 1, "its death is seen")
        wait_until(lambda: client.get("/health/ready").status_code == 200, "another is ready")

        def refused():
            for pid in role_processes(server, "sandbox"):
                os.kill(pid, signal.SIGKILL)
            answer = client.get("/health/ready")
            return answer if answer.status_code == 503 else None

        answer = wait_until(refused, "it is asked before another one is ready")
        assert answer.json()["error"]["code"] == "sandbox_down"
        assert int(answer.headers["retry-after"]) >= 1
        wait_until(lambda: client.get("/health/ready").status_code == 200, "another is ready")
        assert metric(client, server, "wasmwiz_sandboxes") == 1


# --- logs ---------------------------------------------------------------------------------------


def test_log_lines_carry_the_ids_of_the_response(make_server, run_cli, guest, tmp_path):
    file = tmp_path / "server.log"
    server = make_server(ENVIRONMENT="production", API_SALT=SALT, LOG_FILE=str(file))
    made = run_cli(["keys", "create", "--name", "x", "--tier", "pro"], env={"DATA_DIR": server.data_dir, "API_SALT": SALT})
    key = made.stdout.decode().strip()
    with connect(server, key) as client:
        plain = execute(client, server, guest("wat_echo"), b"x")
        traced = execute(
            client, server, guest("wat_echo"), b"x", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}
        )
        forged = execute(client, server, guest("wat_echo"), b"x", headers={"traceparent": f"00-{TRACE.upper()}-{PARENT}-01"})
    for answer, trace in ((plain, None), (traced, TRACE), (forged, None)):
        request_id = answer.headers["x-request-id"]
        assert answer.json()["request_id"] == request_id
        wait_until(lambda i=request_id: sum(i in line for line in file.read_text().splitlines()) == 2, "both lines")
        lines = [line for line in log_lines(file) if request_id in (line.get("request_id"), line.get("run_id"))]
        assert {line["event"] for line in lines} == {"run", "http"}
        assert {line["trace_id"] for line in lines} == {trace or request_id}
    assert server.stop() == 0
    assert key not in file.read_text() and key not in server.log_text()
    assert log_lines(file) == log_lines(server.log)
    assert file.stat().st_mode & 0o777 == 0o600


def test_log_file_is_rotated_and_reopened(make_server, tmp_path):
    file = tmp_path / "server.log"
    server = make_server(LOG_FILE=str(file), LOG_FILE_SIZE="8k", LOG_FILE_KEEP="2", LOG_FORMAT="json")
    with connect(server) as client:
        for _ in range(200):
            client.get("/health/live")
        names = ["server.log", "server.log.1", "server.log.2"]
        wait_until(lambda: sorted(path.name for path in tmp_path.glob("server.log*")) == names, "two old ones are kept")
        file.rename(tmp_path / "moved")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(file.exists, "the file is opened anew")
        client.get("/health/live")
        wait_until(lambda: "health/live" in file.read_text(), "it is written to")


# --- traces -------------------------------------------------------------------------------------


class Collector:
    """An OTLP receiver: spans by name, the header fields of the last request."""

    def __init__(self, status=200):
        self.spans, self.headers, self.resources, self.status = [], {}, [], status
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.status == 200:
                    outer.take(self.path, dict(self.headers), json.loads(body))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path, headers, body):
        assert path == "/v1/traces"
        self.headers = {name.lower(): value for name, value in headers.items()}
        for group in body["resourceSpans"]:
            self.resources.append(attributes(group["resource"]))
            for scope in group["scopeSpans"]:
                self.spans += scope["spans"]

    def of(self, trace):
        return [span for span in self.spans if span["traceId"] == trace]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector():
    opened = Collector()
    yield opened
    opened.close()


def attributes(of):
    found = {}
    for item in of["attributes"]:
        ((kind, value),) = item["value"].items()
        found[item["key"]] = int(value) if kind == "intValue" else value
    return found


def test_traces(make_server, run_cli, guest, collector):
    server = make_server(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url + "/",
        OTEL_EXPORTER_OTLP_HEADERS="x-secret=a%20b, x-other=c",
        OTEL_SERVICE_NAME="of the tests",
    )
    with connect(server, make_key(run_cli, server)) as client:
        before = time.time_ns()
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x"}
        answer = execute(client, server, guest("wat_echo"), b"x", headers=headers)
        assert answer.status_code == 200
        assert "traceparent" not in answer.headers
        after = time.time_ns()
        quiet = execute(
            client, server, guest("wat_echo"), b"x", headers={"traceparent": f"00-{'a' * 32}-{PARENT}-00"}
        )
        failed = execute(client, server, guest("trap_unreachable"))
        own = failed.headers["x-request-id"]
        wait_until(lambda: len(collector.of(own)) >= 7 and len(collector.of(TRACE)) >= 9, "the spans come")
        assert metric(client, server, "wasmwiz_trace_spans_total", outcome="exported") >= 16
    assert not collector.of(quiet.headers["x-request-id"]) and not collector.of("a" * 32), "not sampled"
    assert collector.headers["x-secret"] == "a b" and collector.headers["x-other"] == "c"
    assert collector.resources[0]["service.name"] == "of the tests"

    spans = {span["name"]: span for span in collector.of(TRACE)}
    assert set(spans) == {
        "POST", "authenticate", "receive", "admit", "resolve", "compile", "queue", "run", "record", "reply",
    }  # fmt: skip
    root = spans.pop("POST")
    assert (root["parentSpanId"], root["traceState"], root["kind"]) == (PARENT, "vendor=x", 2)
    assert attributes(root)["http.response.status_code"] == 200
    assert attributes(root)["wasmwiz.request_id"] == answer.headers["x-request-id"]
    start, end = int(root["startTimeUnixNano"]), int(root["endTimeUnixNano"])
    assert before - 10**9 < start <= end < after + 10**9
    ids = {root["spanId"]}
    for span in spans.values():
        assert span["parentSpanId"] == root["spanId"]
        assert start <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        assert re.fullmatch("[0-9a-f]{16}", span["spanId"])
        ids.add(span["spanId"])
    assert len(ids) == 10
    order = ["authenticate", "receive", "admit", "resolve", "queue", "run", "record", "reply"]
    times = [int(spans[name]["startTimeUnixNano"]) for name in order]
    assert times == sorted(times)
    assert attributes(spans["run"])["wasmwiz.cause"] == "ok"
    assert attributes(spans["run"])["wasmwiz.memory_peak_bytes"] > 0
    assert re.fullmatch("[0-9a-f]{64}", attributes(spans["resolve"])["wasmwiz.module.sha256"])
    assert attributes(spans["resolve"])["wasmwiz.module.source"] == "compiled"
    assert attributes(spans["authenticate"])["wasmwiz.key.id"]

    spans = {span["name"]: span for span in collector.of(own)}
    assert "parentSpanId" not in spans["POST"] and "traceState" not in spans["POST"]
    assert spans["run"]["status"]["code"] == 2 and attributes(spans["run"])["wasmwiz.cause"] == "trap"


def test_the_last_traces_are_sent_at_the_end(make_server, collector):
    server = make_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    with connect(server) as client:
        client.get("/health/live")
        assert server.stop() == 0
    assert [span["name"] for span in collector.spans] == ["GET"]


def test_no_part_of_the_requests_is_traced_where_the_ratio_is_zero(make_server, collector):
    server = make_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER_ARG="0")
    with connect(server) as client:
        for _ in range(20):
            client.get("/health/live")
        client.get("/health/live", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        assert server.stop() == 0
    assert [span["traceId"] for span in collector.spans] == [TRACE], "the caller decides for its own"


def test_a_collector_that_is_down_harms_nobody(make_server, collector):
    collector.status = 503
    server = make_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_EXPORTER_OTLP_HEADERS="x=hidden-word")
    with connect(server) as client:
        for _ in range(20):
            assert client.get("/health/live").status_code == 200
        wait_until(lambda: metric(client, server, "wasmwiz_trace_spans_total", outcome="dropped") >= 20, "they are dropped")
        assert "traces are lost" in server.log_text()
        assert "hidden-word" not in server.log_text()
        collector.status = 200
        wait_until(lambda: client.get("/health/live") and collector.spans, "they come again")


# --- the end ------------------------------------------------------------------------------------


def test_a_run_that_is_under_way_is_finished(make_server, run_cli):
    server = make_server(EXECUTION_TIMEOUT="60")
    key = make_key(run_cli, server)
    with Crowd(server, [raw_request(server, key, assemble(LONG))]) as crowd:
        with connect(server) as client:
            wait_until(lambda: metric(client, server, "wasmwiz_runs_running") == 1, "the run has begun")
        assert server.stop() == 0
    (reply,) = crowd.replies
    assert (reply.status, reply.body["output"]) == (200, "done")


def test_schema_down_and_up_on_a_fresh_database(run_cli, tmp_path):
    env = {"DATABASE_URL": f"sqlite:{tmp_path}/fresh.db", "DATA_DIR": tmp_path / "data"}
    for args in (["up"], ["down", "0", "--yes"], ["up"]):
        done = run_cli(["migrate", *args], env=env)
        assert done.returncode == 0, done.stderr
    status = run_cli(["migrate", "status"], env=env).stdout.decode()
    assert "pending" not in status


# --- backups ------------------------------------------------------------------------------------


def test_backup_under_load_and_restore(make_server, run_cli, guest, tmp_path):
    server = make_server()
    env = {"DATA_DIR": server.data_dir}
    key = make_key(run_cli, server)
    file = tmp_path / "backup"
    with Crowd(server, [raw_request(server, key, guest("wat_echo"), b"x") for _ in range(50)]) as crowd:
        saved = run_cli(["backup", file], env=env)
        assert saved.returncode == 0, saved.stderr
        for number in range(3):
            run_cli(["keys", "create", "--name", f"late-{number}"], env=env)
    assert {reply.status for reply in crowd.replies} == {200}
    assert file.stat().st_mode & 0o777 == 0o600
    assert key not in saved.stderr.decode() and saved.stdout == b""
    assert run_cli(["backup", file], env=env).returncode == 1
    assert run_cli(["backup", file, "--force"], env=env).returncode == 0
    piped = run_cli(["backup", "-"], env=env)
    assert piped.stdout.startswith(b"SQLite format 3\0")
    assert not list(server.data_dir.glob("backup*"))

    held = run_cli(["restore", file, "--force"], env=env)
    assert held.returncode == 1 and str(server.pid) in held.stderr.decode()
    assert server.stop() == 0
    there = run_cli(["restore", file], env=env)
    assert there.returncode == 1 and "there already" in there.stderr.decode()

    new = tmp_path / "new"
    done = run_cli(["restore", file], env={"DATA_DIR": new})
    assert done.returncode == 0, done.stderr
    assert (new / "api_salt").read_bytes() == (server.data_dir / "api_salt").read_bytes()
    assert (new / "api_salt").stat().st_mode & 0o777 == 0o600
    again = make_server(DATA_DIR=str(new))
    with connect(again, key) as client:
        assert check_answer(execute(client, again, guest("wat_echo"), b"old key"))["output"] == "old key"


def test_backup_without_the_salt_of_the_environment(run_cli, tmp_path):
    env = {"DATA_DIR": tmp_path / "data", "API_SALT": SALT, "ENVIRONMENT": "production"}
    assert run_cli(["keys", "create", "--name", "x"], env=env).returncode == 0
    done = run_cli(["backup", tmp_path / "file"], env=env)
    assert done.returncode == 0
    assert "API_SALT" in done.stderr.decode()
    assert SALT.encode() not in (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("args", [["backup"], ["backup", "a", "b"], ["restore"], ["restore", "-"], ["backup", "--what"]])
def test_backup_refuses_what_it_does_not_know(run_cli, tmp_path, args):
    env = {"DATA_DIR": tmp_path / "data"}
    assert run_cli(args, env=env, cwd=tmp_path).returncode in (64, 66)
    assert run_cli([args[0], "--help"], env=env).returncode == 0


def test_postgres_is_backed_up_by_its_own_tools(run_cli, tmp_path):
    env = {"DATA_DIR": tmp_path / "data", "DATABASE_URL": "postgresql://u:hidden-word@h/d"}
    done = run_cli(["backup", tmp_path / "x"], env=env)
    assert done.returncode == 1
    assert "pg_dump" in done.stderr.decode() and "hidden-word" not in done.stderr.decode()
