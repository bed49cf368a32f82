"""The walls around a sandbox: from inside, everything that it may not do is refused by a wall and not by
chance; from outside, the kernel confirms what the process has given up."""

import os
import re

import malformed
import pytest
from support import (
    Crowd,
    raw_request,
    role_processes,
    status_field,
    wait_until,
    working_compiler,
)

PROBES = {"open", "socket", "fork", "exec", "ptrace", "kill", "process_vm_readv", "parent_mem"}
# What a wall answers. EFAULT or ESRCH, say, would mean that the attempt got through and failed by luck.
BY_A_WALL = {"EPERM", "EACCES", "ENOSYS"}


def test_every_attempt_from_inside_is_refused(run_cli):
    done = run_cli(["sandbox", "--probe"])
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("probe ")]
    tried = set()
    for line in lines:
        _, name, verdict, errno = line.split()
        tried.add(name)
        assert verdict == "refused", line
        assert errno.strip("()") in BY_A_WALL, line
    assert tried >= PROBES
    assert done.returncode == 0, done.stderr


@pytest.fixture
def sandboxes(server):
    """The sandboxes of the server, once they are ready for work."""

    def ready():
        pids = role_processes(server, "sandbox")
        return pids if all(status_field(pid, "Seccomp") == "2" for pid in pids) else None

    return wait_until(ready, "the server has sandboxes behind seccomp")


def test_sandboxes_have_given_up_privileges(sandboxes):
    for pid in sandboxes:
        assert status_field(pid, "NoNewPrivs") == "1"
        assert status_field(pid, "Seccomp") == "2"


def test_every_thread_is_behind_the_filter(sandboxes):
    for pid in sandboxes:
        for thread in os.listdir(f"/proc/{pid}/task"):
            assert status_field(f"{pid}/task/{thread}", "Seccomp") == "2"


def test_compiler_has_given_up_privileges(server, key):
    # It takes some seconds to compile this, so the process can be looked at.
    request = raw_request(server, key, malformed.unique(malformed.loops_and_locals(300, 300), os.urandom(8).hex()))
    with Crowd(server, [request]):
        pid = working_compiler(server)
        assert status_field(pid, "Seccomp") == "2"
        assert status_field(pid, "NoNewPrivs") == "1"


def look(action):
    """What only root may look at in a process that has closed itself; without that right, the wall is seen
    by the refusal alone."""
    try:
        return action()
    except PermissionError:
        pytest.skip("the kernel refuses the look itself: run as root to see more")


def test_environment_is_empty(sandboxes):
    for pid in sandboxes:
        with look(lambda p=pid: open(f"/proc/{p}/environ", "rb")) as environment:
            assert look(environment.read).strip(b"\0") == b""


def test_no_core_file(sandboxes):
    for pid in sandboxes:
        with look(lambda p=pid: open(f"/proc/{p}/limits")) as limits:
            assert re.search(r"^Max core file size\s+0\s+0\s", limits.read(), re.MULTILINE)


def descriptors(pid):
    """{number: what it is} of a process."""
    folder = f"/proc/{pid}/fd"
    return {number: os.readlink(f"{folder}/{number}") for number in look(lambda: os.listdir(folder))}


def internet_sockets(pid):
    """The inodes of all sockets that are not local ones, in the process's network namespace."""
    found = set()
    for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "netlink"):
        try:
            with open(f"/proc/{pid}/net/{kind}") as table:
                lines = table.read().splitlines()
        except FileNotFoundError:
            continue
        column = {"packet": 8, "netlink": 9}.get(kind, 9)
        found.update(line.split()[column] for line in lines[1:] if len(line.split()) > column)
    return found


def test_descriptors_are_only_its_own(server, sandboxes):
    data = os.path.realpath(server.data_dir)
    for pid in sandboxes:
        outside = internet_sockets(pid)
        for number, target in descriptors(pid).items():
            socket = re.fullmatch(r"socket:\[(\d+)\]", target)
            if socket:
                assert socket[1] not in outside, f"descriptor {number} reaches the network"
            else:
                # the compiled code of a module stays mapped from its file, which it can only read
                if target.startswith(os.path.join(data, "cache")):
                    flags = re.search(r"flags:\s+(\d+)", open(f"/proc/{pid}/fdinfo/{number}").read())
                    assert int(flags[1], 8) & os.O_ACCMODE == os.O_RDONLY, f"descriptor {number} can write {target}"
                    continue
                assert not target.startswith(data), f"descriptor {number} is {target}"
                assert number == "2" or target.startswith(("anon_inode:", "pipe:", "/memfd:", "/dev/null")), (
                    f"descriptor {number} is {target}"
                )
