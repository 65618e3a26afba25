# SPDX-License-Identifier: Apache-2.0
"""Credentials that are rotated under load, revoked, or expired, and label sets that do not fit into
a token."""

import json
import subprocess
import unittest

from tests.system import certificates, fleet, host, waiting

PORT = 8080
ROUNDS, RATE = (40, 500) if host.LONG else (5, 200)
# Connects `rate` times a second to each address in turn. When told to end, prints the failures.
LOAD = """import collections, json, select, socket, sys, time
rate, addresses = int(sys.argv[1]), sys.argv[2:]
counts, began = collections.Counter(), time.monotonic()
n = 0
while not select.select([sys.stdin], [], [], max(0, began + n / rate - time.monotonic()))[0]:
    try:
        with socket.create_connection((addresses[n % len(addresses)], 8080), 10) as s:
            s.sendall(b"x")
            counts["ok" if s.recv(1) == b"x" else "closed"] += 1
    except OSError as error:
        counts[repr(error)] += 1
    n += 1
print(json.dumps(counts))
"""


class Pair(fleet.FleetCase, unittest.TestCase):
    TRUST = staticmethod(fleet.certificates)

    def setUp(self):
        self.fleet = fleet.Fleet(("client", "server"), self.TRUST)
        self.addCleanup(self.fleet.close)
        self.client, self.server = self.fleet["client"], self.fleet["server"]
        self.directory = self.fleet.undo.directory

    def identity(self, name, trust):
        """Saves an identity and waits until it is in force."""
        each = self.fleet[name]
        each.write("identity.toml", fleet.IDENTITY.format(name=name, more="", trust=trust))
        each.must([host.TRIRECTL, "reload"])

    def serve(self):
        self.agent = self.server.labelled("app=web")
        self.agent.serve("tcp", "::", PORT)
        return self.client.labelled("app=web")

    def load(self):
        return self.client.popen(
            [
                host.TRIRUN,
                "--label",
                "app=web",
                "--",
                "/usr/bin/python3",
                "-c",
                LOAD,
                str(RATE),
                *self.fleet.addresses("server"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def under_load(self, steps):
        """Runs the steps while connections are made all the time, some between any two steps.
        Returns their number."""

        def accepted():
            return self.agent.served("tcp", PORT)["accepted"]

        load = self.load()
        try:
            for step in steps:
                before = accepted()
                waiting.until(
                    lambda before=before: accepted() >= before + 10, "connections are made", 20
                )
                step()
        finally:
            out, _ = load.communicate("\n", timeout=60)
        counts = json.loads(out)
        self.assertEqual(set(counts), {"ok"}, counts)
        return counts["ok"]


class Certificates(Pair):
    def test_rotation_under_load(self):
        """Replaces the certificates of both hosts in turn; after half of the rounds the CA too,
        with both CAs trusted for a while."""
        self.serve()
        client = self.fleet["client"].labelled("app=web")
        client.open("old", "tcp", "")
        self.assertEqual(client.connect("old", self.fleet.addresses("server")[0], PORT), "ok")
        fleet.pki("init", self.directory + "/ca2", "--name", "fleet-2")
        both = f'ca = ["{self.directory}/ca/ca.pem", "{self.directory}/ca2/ca.pem"]'

        def section(name, number, authority):
            text = fleet.certificate_section(self.directory, f"{name}-{number}", authority)
            return (
                "\n".join(both if line.startswith("ca =") else line for line in text.splitlines())
                + "\n"
            )

        steps = []
        for number in range(ROUNDS):
            authority = "ca" if number < ROUNDS // 2 else "ca2"
            for name in ("client", "server"):
                # Both hosts trust the new CA before the first certificate under it is used.
                steps.append(
                    lambda name=name, number=number, authority=authority: self.identity(
                        name, section(name, number, authority)
                    )
                )
        made = self.under_load(steps)
        self.assertEqual(client.send_text("old", "still here"), "ok")
        self.assertEqual(client.receive("old"), {"text": "still here"})
        print(f"{made} connections over {ROUNDS} rotations on both hosts, none failed", flush=True)

    def test_a_revoked_host_loses_its_flows(self):
        """Revocation ends connections and UDP flows."""
        client = self.serve()
        self.agent.serve("udp", "::", PORT)
        flows = {
            f"{kind} {address}": (kind, address)
            for kind in ("tcp", "udp")
            for address in self.fleet.addresses("server")
        }

        def answers(name, text, timeout=waiting.PATIENCE * 2):
            client.send_text(name, text)  # the outcome may be that of an earlier datagram
            return client.receive(name, timeout=timeout) == {"text": text}

        def arrived():
            return {kind: dict(self.agent.served(kind, PORT)) for kind in ("tcp", "udp")}

        for name, (kind, address) in flows.items():
            client.open(name, kind, "::" if ":" in address else "")
            self.assertEqual(client.connect(name, address, PORT), "ok")
            for text in ("ping", "again"):
                self.assertTrue(answers(name, text), name)
        trust = (
            f'[trust]\ncertificate = "{self.directory}/server/host.pem"\nkey = "{self.directory}/server/host.key"\n'
            f'ca = ["{self.directory}/ca/ca.pem"]\nrevoked = ["{self.directory}/client/host.pem"]\n'
        )
        self.identity("server", trust)
        before = arrived()
        for name in flows:
            for _ in range(2):  # at the second try the client knows of the revocation
                self.assertFalse(answers(name, "more", 0.3), name)
        for kind, refused in (("tcp", ("ECONNREFUSED",)), ("udp", ("EHOSTUNREACH", "EACCES"))):
            for address in self.fleet.addresses("server"):
                self.assertIn(client.exchange(kind, address, PORT, timeout=6), refused, address)
        self.assertEqual(arrived(), before)
        waiting.until(
            lambda: [flow for flow in self.server.flows() if flow.get("cause") == "revoked"],
            "the server reports it",
        )

    def test_a_reload_that_changes_no_key_verifies_nobody_again(self):
        client = self.serve()
        address = self.fleet.addresses("server")[0]
        for _ in range(40):  # often enough that every thread of the server has met the client
            self.assertEqual(client.exchange("tcp", address, PORT), "ok")

        def verifications():
            text = self.server.must([host.TRIRECTL, "metrics"])
            return next(
                float(line.split()[-1])
                for line in text.splitlines()
                if line.startswith("trireme_credential_verifications_total")
            )

        before = verifications()
        self.assertGreater(before, 0)
        self.server.policy('[[allow]]\nfrom = "app=a"\nto = "app=b"\n')
        for _ in range(40):
            self.assertEqual(client.exchange("tcp", address, PORT), "ok")
        self.assertEqual(verifications(), before)

    def test_an_expired_host_protects_its_own_and_says_why_others_refuse_it(self):
        client = self.serve()
        self.client.stop()
        subprocess.run(
            ["cp", "-a", f"{self.directory}/client", f"{self.directory}/expired"], check=True
        )
        certificates.issue(
            self.directory + "/ca",
            self.directory + "/expired",
            "client",
            "20200101000000Z",
            "20200201000000Z",
        )
        self.client.write(
            "identity.toml",
            fleet.IDENTITY.format(name="client", more="", trust=self.section("expired")),
        )
        self.client.start()
        self.assertIn("has expired", self.client.log_text())
        self.assertTrue(any("has expired" in line for line in self.client.status()["problems"]))
        port = self.client.labelled("app=web").serve("tcp", "127.0.0.1")
        client = self.client.labelled("app=web")
        self.assertEqual(client.exchange("tcp", "127.0.0.1", port), "ok")
        self.assertEqual(self.client.plain().exchange("tcp", "127.0.0.1", port), "ECONNREFUSED")
        self.assertEqual(
            client.exchange("tcp", self.fleet.addresses("server")[0], PORT), "ECONNREFUSED"
        )
        waiting.until(
            lambda: [flow for flow in self.client.flows() if flow.get("cause") == "own_expired"],
            "the client reports it",
        )

    def section(self, name):
        out = f"{self.directory}/{name}"
        return f'[trust]\ncertificate = "{out}/host.pem"\nkey = "{out}/host.key"\nca = ["{self.directory}/ca/ca.pem"]\n'


class Secrets(Pair):
    TRUST = staticmethod(fleet.shared_secret)

    def test_rotation_under_load(self):
        """Adds the new secret after the old one on all hosts, swaps them, then removes the old
        one."""
        self.serve()
        path = self.directory + "/psk"

        def read(name):
            with open(name, encoding="ascii") as file:
                return file.read()

        old, steps = read(path), []
        for name in ("client", "server"):
            # Each host has its own file, as on separate machines.
            self.put(name, old)
        for number in range(ROUNDS):
            fresh = f"{self.directory}/psk-{number}"
            fleet.pki("psk", fresh)
            new = read(fresh)
            for content in (old + new, new + old, new):
                for name in ("client", "server"):
                    steps.append(lambda name=name, content=content: self.put(name, content))
            old = new
        made = self.under_load(steps)
        print(f"{made} connections over {ROUNDS} rotations of the secret, none failed", flush=True)

    def put(self, name, content):
        each = self.fleet[name]
        each.write("psk", content)
        subprocess.run(["chmod", "600", each.config + "/psk"], check=True)
        self.identity(name, '[trust]\npsk_file = "psk"\n')

    def test_labels_that_no_token_has_room_for_count_on_this_host_alone(self):
        many = ",".join(f"key{i}={'v' * 60}" for i in range(20))
        done = self.client.trirun(many, [host.TRIRECTL, "workloads", "--json"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(
            done.stdout,
            r"LOCAL ONLY: remote hosts refuse it: its labels take 1\d{3} bytes, "
            r"but a token with this host's credential has room for 1\d{3}",
        )
        few = ",".join(f"key{i}={'v' * 60}" for i in range(14))
        self.assertEqual(self.client.trirun(few, ["true"]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
