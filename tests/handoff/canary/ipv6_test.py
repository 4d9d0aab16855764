"""A share of clients, where clients have IPv6 addresses: a /64 is one of them."""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import unittest

import binomial
import canary
import harness

CLIENTS = 100  # networks; enough that half of them is no accident
STEP = 50
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
IPV6_FREEBIND = 78


def enter_own_network():
    """Goes on as the same program in a network of its own, in which every address of a documentation prefix is ours."""
    if "UPDAGENT_TEST_NETNS" not in os.environ:
        os.environ["UPDAGENT_TEST_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    subprocess.run(["ip", "-6", "route", "add", "local", "2001:db8::/32", "dev", "lo"], check=True)


class ByNetwork(canary.Case):
    listen_host = "[::1]"

    @classmethod
    def http_probe(cls):
        return super().http_probe().replace("127.0.0.1", "[::1]")

    def version_for(self, source):
        with socket.socket(socket.AF_INET6) as client:
            client.settimeout(harness.COMMAND_LIMIT_S)
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)  # the route is enough
            client.bind((source, 0))
            client.connect(("::1", self.port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with client.makefile("rb") as stream:
                return json.loads(stream.read().partition(b"\r\n\r\n")[2])["version"]

    def test_the_clients_of_one_network_go_one_way(self):
        artifact = self.release(rollout={"steps": [STEP, 100], "step_duration": "300ms", "affinity": "client"})
        driver = self.apply_stopped_at(artifact, f"deploy.step.{STEP}")
        self.pause_here(driver)
        went = [{self.version_for(f"2001:db8:{network:x}::{host}") for host in ("1", "2", "dead:beef:1:2")}
                for network in range(1, CLIENTS + 1)]
        self.assertEqual([ways for ways in went if len(ways) != 1], [])
        binomial.assert_share(self, sum(ways == {self.newest} for ways in went), CLIENTS, STEP / 100,
                              "networks of the candidate")
        self.deployment("resume")
        self.assert_committed(driver.end(), self.newest)


if __name__ == "__main__":
    enter_own_network()
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
