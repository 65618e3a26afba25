#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What handshakes without tokens cost on one host: from the host's own network to a bridge
container, with and without trireme, in turns on one booted system with Docker, whose rules track
connections in both cases.

    sudo python3 tests/bench/one_host.py [--rounds N] [--seconds S] [--json]

Builds nothing: uses the programs in build/release, or in TRIREME_PRODUCTS. Takes about two minutes.
"""

import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench import turns  # noqa: E402
from tests.bench.tokens import REQUESTS  # noqa: E402
from tests.system import undo, waiting  # noqa: E402
from tests.system.lab import Lab  # noqa: E402

# The lab's own Python, in a container.
PYTHON = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /opt/bench:/bench:ro"
ECHO = """import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9000))
while True:
    data, peer = s.recvfrom(100)
    s.sendto(data, peer)
"""
# New flows one after the other, for this many seconds. Prints the answered flows per second.
FLOWS = """import socket, sys, time
began, count = time.monotonic(), 0
while time.monotonic() < began + float(sys.argv[2]):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        s.connect((sys.argv[1], 9000))
        s.send(b"x")
        s.recv(10)
        count += 1
print(count / (time.monotonic() - began))
"""


class Host:
    def __init__(self):
        self.lab = Lab()
        try:
            self.lab.start_docker()
            for name, text in (("echo", ECHO), ("flows", FLOWS), ("requests", REQUESTS)):
                self.lab.write(f"/opt/bench/{name}.py", text)
            self.lab.start_trireme()
            run = "docker run -d -l app=bench"
            web = self.lab.must(f"{run} nginx")
            echo = self.lab.must(f"{run} {PYTHON} busybox /usr/bin/python3 /bench/echo.py")
            self.containers = (web, echo)
            self.web, self.echo = map(self.address, self.containers)
        except BaseException:
            self.close()
            raise

    def address(self, container):
        shown = f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {container}"
        return self.lab.must(shown)

    def close(self):
        self.lab.close()


class Variant:
    """With or without trireme, on the same host."""

    def __init__(self, host, name):
        self.host, self.name = host, name
        self.wrapper = "trirun --label app=bench -- " if name == "trireme" else ""

    def close(self):
        pass

    def begin(self):
        lab = self.host.lab
        if self.wrapper:
            lab.start_trireme()
            for container in self.host.containers:
                lab.await_state(container, "enforced")
        else:
            lab.must("systemctl stop trireme && trirectl flush")
        # Forget the flows of the previous turn, whose ports are used again.
        lab.must("conntrack -F")
        for container in self.host.containers:
            pid = lab.must(f"docker inspect -f '{{{{.State.Pid}}}}' {container}")
            lab.must(f"nsenter -n -t {pid} conntrack -F")
        waiting.until(
            lambda: "nginx" in lab.sh(f"{self.wrapper}curl -s -m 2 http://{self.host.web}/").stdout,
            f"nginx answers ({self.name})",
        )

    def measure(self, seconds):
        self.begin()
        must = self.host.lab.must
        web, echo = self.host.web, self.host.echo
        wrk = must(f"{self.wrapper}wrk -t1 -c32 -d{seconds}s -H 'Connection: close' http://{web}/")
        connect, answer = must(
            f"{self.wrapper}/usr/bin/python3 /opt/bench/requests.py {web} 80 1000"
        ).splitlines()
        flows = must(f"{self.wrapper}/usr/bin/python3 /opt/bench/flows.py {echo} {seconds}")
        return {
            "connections/s": float(re.search(r"Requests/sec:\s+([0-9.]+)", wrk)[1]),
            "connect p50 us": float(connect.split()[0]),
            "answer p50 us": float(answer.split()[0]),
            "UDP flows/s": float(flows),
        }


def main():
    options = turns.options(__doc__, ["bare", "trireme"], 2)
    undo.end_on_signals()
    host = Host()
    try:
        with turns.made(
            [lambda name=name: Variant(host, name) for name in options.only]
        ) as variants:
            results = turns.taken(variants, options.rounds, options.seconds)
    finally:
        host.close()
    path = turns.medians(results)
    both = len(path) == 2
    ratios = {key: turns.ratio(results, key, "trireme", "bare") for key in path["bare"] if both}
    if options.json:
        print(json.dumps({"path": path, "ratios": ratios}))
        return
    print(f"{'':18}" + "".join(f"{name:>11}" for name in path) + f"{'ratio':>11}")
    for key in next(iter(path.values())):
        values = "".join(f"{values[key]:11,.1f}" for values in path.values())
        print(f"{key:18}{values}" + (f"{ratios[key]:11.2f}" if both else ""))


if __name__ == "__main__":
    main()
