# SPDX-License-Identifier: Apache-2.0
"""The hosts to measure, and the work."""

import json
import os
import re
import subprocess

from tests.system import undo, waiting
from tests.system.host import TRIRUN, Host

NGINX = """daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0};
server {{ listen {1}:8080 backlog=4096; location / {{ return 200 "ok"; }} }} }}
"""
# One connection after the other. Microseconds from connect to close.
CONNECT = """import socket, time
taken = []
for _ in range({count}):
    began = time.perf_counter_ns()
    with socket.create_connection(("{address}", 8080)) as opened:
        taken.append(time.perf_counter_ns() - began)
taken.sort()
print(taken[len(taken) // 2] / 1000, taken[len(taken) * 99 // 100] / 1000)
"""
# Datagrams to itself and back.
UDP = """import socket, time
a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0)); a.connect(b.getsockname()); b.connect(a.getsockname())
began, count = time.monotonic(), 0
while time.monotonic() - began < {seconds}:
    for _ in range(100):
        a.send(b"x"); b.recv(1); b.send(b"x"); a.recv(1)
    count += 100
print(count / (time.monotonic() - began))
"""


# The same, to another process that echoes them.
UDP_ECHO = """import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{address}", 8081))
while True:
    data, peer = s.recvfrom(16)
    s.sendto(data, peer)
"""
UDP_ASK = """import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("{address}", 8081)); s.settimeout(10)
began, count = time.monotonic(), 0
while time.monotonic() - began < {seconds}:
    for _ in range(100):
        s.send(b"x"); s.recv(1)
    count += 100
print(count / (time.monotonic() - began))
"""
WORKLOAD = (TRIRUN, "--label", "app=bench", "--")
HERE, THERE = "10.98.0.1", "10.98.0.2"
PYTHON = "/usr/bin/python3"


def start_nginx(directory, address, popen):
    """Starts nginx and waits until it answers."""
    os.chmod(directory, 0o777)
    place = f"{directory}/nginx-{address}"
    os.mkdir(place)
    os.chmod(place, 0o777)
    with open(place + "/nginx.conf", "w", encoding="utf-8") as file:
        file.write(NGINX.format(place, address))
    server = popen(["nginx", "-c", place + "/nginx.conf"])
    fetch = ["curl", "-s", f"http://{address}:8080"]

    def answers():
        with popen(fetch, stdout=subprocess.PIPE, text=True) as asking:
            return asking.communicate()[0] == "ok"

    waiting.until(answers, "nginx answers", 60)
    return server


def connections(run, address, seconds):
    """Connections per second, with one request each."""
    options = ["-t1", "-c32", f"-d{seconds}s", "-H", "Connection: close"]
    output = run(["wrk", *options, f"http://{address}:8080/"])
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", output)[1])


def throughput(run, address, seconds):
    output = json.loads(run(["iperf3", "-c", address, "-t", str(seconds), "-J"]))
    return output["end"]["sum_received"]["bits_per_second"] / 1e9


class Variant:
    """A host, and how its work is started."""

    def __init__(self, name, wrapper=(), rules=None, daemon=False):
        self.name = name
        self.host = Host("", "", start=daemon)
        self.wrapper = list(wrapper)
        self.servers = []
        try:
            self.serve(rules)
        except BaseException:
            self.close()
            raise

    def popen(self, argv, **options):
        return self.host.popen([*self.wrapper, *argv], **options)

    def serve(self, rules):
        if rules:
            self.host.nft(rules)
        self.servers = [
            start_nginx(self.host.undo.directory, "127.0.0.1", self.popen),
            self.popen(["iperf3", "-s", "-B", "127.0.0.1"], stdout=subprocess.DEVNULL),
        ]

    def run(self, argv):
        return self.host.run([*self.wrapper, *argv], timeout=120).stdout

    def measure(self, seconds):
        code = CONNECT.format(count=2000, address="127.0.0.1")
        result = {
            "connections/s": connections(self.run, "127.0.0.1", seconds),
            "Gbit/s": throughput(self.run, "127.0.0.1", seconds),
            "udp round trips/s": float(self.run([PYTHON, "-c", UDP.format(seconds=seconds)])),
        }
        p50, p99 = self.run([PYTHON, "-c", code]).split()
        return {**result, "connect p50 us": float(p50), "connect p99 us": float(p99)}

    def close(self):
        for server in self.servers:
            server.kill()
            server.wait()
        self.host.close()


class Linked(Variant):
    """Unlabeled processes on a host, and others in a network namespace behind a veth pair."""

    def serve(self, rules):
        made = self.host.undo
        self.peer = made.name("p")
        made.add("netns", self.peer)
        near, far = made.name("v"), made.name("v")
        ends = ((self.host.netns, near, HERE), (self.peer, far, THERE))
        for line in (
            f"netns add {self.peer}",
            f"link add {near} netns {self.host.netns} type veth peer name {far} netns {self.peer}",
            *(f"-n {netns} addr add {address}/24 dev {name}" for netns, name, address in ends),
            *(f"-n {netns} link set {name} up" for netns, name, _ in ends),
            f"-n {self.peer} link set lo up",
        ):
            subprocess.run(["ip", *line.split()], check=True)
        if rules:
            self.host.nft(rules)
        echo = [PYTHON, "-c", UDP_ECHO.format(address=THERE)]
        self.servers = [
            start_nginx(made.directory, HERE, self.popen),
            start_nginx(made.directory, THERE, self.popen_there),
            self.popen_there(["iperf3", "-s", "-B", THERE], stdout=subprocess.DEVNULL),
            self.popen_there(echo),
        ]

    def popen_there(self, argv, **options):
        entered = ["nsenter", f"--net=/run/netns/{self.peer}", *argv]
        return subprocess.Popen(entered, preexec_fn=undo.die_with_parent, **options)

    def run_there(self, argv):
        with self.popen_there(argv, stdout=subprocess.PIPE, text=True) as process:
            return process.communicate(timeout=120)[0]

    def measure(self, seconds):
        ask = UDP_ASK.format(address=THERE, seconds=seconds)
        return {
            "connections/s out": connections(self.run, THERE, seconds),
            "connections/s in": connections(self.run_there, HERE, seconds),
            "Gbit/s out": throughput(self.run, THERE, seconds),
            "udp round trips/s": float(self.run([PYTHON, "-c", ask])),
        }
