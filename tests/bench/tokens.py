#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tokens cost between two hosts, as ratios measured in one run, in turns: the same work bare,
with connection tracking alone (which every Docker host has), through trireme, and through a pair of
nginx proxies that speak TLS with client certificates, with and without session reuse.

    sudo python3 tests/bench/tokens.py [--rounds N] [--seconds S] [--only NAME ...] [--json]

Builds nothing: uses the programs in build/release, or in TRIREME_PRODUCTS. Takes about two minutes.
"""

import json
import os
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench import turns  # noqa: E402
from tests.system import fleet, undo, waiting  # noqa: E402
from tests.system.host import TRIRUN  # noqa: E402

SERVER = "10.98.0.2"
TICKS = os.sysconf("SC_CLK_TCK")
HEAD = """daemon off; master_process off; pid {0}/{1}.pid; error_log stderr crit;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 4096; }}
"""
WEB = (
    HEAD
    + """http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0};
server {{ listen 8080 backlog=4096; location / {{ return 200 "ok"; }} }} }}
"""
)
# The proxies: plain on the client's loopback, TLS between the hosts, plain again at the server. TLS
# 1.2, because nginx 1.22 does not resume sessions with 1.3 here.
OUTWARD = (
    HEAD
    + """stream {{ proxy_ssl on; proxy_ssl_protocols TLSv1.2; proxy_ssl_certificate {0}/tls.pem; proxy_ssl_certificate_key {0}/tls.key; proxy_ssl_verify on;
proxy_ssl_trusted_certificate {0}/tls.pem; proxy_ssl_name bench; proxy_ssl_session_reuse {reuse};
server {{ listen 127.0.0.1:9080 backlog=4096; proxy_pass {server}:9443; }} server {{ listen 127.0.0.1:5201; proxy_pass {server}:9444; }} }}
"""
)
INWARD = (
    HEAD
    + """stream {{ ssl_certificate {0}/tls.pem; ssl_certificate_key {0}/tls.key; ssl_verify_client on; ssl_client_certificate {0}/tls.pem;
ssl_session_cache {cache}; ssl_session_tickets {tickets};
server {{ listen 9443 ssl backlog=4096; proxy_pass 127.0.0.1:8080; }} server {{ listen 9444 ssl; proxy_pass 127.0.0.1:5201; }} }}
"""
)
# One connection after the other. Prints microseconds until connect() returns, and until the first
# byte of the answer.
REQUESTS = """import socket, sys, time
connected, answered = [], []
for _ in range(int(sys.argv[3])):
    began = time.perf_counter_ns()
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as opened:
        connected.append(time.perf_counter_ns() - began)
        opened.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        opened.recv(1)
        answered.append(time.perf_counter_ns() - began)
        while opened.recv(4096):
            pass
