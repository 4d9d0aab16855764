"""A machine of namespaces with a real systemd as its init: it boots in a second or two, keeps its disk over reboots,
and can have its power cut.

    machine = Machine(folder)
    machine.install(build_folder)
    machine.boot()
    machine.run("systemctl", "is-system-running")
    machine.reboot(); machine.cut_power(); machine.boot()

/usr is that of the machine the tests run on (read-only), /etc and /var are its own, /usr/local has what was installed.
The network namespace is the caller's: enter_own_network() first, and a port of the machine is a port of the test.
"""

import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys

from supervisor import wait_for

SYSTEMD = "/usr/lib/systemd/systemd"
BOOT = pathlib.Path(__file__).parent.parent / "handoff/systemd/boot.sh"
NAMESPACES = ("--mount", "--pid", "--cgroup", "--ipc", "--uts")
COMMAND_LIMIT_S = 120
SKIPPED = 77  # for ctest
# They belong to the hardware of the machine below.
MASKED = ("modprobe@.service", "dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
          "sys-fs-fuse-connections.mount", "systemd-udevd.service", "systemd-udev-trigger.service",
          "systemd-timesyncd.service", "systemd-networkd.service", "systemd-resolved.service", "getty.target")
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def enter_own_network():
    """Goes on as a process with a network and mounts of its own. Does not return in the process that calls first."""
    if os.geteuid() != 0 or not os.path.exists(SYSTEMD):
        skip("a machine with systemd needs root and the package systemd")
    if "UPDAGENT_OWN_NETWORK" in os.environ:
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        return
    tried = subprocess.run(["unshare", "--net", *NAMESPACES, "--fork", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        skip(f"namespaces can't be had here: {tried.stderr.strip()}")
    os.environ["UPDAGENT_OWN_NETWORK"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv])


def cgroup_mount(folder):
    """Where the version 2 tree is; mounted below `folder` if it is nowhere."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    where = folder / "cgroup"
    where.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", where], check=True)
    return where


class Result:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __str__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Machine:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.root = self.folder / "root"
        for name in ("usr", "usr-local", "etc/systemd/system", "var/lib", "var/tmp", "var/log/journal", "proc", "sys",
                     "dev", "run", "tmp", "root"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        self.write_etc()
        self.cgroup = cgroup_mount(self.folder) / f"updagent-machine-{os.getpid()}-{self.folder.name}"
        self.launcher = None
        self.init = None

    def write_etc(self):
        etc = self.root / "etc"
        for name in ("passwd", "group"):
            shutil.copy(f"/etc/{name}", etc / name)
        shutil.copy("/etc/ld.so.cache", etc / "ld.so.cache")
        (etc / "os-release").symlink_to("../usr/lib/os-release")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\n")
        (etc / "machine-id").write_text(os.urandom(16).hex() + "\n")
        (etc / "systemd/system/default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
        for unit in MASKED:
            (etc / "systemd/system" / unit).symlink_to("/dev/null")

    def install(self, build):
        """As a package would: each file is replaced by a new one."""
        subprocess.run(["cmake", "--install", build, "--prefix", self.folder / "new"], check=True,
                       stdout=subprocess.DEVNULL)
        for path in sorted((self.folder / "new").rglob("*")):
            target = self.root / "usr-local" / path.relative_to(self.folder / "new")
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                shutil.copy2(path, f"{target}.new")
                os.replace(f"{target}.new", target)

    def boot(self):
        self.cgroup.mkdir(exist_ok=True)
        words = ["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", str(BOOT), str(self.root)]
        with open(self.folder / "boot.log", "w") as log:
            self.launcher = subprocess.Popen(["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.cgroup, *words],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.find_init, "the machine's init")
        wait_for(lambda: self.run("systemctl", "is-system-running", "--wait").out.strip() in ("running", "degraded"),
                 "the end of the boot")

    def find_init(self):
        if self.launcher.poll() is not None:
            raise AssertionError(f"the machine did not boot: {(self.folder / 'boot.log').read_text()}")
        children = pathlib.Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children").read_text().split()
        self.init = int(children[0]) if children else None
        return self.init and pathlib.Path(f"/proc/{self.init}/comm").read_text().strip() == "systemd"

    def run(self, *words, env=None):
        done = subprocess.run(["nsenter", "-t", str(self.init), "--mount", "--pid", "--cgroup", "--ipc", "--uts",
                               "env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin", "ASAN_OPTIONS=detect_leaks=0:report_globals=0",
                               *[f"{name}={value}" for name, value in (env or {}).items()], *map(str, words)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=COMMAND_LIMIT_S)
        return Result(done)

    def popen(self, *words, env=None):
        """As run(), without waiting; the descriptors of its output are not kept."""
        return subprocess.Popen(["nsenter", "-t", str(self.init), "--mount", "--pid", "--cgroup", "--ipc", "--uts",
                                 "env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin", "ASAN_OPTIONS=detect_leaks=0:report_globals=0",
                                 *[f"{name}={value}" for name, value in (env or {}).items()], *map(str, words)],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def path(self, inside):
        """Of a file of the running machine, as the test can open it."""
        return pathlib.Path(f"/proc/{self.init}/root") / str(inside).lstrip("/")

    def ended(self):
        self.launcher.wait(timeout=COMMAND_LIMIT_S)
        self.init = None

    def power_off(self):
        self.run("systemctl", "poweroff")
        self.ended()

    def reboot(self):
        self.run("systemctl", "reboot")
        self.ended()
        self.boot()

    def cut_power(self):
        os.kill(self.init, signal.SIGKILL)
        self.ended()

    def close(self):
        if self.launcher is not None and self.launcher.poll() is None:
            self.cut_power()
        if self.cgroup.exists():
            wait_for(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text(), "the last process")
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                os.rmdir(folder)
