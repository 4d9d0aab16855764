"""TCP clients that stop in the middle of the handshake, for as long as a test wants.

The kernel would end such a connection by itself, so these are made of raw packets: a veth pair in a network
namespace of the test's own, the server's address at one end, and at the other nobody but us.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import time

SERVER, CLIENT = "10.9.0.1", "10.9.0.2"
OUTSIDE, INSIDE = "veth-client", "veth-server"
SYN, ACK, PSH, RST = 2, 16, 8, 4
LIMIT_S = 60  # of each wait; far above what any needs


def enter_namespace():
    """Goes on as the same program in a network namespace of its own, with the pair set up."""
    if os.environ.get("UPDAGENT_TEST_NETNS") != "1":
        os.environ["UPDAGENT_TEST_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])
    for words in ("link set lo up", f"link add {INSIDE} type veth peer name {OUTSIDE}", f"addr add {SERVER}/24 dev {INSIDE}",
                  f"link set {INSIDE} up", f"link set {OUTSIDE} up"):
        subprocess.run(["ip", *words.split()], check=True)
    subprocess.run(["ip", "neigh", "add", CLIENT, "lladdr", _mac(OUTSIDE), "dev", INSIDE], check=True)


def _mac(name):
    said = subprocess.run(["ip", "-json", "link", "show", name], check=True, capture_output=True, text=True).stdout
    return json.loads(said)[0]["address"]  # /sys shows another namespace's


def _raw_mac(name):
    return bytes.fromhex(_mac(name).replace(":", ""))


def _checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    """The client's end of the pair."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.bind((OUTSIDE, 0x0800))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.settimeout(LIMIT_S)
        self.header = _raw_mac(INSIDE) + _raw_mac(OUTSIDE) + b"\x08\x00"

    def close(self):
        self.socket.close()

    def send(self, port, server_port, sequence, acknowledged, flags, data=b""):
        tcp = struct.pack("!HHIIBBHHH", port, server_port, sequence, acknowledged, 5 << 4, flags, 65_535, 0, 0) + data
        addresses = socket.inet_aton(CLIENT) + socket.inet_aton(SERVER)
        check = _checksum(addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp)) + tcp)
        tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0) + addresses
        ip = ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:]
        self.socket.send(self.header + ip + tcp)

    def receive(self):
        """(our port, sequence, acknowledged, flags, data) of the next packet to us."""
        while True:
            frame = self.socket.recv(1 << 17)[14:]
            if frame[9] != socket.IPPROTO_TCP or frame[16:20] != socket.inet_aton(CLIENT):
                continue
            length, = struct.unpack_from("!H", frame, 2)
            tcp = frame[(frame[0] & 15) * 4:length]
            _, port, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", tcp)
            return port, sequence, acknowledged, flags, tcp[(offset >> 4) * 4:]


class HalfOpen:
    """So many handshakes of which the last packet is missing."""

    START = 1_000  # our first sequence number
    next_port = 20_000  # never the same one twice: the server remembers for a while

    def __init__(self, server_port, count):
        self.server_port, self.wire = server_port, Wire()
        self.sequences = {}
        ports = range(self.next_port, self.next_port + count)
        HalfOpen.next_port += count
        for port in ports:
            self.wire.send(port, server_port, self.START, 0, SYN)
        while len(self.sequences) < count:
            port, sequence, _, flags, _ = self.wire.receive()
            if port not in ports:
                continue
            if flags & RST:
                raise AssertionError(f"the SYN from port {port} was answered by a reset")
            self.sequences[port] = sequence

    def close(self):
        self.wire.close()

    def finish(self, request):
        """The last packet of each, with a request; {port: the answer's bytes}. A reset is b"reset"."""
        answers = dict.fromkeys(self.sequences, b"")
        for port, sequence in self.sequences.items():
            self.wire.send(port, self.server_port, self.START + 1, sequence + 1, ACK | PSH, request)
        end = time.monotonic() + LIMIT_S
        while not all(b"\r\n\r\n" in a or a == b"reset" for a in answers.values()):
            if time.monotonic() > end:
                break
            port, _, _, flags, data = self.wire.receive()
            if port not in answers:
                continue  # of an earlier test: its server still waits for the end
            answers[port] = b"reset" if flags & RST and not answers[port] else answers[port] + data
        return answers


def handshakes(server_port):
    """How many the kernel waits for at this port."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return sum(row[3] == "03" and int(row[1].split(":")[1], 16) == server_port for row in rows)
