# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed at random moments of its starts and reloads, while workloads start, talk and
end. No denied attempt gets an answer, and after the last start everything works as before."""

import collections
import random
import signal
import sys
import threading
import time
import unittest

from tests.system import waiting
from tests.system.host import LONG, HostCase

KILLS = 50 if LONG else 4
OPEN = '[[allow]]\nfrom = "app=web"\nto = "app=db"\n'
# The same policy for these workloads, with so many rules that a reload takes a while.
LARGER = OPEN + "".join(
    f'[[allow]]\nfrom = "app=x{i}"\nto = "app=y{i}"\nports = ["tcp/{1000 + i}"]\n'
    for i in range(300)
)
PORT = 7900
ANSWERED = 9  # exit code
# A short-lived workload: it sends a request that policy denies, and serves.
SHORT_LIVED = f"""import socket, sys, time
end = time.monotonic() + 0.3
with socket.create_server(("127.0.0.1", {PORT}), reuse_port=True) as server:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 0.3) as client:
            client.sendall(b"ping")
            if client.recv(16):
                sys.exit({ANSWERED})
    except OSError:
        pass
    server.settimeout(0.3)
    try:
        while time.monotonic() < end:
            with server.accept()[0] as connection:
                connection.settimeout(0.3)
                connection.sendall(connection.recv(16))
    except OSError:
        pass
"""


class Launcher:
    """Launches short-lived workloads one after the other, whether the daemon runs or not."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self.codes = collections.Counter()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        command = [sys.executable, "-c", SHORT_LIVED, str(self.port)]
        while not self.ending.is_set():
            done = self.host.trirun("app=db", command, timeout=120)
            self.codes[done.returncode] += 1
            self.ending.wait(0.02)

    def end(self):
        self.ending.set()
        self.thread.join()
        return self.codes


class Killed(HostCase):
    POLICY = OPEN

    def setUp(self):
        super().setUp()
        host = self.host
        if host.daemon.poll() is not None:
            host.start()
        seed = random.randrange(1 << 32)
        self.random = random.Random(seed)
        self.web, self.db = host.labelled("app=web"), host.labelled("app=db")
        self.other, self.plain = host.labelled("app=other"), host.plain()
        self.ports = {kind: self.db.serve(kind, "127.0.0.1") for kind in ("tcp", "udp")}
        self.foreign = {kind: self.plain.serve(kind, "127.0.0.1") for kind in self.ports}
        for kind, port in self.ports.items():
            self.assert_allowed(self.web.open(kind, kind, "127.0.0.1"))
            self.assert_allowed(self.web.connect(kind, "127.0.0.1", port))
        host.stop()
        self.before = 0
        self.before = self.enforced()
        began = time.monotonic()
        host.spawn()
        waiting.until(lambda: self.enforced() == 1, "it enforces", 20)
        self.start_takes = time.monotonic() - began
        print(f"seed {seed}, a start takes {self.start_takes:.2f} s", flush=True)
        waiting.until(host.answers, "triremed answers", 20)

    def enforced(self):
        """How many times the daemon has begun to enforce since setUp()."""
        return self.host.log_text().count("enforcing: ") - self.before

    def moments(self, takes):
        """KILLS moments within that time plus 5 %, one in each of equal parts, in random order."""
        parts = list(range(KILLS))
        self.random.shuffle(parts)
        return [(part + self.random.random()) / KILLS * takes * 1.05 for part in parts]

    def probe_all(self):
        """{name: (client, ...)} of the probes. All are denied except the last."""
        probes = {}
        for kind, port in self.ports.items():
            for who in (self.other, self.plain):
                probes[f"{kind} {len(probes)}"] = (who, kind, port)
            probes[f"{kind} out"] = (self.web, kind, self.foreign[kind])
        probes["newcomers"] = (self.plain, "tcp", PORT)
        probes["allowed newcomers"] = (self.web, "tcp", PORT)
        for name, (who, kind, port) in probes.items():
            who.probe(name, kind, "127.0.0.1", port, timeout=0.5, apart=0.002)
        return {name: who for name, (who, _, _) in probes.items()}

    def assert_held(self, probes, launcher):
        """Checks everything after the last start."""
        outcomes = {
            name: who.probe_end(name, ok=1) if "allowed" in name else who.probe_end(name, failed=50)
            for name, who in probes.items()
        }
        codes = launcher.end()
        print(f"launches by exit code: {dict(codes)}", flush=True)
        self.assertLessEqual(set(codes), {0, 125}, "no answer and no error")
        self.assertGreater(codes[0], 0)
        self.assertGreater(outcomes.pop("allowed newcomers")["ok"], 0)
        for name, outcome in outcomes.items():
            self.assertEqual(outcome["ok"], 0, f"{name}: {outcome}")
            self.assertGreaterEqual(outcome["failed"], 50, name)
        for kind, port in self.ports.items():
            self.assert_allowed(self.web.exchange(kind, "127.0.0.1", port), kind)
            self.assert_allowed(self.web.send_text(kind, "still"), kind)
            self.assertEqual(self.web.receive(kind), {"text": "still"}, kind)
            for stranger in (self.other, self.plain):
                self.assert_refused(stranger.exchange(kind, "127.0.0.1", port), kind)
            self.assert_allowed(self.plain.exchange(kind, "127.0.0.1", self.foreign[kind]), kind)
        waiting.until(
            lambda: {each["labels"]["app"]: each["state"] for each in self.host.workloads()}
            == dict.fromkeys(("web", "db", "other"), "enforced"),
            "the running workloads are enforced, and no others are known",
        )

    def kill(self):
        self.host.stop(signal.SIGKILL)

    def test_while_it_starts(self):
        probes, launcher = self.probe_all(), Launcher(self.host, self.foreign["tcp"])
        self.kill()
        unfinished = 0
        for number, moment in enumerate(self.moments(self.start_takes)):
            before = self.enforced()
            self.host.spawn()
            time.sleep(moment)  # the delay is what is tested, so wait for nothing
            self.kill()
            unfinished += self.enforced() == before
            # Half of the starts find what an unfinished start has left, the others what a complete
            # run has left.
            if number % 2:
                self.host.restart()
                self.kill()
        print(f"{unfinished} of {KILLS} were killed before they enforced", flush=True)
        self.assertGreater(unfinished, 0)
        self.host.start()
        self.assert_held(probes, launcher)

    def test_while_it_reloads(self):
        probes, launcher = self.probe_all(), Launcher(self.host, self.foreign["tcp"])
        began = time.monotonic()
        self.host.explicit_reload(LARGER)
        for number, moment in enumerate(self.moments(time.monotonic() - began)):
            self.host.write("policy.toml", LARGER if number % 2 else OPEN)
            self.host.daemon.send_signal(signal.SIGHUP)
            time.sleep(moment)  # the delay is what is tested, so wait for nothing
            self.kill()
            self.host.start()
        self.host.explicit_reload(OPEN)
        self.assert_held(probes, launcher)


if __name__ == "__main__":
    unittest.main()
