"""Counts what processes hold, before and after, so that a test sees what was left behind.

    before = census.take([supervisor], cgroups=["/sys/fs/cgroup/updagent"], folders=[root])
    ...                                           # a thousand handoffs
    after = census.take([supervisor], cgroups=["/sys/fs/cgroup/updagent"], folders=[root])
    census.assert_same(before, after, pss_slack_kib=512)

`pids` are processes that live through the test. Those that they start come and go: they are counted,
not named.
"""

import collections
import dataclasses
import os
import pathlib
import re

TCP_STATES = {1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
              7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV"}


@dataclasses.dataclass
class Census:
    descriptors: dict  # pid -> Counter of kinds, as kind_of()
    sockets: dict  # pid -> {inode: "tcp LISTEN 127.0.0.1:8080"}
    processes: int  # the pids and all their descendants
    cgroups: int  # directories
    files: int  # in the folders, directories too
    pss_kib: dict  # pid -> proportional set size

    def socket_counts(self, pid):
        """Inodes change with each handoff, and so do the numbers in the names of notify sockets; what they are does
        not."""
        return collections.Counter(re.sub(r"(?<=^unix - /proc/self/fd/)\d+(/\.notify\.)\d+", r"N\1N", what)
                                   for what in self.sockets[pid].values())


def descriptors(pid):
    """{descriptor: what it is} of a process, as /proc has it."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass  # closed since
    return found


def kind_of(target):
    """socket:[123] -> socket, /memfd:counter (deleted) -> memfd:counter, a path -> file"""
    if target.startswith("/memfd:"):
        return target[1:].removesuffix(" (deleted)")
    if target.startswith("/dev/"):
        return target
    if target.startswith("/"):
        return "file"
    return re.sub(r":\[\d+\]$", "", target)


def _address(text, v6):
    host, port = text.split(":")
    raw = bytes.fromhex(host)
    words = [raw[i:i + 4][::-1] for i in range(0, len(raw), 4)]
    if v6:
        import socket
        return f"[{socket.inet_ntop(socket.AF_INET6, b''.join(words))}]:{int(port, 16)}"
    return ".".join(map(str, words[0])) + f":{int(port, 16)}"


def sockets(pid="self"):
    """{inode: "tcp LISTEN 127.0.0.1:80"} of all tcp, udp and unix sockets in the process's network namespace.
    Established connections are named by their local address only."""
    found = {}
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        lines = pathlib.Path(f"/proc/{pid}/net/{protocol}").read_text().splitlines()[1:]
        for fields in map(str.split, lines):
            state = TCP_STATES.get(int(fields[3], 16), fields[3]) if protocol.startswith("tcp") else "-"
            found[int(fields[9])] = f"{protocol} {state} {_address(fields[1], protocol.endswith('6'))}"
    for fields in map(str.split, pathlib.Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]):
        listening = "LISTEN" if int(fields[3], 16) & 0x10000 else "-"
        found[int(fields[6])] = f"unix {listening} {fields[7] if len(fields) > 7 else ''}".rstrip()
    found.pop(0, None)  # TIME_WAIT and half-open ones belong to no process
    return found


def sockets_of(pid):
    """{inode: what} of the sockets that a process has open."""
    known = sockets(pid)
    held = {}
    for target in descriptors(pid).values():
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            held[int(match[1])] = known.get(int(match[1]), "other")
    return held


def holders(inode):
    """Pids that have the socket open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"socket:[{inode}]" in descriptors(pid).values():
                found.append(int(pid))
        except OSError:
            pass  # ended since, or not ours to look at
    return sorted(found)


def listeners(port):
    """{inode: [pids]} of the tcp sockets that listen on a port."""
    return {inode: holders(inode) for inode, what in sockets().items()
            if re.fullmatch(rf"tcp6? LISTEN .*:{port}", what)}


def descendants(pid):
    """The process and all that descend from it."""
    children = collections.defaultdict(list)
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = pathlib.Path(f"/proc/{name}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            children[int(parent)].append(int(name))
    found = [pid]
    for each in found:
        found += children[each]
    return found


def pss_kib(pid):
    """Its share of the memory that it uses; None for a kernel that doesn't say."""
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    except FileNotFoundError:
        return None
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])


def _count(folders, directories_only):
    total = 0
    for folder in folders:
        for _, directories, files in os.walk(folder):
            total += len(directories) + (0 if directories_only else len(files))
    return total


def take(pids, cgroups=(), folders=()):
    return Census(
        descriptors={pid: collections.Counter(map(kind_of, descriptors(pid).values())) for pid in pids},
        sockets={pid: sockets_of(pid) for pid in pids},
        processes=len(set().union(*map(descendants, pids))),
        cgroups=_count(cgroups, True),
        files=_count(folders, False),
        pss_kib={pid: pss_kib(pid) for pid in pids})


def differences(before, after, pss_slack_kib=0):
    """What there is more or less of, in words; memory only when it grew by more than the slack."""
    found = []
    for pid in before.descriptors:
        for what, counts in (("descriptors", lambda c: c.descriptors[pid]), ("sockets", lambda c: c.socket_counts(pid))):
            then, now = counts(before), counts(after)
            found += [f"pid {pid}: {what} '{kind}': {then[kind]} -> {now[kind]}"
                      for kind in sorted(then | now) if then[kind] != now[kind]]
        then, now = before.pss_kib[pid], after.pss_kib[pid]
        if then is not None and now > then + pss_slack_kib:
            found.append(f"pid {pid}: memory {then} -> {now} KiB")
    for what in ("processes", "cgroups", "files"):
        then, now = getattr(before, what), getattr(after, what)
        if then != now:
            found.append(f"{what}: {then} -> {now}")
    return found


def assert_same(before, after, pss_slack_kib=0):
    found = differences(before, after, pss_slack_kib)
    if found:
        raise AssertionError("left behind:\n  " + "\n  ".join(found))
