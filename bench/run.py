"""Measures WasmWiz on this machine, side by side with nginx, and says which targets it meets.

usage: python3 bench/run.py [--quick] [--only a,b] [--build FOLDER] [--docs] [--patience MINUTES]

The tables go to stdout, everything behind them to FOLDER/bench.json. `make bench` builds what is needed before.
A missed target is told and is no failure."""

import argparse
import datetime
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report
from common import BUSY_CORES, ROOT, Bench
from cost import cost
from front import front
from machine import describe
from phases import PHASES as INSIDE
from servers import BenchError, run

PHASES = INSIDE | {"g": front, "h": cost}
DOCS = ROOT / "docs" / "benchmarks.md"


def options():
    parser = argparse.ArgumentParser(
        description="Measures WasmWiz side by side with nginx."
    )
    parser.add_argument(
        "--quick", action="store_true", help="short loads, to try it out"
    )
    parser.add_argument(
        "--only", default=",".join(PHASES), help="some of the measurements: a,b,c,d,e,f,g,h"
    )
    parser.add_argument(
        "--build", type=Path, default=ROOT / "build", help="the build folder"
    )
    parser.add_argument(
        "--docs",
        action="store_true",
        help="bring the figures of docs/benchmarks.md up to date",
    )
    parser.add_argument("--patience", type=float, default=0, metavar="MINUTES",
                        help="measure what others disturb again, and wait for them, so long in all")  # fmt: skip
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",")
    for letter in chosen.only:
        if letter not in PHASES:
            parser.error(f"--only: {letter!r} is none of {', '.join(PHASES)}")
    if chosen.docs and (chosen.quick or len(chosen.only) < len(PHASES)):
        parser.error("--docs wants all measurements at full length")
    return chosen


def versions(program):
    """What was measured, with what."""

    def first_line(*command):
        shown = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return shown.stdout.splitlines()[0]

    nginx = re.search(r"nginx/([\d.]+)", first_line("nginx", "-v"))
    load = re.search(r"\d[\d.]*", first_line("wrk", "-v"))
    return [first_line(program, "version"), f"nginx {nginx[0][6:]}", f"wrk {load[0]}"]


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(chosen):
    """The tables by letter, and how many cores others used during each sample."""
    program = chosen.build / "wasmwiz"
    if not program.exists():
        raise BenchError(f"{program} is missing: run `make build`")
    run(["cmake", "--build", chosen.build, "--target", "run_cost", "parked", "handshakes", "key_check"])
    tables, others_cores = {}, {}
    with tempfile.TemporaryDirectory(prefix="wasmwiz-bench-") as folder:
        bench = Bench(
            program,
            chosen.build,
            Path(folder),
            chosen.quick,
            time.monotonic() + 60 * chosen.patience,
        )
        for letter in chosen.only:
            say(f"({letter}) {PHASES[letter].__doc__}")
            bench.others_cores = []
            tables[letter] = PHASES[letter](bench)
            others_cores[letter] = bench.others_cores
            print(report.as_text(letter, tables[letter]), flush=True)
            busy = [cores for cores in bench.others_cores if cores > BUSY_CORES]
            if busy:
                say(f"    others disturbed {len(busy)} of {len(bench.others_cores)} samples with up to {max(busy)} cores: "
                    "measure again when the machine is idle, or with --patience\n")  # fmt: skip
    return tables, others_cores


def main():
    chosen = options()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that everything is stopped and removed
    try:
        tables, others_cores = measure(chosen)
    except (BenchError, OSError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "versions": versions(chosen.build / "wasmwiz"),
        "quick": chosen.quick,
        "others_cores": others_cores,
    }
    result = about | {
        "tables": {letter: report.as_json(table) for letter, table in tables.items()}
    }
    where = chosen.build / "bench.json"
    where.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if chosen.docs:
        report.write_docs(DOCS, about, tables)
    print(report.machine_line(about))
    missed = [
        f"({letter}) {row.name}"
        for letter, table in tables.items()
        for row in table.rows
        if not row.is_met
    ]
    print("Missed targets: " + "; ".join(missed) if missed else "All targets are met.")
    print(f"Everything behind these figures: {where}")


if __name__ == "__main__":
    main()
