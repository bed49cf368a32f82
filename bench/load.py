"""Loads, all closed loops of one thread: keep-alive connections by wrk, HTTP/2 by h2load, handshakes by a program of
our own."""

import json
import re
from dataclasses import dataclass

from servers import BenchError, on, run

SLACK_SECONDS = 60  # that a load may end late
SCRIPT = """
local file = BODY and assert(io.open(BODY, "rb"))
if file then wrk.method, wrk.body = "POST", file:read("*a") end
for name, value in pairs(HEADERS) do wrk.headers[name] = value end

function done(summary, latency)
  local e, counts = summary.errors, {}
  for i = 1, #latency do counts[i] = string.format("[%d,%d]", latency(i)) end
  io.write(string.format('\\nBENCH {"requests":%d,"us":%d,"errors":[%d,%d,%d,%d,%d],"latency":[%s]}\\n',
    summary.requests, summary.duration, e.connect, e.read, e.write, e.status, e.timeout, table.concat(counts, ",")))
end
"""


@dataclass
class Load:
    requests: int
    rate: float  # a second
    p50_ms: float
    p99_ms: float


def without_correction(counts, expected):
    """wrk adds what it thinks that slower senders would have seen ("coordinated omission"): for each latency of
    n >= 2 * expected microseconds one of n - expected, n - 2 * expected and so on, down to `expected`. In a closed
    loop nobody else was waiting, so this takes them out again, the highest first."""
    counts = dict(counts)
    for n in sorted(counts, reverse=True):
        if n < 2 * expected:
            break
        for m in range(n - expected, expected, -expected):
            counts[m] = counts.get(m, 0) - counts[n]
    return counts


def percentile_ms(counts, percent):
    """The smallest latency that at least so many percent of the requests do not exceed."""
    wanted = percent / 100 * sum(counts.values())
    seen = 0
    for n in sorted(counts):
        seen += counts[n]
        if seen >= wanted:
            return n / 1e3
    raise BenchError("no request was answered")


def wrk(folder, port, *, path="/", connections, seconds, body=None, headers=None, scheme="http", cpus=None):
    """Loads 127.0.0.1:port. `body` makes it POST. Every answer has to be a 2xx. `cpus`: the cores to run on."""
    lua_headers = ",".join(
        f"[{json.dumps(name)}]={json.dumps(value)}"
        for name, value in (headers or {}).items()
    )
    prefix = f"HEADERS = {{{lua_headers}}}\n"
    if body is not None:
        (folder / "wrk.body").write_bytes(body)
        prefix += f"BODY = {json.dumps(str(folder / 'wrk.body'))}\n"
    script = folder / "wrk.lua"
    script.write_text(prefix + SCRIPT)
    out = run([*on(cpus), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", script,
               f"{scheme}://127.0.0.1:{port}{path}"], timeout=seconds + SLACK_SECONDS)  # fmt: skip
    found = json.loads(out.partition("\nBENCH ")[2] or "null")
    if not found or any(found["errors"]) or not found["requests"]:
        raise BenchError(
            f"the load of port {port}{path} met errors; wrk says:\n{out.partition(chr(10) + 'BENCH ')[0]}"
        )
    requests, us = found["requests"], found["us"]
    counts = dict(map(tuple, found["latency"]))
    if sum(counts.values()) != requests:
        counts = without_correction(counts, us // (requests // connections))
    if sum(counts.values()) != requests:
        raise BenchError(
            "wrk's latencies are not one a request: this is not a wrk 4 as we know it"
        )
    return Load(
        requests,
        requests / (us / 1e6),
        percentile_ms(counts, 50),
        percentile_ms(counts, 99),
    )


@dataclass
class Count:
    """A load whose latencies nobody asks for."""

    requests: int
    rate: float


def h2load(port, *, path, connections, streams, seconds, cpus=None):
    """HTTP/2 over TLS, `streams` requests under way on each connection. Every answer has to be a 2xx."""
    out = run([*on(cpus), "h2load", "-t1", "-c", connections, "-m", streams, "-D", seconds,
               f"https://127.0.0.1:{port}{path}"], timeout=seconds + SLACK_SECONDS)  # fmt: skip
    found = re.search(
        r"requests: \d+ total, \d+ started, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout\n"
        r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx",
        out,
    )
    rate = re.search(r"^finished in [\d.]+m?s, ([\d.]+) req/s", out, re.MULTILINE)
    if not found or not rate or "Application protocol: h2" not in out:
        raise BenchError(f"h2load says something else than expected:\n{out}")
    done, failed, errored, timed_out, fine = map(int, found.groups())
    # What is under way when the time is up counts neither as done nor as failed.
    if not done or fine < done or failed or errored or timed_out:
        raise BenchError(f"the load of port {port}{path} met errors; h2load says:\n{out}")
    return Count(done, float(rate[1]))


def handshakes(program, port, *, path, threads, seconds, resumed, cpus=None):
    """A TLS 1.3 handshake for each request, resumed or full."""
    out = json.loads(run([*on(cpus), program, port, seconds, threads, "resumed" if resumed else "full", path]))
    if out["resumed"] != (out["handshakes"] if resumed else 0):
        raise BenchError(f"{out['resumed']} of {out['handshakes']} handshakes resumed a session, wanted {resumed=}")
    return Count(out["handshakes"], out["handshakes"] / (out["us"] / 1e6))