for taken in (connected, answered):
    taken.sort()
    print(taken[len(taken) // 2] / 1000, taken[len(taken) * 99 // 100] / 1000)
"""


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


class Variant:
    """Two hosts, the work between them, and the processes that carry it."""

    def __init__(self, name, trust=fleet.bare, tls=None, rules=""):
        self.name = name
        self.tls = tls
        self.fleet = fleet.Fleet(("client", "server"), trust, start=trust is not fleet.bare)
        self.client, self.server = self.fleet["client"], self.fleet["server"]
        if rules:
            for each in (self.client, self.server):
                each.nft(rules)
        self.daemons = [
            each.daemon for each in (self.client, self.server) if each.daemon is not None
        ]
        self.wrapper = [TRIRUN, "--label", "app=bench", "--"] if self.daemons else []
        self.target, self.port, self.iperf = (
            ("127.0.0.1", 9080, "127.0.0.1") if tls else (SERVER, 8080, SERVER)
        )
        self.processes, self.proxies = [], []
        try:
            self.serve()
        except BaseException:
            self.close()
            raise

    def serve(self):
        self.nginx(self.server, "web", WEB)
        self.processes.append(
            self.server.popen([*self.wrapper, "iperf3", "-s"], stdout=subprocess.DEVNULL)
        )
        if self.tls:
            for each in (self.client, self.server):
                self.certificate(each.undo.directory)
            full = self.tls == "full"
            self.proxies = [
                self.nginx(
                    self.client, "out", OUTWARD, reuse="off" if full else "on", server=SERVER
                ),
                self.nginx(
                    self.server,
                    "in",
                    INWARD,
                    cache="off" if full else "shared:S:10m",
                    tickets="off" if full else "on",
                ),
            ]
        waiting.until(
            lambda: self.run(["curl", "-s", f"http://{self.target}:{self.port}/"]) == "ok",
            f"nginx answers ({self.name})",
            20,
        )

    def certificate(self, directory):
        """Both proxies use a self-signed P-256 certificate, which makes a full handshake as cheap
        as possible."""
        shared = self.fleet.undo.directory
        if not os.path.exists(shared + "/tls.pem"):
            subprocess.run(
                [
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                    "-subj",
                    "/CN=bench",
                    "-addext",
                    "subjectAltName=DNS:bench",
                    "-days",
                    "2",
                    "-keyout",
                    shared + "/tls.key",
                    "-out",
                    shared + "/tls.pem",
                ],
                check=True,
                stderr=subprocess.DEVNULL,
            )
        for name in ("tls.pem", "tls.key"):
            subprocess.run(["install", "-m", "644", f"{shared}/{name}", directory], check=True)

    def nginx(self, each, name, text, **values):
        directory = each.undo.directory
        os.chmod(directory, 0o777)
        with open(f"{directory}/{name}.conf", "w", encoding="utf-8") as file:
            file.write(text.format(directory, name, **values))
        self.processes.append(
            each.popen([*self.wrapper, "nginx", "-c", f"{directory}/{name}.conf"])
        )
        return self.processes[-1]

    def run(self, argv):
        return self.client.run([*self.wrapper, *argv], timeout=120).stdout

    def carriers(self):
        return [each.pid for each in (*self.daemons, *self.proxies)]

    def measure(self, seconds):
        before = cpu_seconds(self.carriers())
        wrk = self.run(
            [
                "wrk",
                "-t1",
                "-c32",
                f"-d{seconds}s",
                "-H",
                "Connection: close",
                f"http://{self.target}:{self.port}/",
            ]
        )
        spent = cpu_seconds(self.carriers()) - before
        iperf = json.loads(self.run(["iperf3", "-c", self.iperf, "-t", str(seconds), "-J"]))
        connect, answer = self.run(
            ["/usr/bin/python3", "-c", REQUESTS, self.target, str(self.port), "1000"]
        ).splitlines()
        p50, p99 = map(float, connect.split())
        answer50, answer99 = map(float, answer.split())
        requests = int(re.search(r"(\d+) requests in", wrk)[1])
        return {
            "connections/s": float(re.search(r"Requests/sec:\s+([0-9.]+)", wrk)[1]),
            "Gbit/s": iperf["end"]["sum_received"]["bits_per_second"] / 1e9,
            "connect p50 us": p50,
            "connect p99 us": p99,
            "answer p50 us": answer50,
            "answer p99 us": answer99,
            "CPU s per 10,000": spent / requests * 10_000,
            "resident MB": max(map(resident, self.carriers()), default=0.0),
        }

    def cold(self):
        """Time until the first answer between daemons that have just started: the public-key
        operations of a new pair of hosts."""
        for each in (self.client, self.server):
            each.restart()
        self.daemons = [self.client.daemon, self.server.daemon]
        return float(
            self.run(["/usr/bin/python3", "-c", REQUESTS, self.target, str(self.port), "1"])
            .splitlines()[1]
            .split()[0]
        )

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.fleet.close()


VARIANTS = {
    "bare": {},
    "conntrack": {"rules": turns.CONNTRACK},
    "psk": {"trust": fleet.shared_secret},
    "x509": {"trust": fleet.certificates},
    "mtls": {"tls": "reuse"},
    "mtls full": {"tls": "full"},
}


def measure(names, rounds, seconds):
    with turns.made(
        [lambda name=name: Variant(name, **VARIANTS[name]) for name in names]
    ) as variants:
        results = turns.taken(variants, rounds, seconds)
        cold = {
            variant.name: statistics.median(variant.cold() for _ in range(rounds))
            for variant in variants
            if variant.daemons
        }
    return {
        "path": turns.medians(results),
        "ratios": ratios(results),
        "first answer of a pair us": cold,
    }


def ratios(results):
    """Ratios of what trireme carries to the alternatives."""
    ours = [name for name in ("psk", "x509") if name in results]
    others = [name for name in results if name not in ours]
    return {
        f"{key}, {name}": {other: turns.ratio(results, key, name, other) for other in others}
        for key in ("connections/s", "Gbit/s")
        for name in ours
    }


def main():
    options = turns.options(__doc__, list(VARIANTS), 2)
    undo.end_on_signals()
    result = measure(options.only, options.rounds, options.seconds)
    if options.json:
        print(json.dumps(result))
        return
    path = result["path"]
    print(f"{'':18}" + "".join(f"{name:>11}" for name in path))
    for key in next(iter(path.values())):
        print(f"{key:18}" + "".join(f"{values[key]:11,.1f}" for values in path.values()))
    for title, values in result["ratios"].items():
        print(
            f"{title}: " + ", ".join(f"{value:.2f} of {other}" for other, value in values.items())
        )
    print(
        "first answer of a pair, us: "
        + ", ".join(
            f"{name} {value:,.0f}" for name, value in result["first answer of a pair us"].items()
        )
    )


if __name__ == "__main__":
    main()
