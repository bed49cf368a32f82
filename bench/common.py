"""What the measurements share: tables and their figures, samples that others did not disturb, the loads that
several of them use."""

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from client import FORM_TYPE, Connection, form
from load import wrk
from machine import Others, TreeCpu, cores_of_others
from servers import BenchError, Nginx, WasmWiz

ROOT = Path(__file__).resolve().parent.parent
GUESTS = ROOT / "tests" / "guests" / "out"
INPUT = b"x" * 1024
BUSY_CORES = 0.3  # used by others: from here on a sample is not to be trusted
CALM_SECONDS = 1
ROUNDS = 3


@dataclass
class Figure:
    """A value measured in several rounds."""

    rounds: list[float]

    @property
    def median(self):
        return statistics.median(self.rounds)


@dataclass
class Row:
    name: str
    cells: list  # Figure or text, one a column
    at_most: float | None = None  # what the last cell may be
    target: str = ""  # the same in words
    at_least: float | None = None  # what the last cell has to be

    @property
    def is_aimed(self):
        return self.at_most is not None or self.at_least is not None

    @property
    def is_met(self):
        value = self.cells[-1].median if self.is_aimed else None
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Bench:
    """What the phases share. `folder` is theirs alone; each server gets a new folder in it."""

    program: Path
    build: Path
    folder: Path
    quick: bool
    give_up: float  # monotonic time until which disturbed samples are measured again
    others_cores: list[float] = field(
        default_factory=list
    )  # used by others during each sample since last cleared
    _made: int = 0

    def sample(self, measure):
        """What `measure()` returns, measured again while others disturb it and patience lasts."""
        while True:
            while (
                time.monotonic() < self.give_up
                and cores_of_others(CALM_SECONDS) > BUSY_CORES
            ):
                pass
            others = Others()
            result = measure()
            cores = others.cores()
            if cores <= BUSY_CORES or time.monotonic() >= self.give_up:
                self.others_cores.append(round(cores, 2))
                return result

    def seconds(self, full):
        """How long a load lasts."""
        return 1 if self.quick else full

    def new_folder(self):
        self._made += 1
        return self.folder / f"server-{self._made}"

    def wasmwiz(self, **settings):
        return WasmWiz(self.new_folder(), self.program, **settings)

    def nginx(self):
        return Nginx(self.new_folder())


def guest(name):
    path = GUESTS / f"{name}.wasm"
    if not path.exists():
        raise BenchError(f"{path} is missing: run `make guests`")
    return path


def need(reply, cause, compile_source=None):
    """The receipt of a reply that has to be like this."""
    receipt = reply.json().get("receipt") or {}
    if receipt.get("cause") != cause or compile_source not in (
        None,
        receipt["compile"],
    ):
        raise BenchError(
            f"wanted a run with {cause} {compile_source or ''}, got {reply.status} {reply.body[:600]!r}"
        )
    return receipt


def load_execute(bench, server, connections, seconds, body=None):
    """POST /execute of the 1 KB module that echoes 1 KB."""
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": FORM_TYPE}
    return wrk(bench.folder, server.port, path="/execute", connections=connections, seconds=seconds,
               body=body or echo_form(), headers=headers)  # fmt: skip


def echo_form():
    return form(guest("c_echo").read_bytes(), INPUT)


def check_echo(server):
    """The answer that will be counted, looked at once."""
    with Connection(server.port) as connection:
        reply = connection.execute(server.key, echo_form())
        need(reply, "ok")
        if reply.json()["output"].encode() != INPUT:
            raise BenchError(f"the echo is not the input: {reply.body[:600]!r}")


def load_and_cpu(server, load, seconds):
    """The load, and the server's microseconds of processor time for each request of it."""
    cpu = TreeCpu(server.pid)
    result = load(seconds)
    return result, cpu.seconds() / result.requests * 1e6
