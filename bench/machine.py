"""What this machine is, how busy it is, and what processes use: all out of /proc."""

import os
import platform
import re
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def describe():
    """What decides how the figures compare with those of another machine; nothing that names this one."""
    cpuinfo = Path("/proc/cpuinfo").read_text()

    def field(name):
        found = re.search(rf"^{name}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
        return found[1] if found else ""

    model = field("model name") or platform.machine()
    family = field("cpu family")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model + (f" (family {family})" if family else ""),
        "memory_gb": round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") / 1e9
        ),
        "kernel": platform.system() + " " + ".".join(platform.release().split(".")[:2]),
        "virtual": bool(re.search(r"\bhypervisor\b", field("flags"))),
    }


# --- processes ----------------------------------------------------------------------------------


def _read(pid, name):
    """A file of /proc/PID, empty where the process is gone or may not be looked at."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _stat(pid):
    """The fields of /proc/PID/stat behind the name, the state first; empty where the process is gone."""
    text = _read(pid, "stat")
    return text[text.rindex(")") + 2 :].split() if text else []


def descendants(pid):
    """The processes below `pid`, in no order."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(entry)) and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, look = [], [pid]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def cpu_seconds(pid):
    """User and system time of a process, all its threads; 0 where it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0


class TreeCpu:
    """Processor time that a process and those below it use from here on. One that ends meanwhile is left out."""

    def __init__(self, pid):
        self._before = {each: cpu_seconds(each) for each in [pid, *descendants(pid)]}
        self._root = pid

    def seconds(self):
        total = 0
        for pid in [self._root, *descendants(self._root)]:
            now = cpu_seconds(pid)
            total += max(0, now - self._before.get(pid, 0))
        return total


def command_line(pid):
    return _read(pid, "cmdline").split("\0")[:-1]


def memory_bytes(pid):
    """(resident, proportional): the second counts a page shared by n processes as 1/n; None where unreadable."""
    resident = re.search(r"^VmRSS:\s+(\d+) kB", _read(pid, "status"), re.MULTILINE)
    proportional = re.search(
        r"^Pss:\s+(\d+) kB", _read(pid, "smaps_rollup"), re.MULTILINE
    )
    return tuple(
        int(found[1]) * 1024 if found else None for found in (resident, proportional)
    )


# --- others -------------------------------------------------------------------------------------


def _machine_cpu():
    """(used, stolen by other virtual machines) seconds of all cores since the start."""
    fields = [
        int(field)
        for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    ]
    user, nice, system, _idle, _wait, irq, softirq, stolen = fields[:8]
    return (user + nice + system + irq + softirq) / TICKS, stolen / TICKS


def _own_cpu():
    """Seconds of this process, of its children that ended, and of those that run."""
    ours = os.times()
    total = ours.user + ours.system + ours.children_user + ours.children_system
    for pid in descendants(os.getpid()):
        if fields := _stat(pid):
            total += sum(int(field) for field in fields[11:15]) / TICKS
    return total


class Others:
    """How many cores' worth everybody else used since this was made. About right: to tell a busy machine."""

    def __init__(self):
        self._start = time.monotonic(), _machine_cpu(), _own_cpu()

    def cores(self):
        start, (used, stolen), own = self._start
        used_now, stolen_now = _machine_cpu()
        others = used_now - used - (_own_cpu() - own) + stolen_now - stolen
        return max(0.0, others / max(time.monotonic() - start, 0.001))


def cores_of_others(seconds):
    """How busy they are just now."""
    others = Others()
    time.sleep(seconds)
    return others.cores()
