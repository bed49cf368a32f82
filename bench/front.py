"""The measurement (g): the front beside nginx, which does the same with the same settings."""

import contextlib
import os

from client import FORM_TYPE, Connection, form
from common import ROUNDS, Figure, Row, Table, guest, load_and_cpu, need
from front_servers import (
    PATH,
    UPLOAD_PATH,
    NginxFront,
    look,
    make_certificate,
    tls_terms,
)
from load import h2load, handshakes, wrk
from servers import BenchError

CONNECTIONS = 64
WARM_SECONDS = 2  # in one, a busy machine may not even get all TLS connections up
H2_CONNECTIONS, H2_STREAMS = 8, 16
HANDSHAKE_THREADS = 16
UPLOAD_BYTES, UPLOAD_CONNECTIONS = 5 * 1024 * 1024, 8
BUSY_SERVER = 0.9  # of its core; below, the load was the limit


class Case:
    """Something that both can do: load(port, seconds) loads ours, its twin nginx. What it has to reach: `rate`, ours
    in multiples of nginx's, and `cpu`, the same of the processor time; None: told, not judged."""

    def __init__(self, name, ours, nginx, load, load_nginx=None, rate=None, cpu=None):
        self.name, self.ours, self.nginx = name, ours, nginx
        self._loads = {ours: load, nginx: load_nginx or load}
        self.rate, self.cpu = rate, cpu
        self.got = {ours: [], nginx: []}

    def measure(self, bench, server, seconds):
        def load(s):
            return self._loads[server](server.port, s)

        self.got[server].append(bench.sample(lambda: load_and_cpu(server, load, seconds)))


def front(bench):
    """Connections, TLS, HTTP/2 and bodies beside nginx: one loop and one worker, on the same core."""
    own, others = split_cores()
    seconds = max(bench.seconds(5), WARM_SECONDS)
    with contextlib.ExitStack() as servers:
        cases = make_cases(bench, servers, own, others)
        for case in cases:
            for server in case.got:  # not counted: caches are filled, connections have been there
                case.measure(bench, server, WARM_SECONDS)
                case.got[server].clear()
        for _ in range(ROUNDS):
            for case in cases:
                for server in case.got:
                    case.measure(bench, server, seconds)
    return front_table(cases, own, others)


def split_cores():
    """(the server's core, the cores of the load); the same one where there is no other."""
    first, *rest = sorted(os.sched_getaffinity(0))
    return [first], rest or [first]


def make_cases(bench, servers, own, others):
    pair = make_certificate(bench.folder)
    one = {"LOOPS": 1, "SANDBOXES": 1, "MAX_INPUT_SIZE": 2 * UPLOAD_BYTES, "cpus": own}
    ours = servers.enter_context(bench.wasmwiz(**one))
    ours_tls = servers.enter_context(bench.wasmwiz(**one, TLS_CERT=pair[0], TLS_KEY=pair[1]))
    nginx = servers.enter_context(NginxFront(bench.new_folder(), look(ours.port, False), cpus=own))
    nginx_tls = servers.enter_context(NginxFront(bench.new_folder(), look(ours_tls.port, True), pair, cpus=own))
    terms = [tls_terms(server.port) for server in (ours_tls, nginx_tls)]
    if terms[0] != terms[1]:
        raise BenchError(f"the two agree on different TLS: {terms[0]} and {terms[1]}")

    def get(scheme):
        return lambda port, s: wrk(bench.folder, port, path=PATH, connections=CONNECTIONS, seconds=s, scheme=scheme,
                                   cpus=others)  # fmt: skip

    def greet(resumed):
        return lambda port, s: handshakes(bench.build / "handshakes", port, path=PATH, threads=HANDSHAKE_THREADS,
                                          seconds=s, resumed=resumed, cpus=others)  # fmt: skip

    def streams(port, s):
        return h2load(port, path=PATH, connections=H2_CONNECTIONS, streams=H2_STREAMS, seconds=s, cpus=others)

    upload, upload_nginx = make_uploads(bench, ours, others)
    return [
        Case("GET, keep-alive", ours, nginx, get("http"), rate=0.85, cpu=1.25),
        Case("GET over TLS, keep-alive", ours_tls, nginx_tls, get("https"), rate=0.85),
        Case("TLS handshakes, full", ours_tls, nginx_tls, greet(False), rate=0.85),
        Case("TLS handshakes, resumed", ours_tls, nginx_tls, greet(True), rate=0.85),
        Case("GET over HTTP/2 and TLS", ours_tls, nginx_tls, streams, rate=1.5),
        Case("5 MiB upload", ours, nginx, upload, upload_nginx),
    ]


def make_uploads(bench, ours, cpus):
    """The same body for both: a form with an input of 5 MiB. Ours gives it to a guest that ends without reading."""
    body = form(guest("exit_0").read_bytes(), b"x" * UPLOAD_BYTES)
    with Connection(ours.port) as connection:
        need(connection.execute(ours.key, body), "ok")

    def load(path, headers):
        return lambda port, s: wrk(bench.folder, port, path=path, connections=UPLOAD_CONNECTIONS, seconds=s, body=body,
                                   headers={"Content-Type": FORM_TYPE} | headers, cpus=cpus)  # fmt: skip

    return load("/execute", {"Authorization": f"Bearer {ours.key}"}), load(UPLOAD_PATH, {})


def front_table(cases, own, others):
    table = Table("The front beside nginx, one loop and one worker on one core",
                  ["", "wasmwiz", "nginx", "wasmwiz: cores used", "nginx: cores used", "wasmwiz ÷ nginx"])  # fmt: skip
    idle = []
    for case in cases:
        rates, costs, cores = (columns(case, pick) for pick in (pick_rate, pick_cost, pick_cores))
        ratio, cost_ratio = ratio_of(rates), ratio_of(costs)
        if max(figure.median for figure in cores) < BUSY_SERVER:
            idle.append(case.name)
        goal = {"at_least": case.rate, "target": f"≥ {case.rate}"} if case.rate else {}
        table.rows.append(Row(f"{case.name}: per second", [*rates, *cores, ratio], **goal))
        cpu = case.cpu or (case.rate and round(1 / case.rate, 2))
        goal = {"at_most": cpu, "target": f"≤ {cpu}"} if cpu else {}
        table.rows.append(Row(f"{case.name}: CPU µs each", [*costs, "", "", cost_ratio], **goal))
    shared = "the same core as the load" if own == others else "a core of its own, the load on the others"
    table.notes = [
        f"Both servers have {shared}; no access log; certificates with P-256, TLS 1.3 with the same cipher and group, one "
        "ticket a handshake. nginx replies with as many fields and the same body.",
    ]
    if idle:
        table.notes.append(
            f"Here neither server had its core full, so the load was the limit, and only the processor time tells them "
            f"apart: {'; '.join(idle)}."
        )
    return table


def columns(case, pick):
    return [Figure([pick(*sample) for sample in rounds]) for rounds in case.got.values()]


def pick_rate(load, _cpu_us):
    return load.rate


def pick_cost(_load, cpu_us):
    return cpu_us


def pick_cores(load, cpu_us):
    return load.rate * cpu_us / 1e6


def ratio_of(pair):
    ours, nginx = pair
    return Figure([one / other for one, other in zip(ours.rounds, nginx.rounds)])
