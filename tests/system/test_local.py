# SPDX-License-Identifier: Apache-2.0
"""Which flows are allowed on one host: over lo and every other local address, TCP and UDP, IPv4 and
IPv6."""

import time
import unittest

from tests.system import waiting
from tests.system.host import LOCALS, HostCase

PATHS = [(kind, address) for kind in ("tcp", "udp") for address in LOCALS]


class Baseline(HostCase):
    """Without rules, only workloads with the same labels may talk."""

    def test_same_labels_talk(self):
        server, client = self.host.labelled("app=web"), self.host.labelled("app=web")
        for kind, address in PATHS:
            port = server.serve(kind, address)
            self.assert_allowed(client.exchange(kind, address, port), f"{kind} {address}")
            self.assert_allowed(server.exchange(kind, address, port), f"{kind} {address} to itself")

    def test_other_labels_are_refused(self):
        server = self.host.labelled("app=web")
        for labels in ("app=db", "app=web,env=dev", "web=app"):
            client = self.host.labelled(labels)
            for kind, address in PATHS:
                port = server.serve(kind, address)
                self.assert_refused(
                    client.exchange(kind, address, port), f"{labels} {kind} {address}"
                )
                self.assertEqual(server.served(kind, port), {"accepted": 0, "bytes": 0})

    def test_unlabelled_to_a_workload_is_refused(self):
        server, client = self.host.labelled("app=web"), self.host.plain()
        for kind, address in PATHS:
            port = server.serve(kind, address)
            self.assert_refused(client.exchange(kind, address, port), f"{kind} {address}")
            self.assertEqual(server.served(kind, port), {"accepted": 0, "bytes": 0})

    def test_a_workload_to_unlabelled_is_refused(self):
        server, client = self.host.plain(), self.host.labelled("app=web")
        for kind, address in PATHS:
            port = server.serve(kind, address)
            self.assert_refused(client.exchange(kind, address, port), f"{kind} {address}")
            self.assertEqual(server.served(kind, port), {"accepted": 0, "bytes": 0})

    def test_processes_without_labels_are_left_alone(self):
        server, client = self.host.plain(), self.host.plain()
        for kind, address in PATHS:
            port = server.serve(kind, address)
            self.assert_allowed(client.exchange(kind, address, port), f"{kind} {address}")

    def test_children_are_held_to_the_same(self):
        server, stranger = self.host.labelled("app=web"), self.host.plain()
        same, other = self.host.labelled("app=web"), self.host.labelled("app=db")
        for kind, address in PATHS:
            port = server.serve(kind, address)
            foreign = stranger.serve(kind, address)
            self.assert_allowed(same.in_child("exchange", kind, address, port), f"{kind} {address}")
            self.assert_refused(
                other.in_child("exchange", kind, address, port), f"{kind} {address}"
            )
            self.assert_refused(
                same.in_child("exchange", kind, address, foreign), f"{kind} {address}"
            )

    def test_a_wildcard_listener_is_its_workload(self):
        server, same, other, plain = (
            self.host.labelled("app=web"),
            self.host.labelled("app=web"),
            self.host.labelled("app=db"),
            self.host.plain(),
        )
        for kind in ("tcp", "udp"):
            port = server.serve(kind, "::")
            for address in ("127.0.0.1", "::1"):
                self.assert_allowed(same.exchange(kind, address, port), f"{kind} {address}")
                self.assert_refused(other.exchange(kind, address, port), f"{kind} {address}")
                self.assert_refused(plain.exchange(kind, address, port), f"{kind} {address}")

    def test_the_same_port_on_two_addresses_has_two_owners(self):
        web, db = self.host.labelled("app=web"), self.host.labelled("app=db")
        for kind in ("tcp", "udp"):
            port = web.serve(kind, "127.0.0.1")
            self.assertEqual(db.serve(kind, "127.0.0.2", port), port)
            self.assert_allowed(web.exchange(kind, "127.0.0.1", port))
            self.assert_refused(web.exchange(kind, "127.0.0.2", port))
            self.assert_allowed(db.exchange(kind, "127.0.0.2", port))
            self.assert_refused(db.exchange(kind, "127.0.0.1", port))

    def test_ping_of_the_host_by_a_workload_is_refused(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        for address in ("127.0.0.1", "::1"):
            self.assert_allowed(plain.ping(address), address)
            self.assertNotEqual(web.ping(address), "ok", address)

    def test_a_refusal_is_seen_once_in_the_flows(self):
        server, client = self.host.labelled("app=seen"), self.host.labelled("app=looker")
        port = server.serve("tcp", "127.0.0.1")
        for _ in range(20):
            self.assert_refused(client.exchange("tcp", "127.0.0.1", port))

        def mine():
            return [flow for flow in self.host.flows() if flow.get("port") == port]

        waiting.until(mine, "the refusal is logged")
        (flow,) = mine()
        self.assertEqual(flow["verdict"], "deny")
        self.assertEqual(flow["source"]["labels"], {"app": "looker"})
        self.assertEqual(flow["destination"]["labels"], {"app": "seen"})
        self.assertEqual(flow["protocol"], "tcp")
        reported = [line for line in self.host.log_text().splitlines() if f"tcp/{port}: " in line]
        self.assertEqual(len(reported), 1, reported)
        self.assertRegex(reported[0], r"deny .*app=looker.* -> .*app=seen")

    def test_a_refusal_is_not_taken_for_an_earlier_one(self):
        """The kernel has the earlier ones for five seconds. They came to the same port."""
        server = self.host.labelled("app=seen")
        port = server.serve("udp", "127.0.0.1")
        earlier = [self.host.labelled(f"app=earlier{i}") for i in range(6)]
        last = self.host.labelled("app=last")
        began = time.monotonic()
        for client in earlier:
            self.assert_refused(client.exchange("udp", "127.0.0.1", port))

        def sources():
            return sorted(
                flow["source"]["labels"]["app"]
                for flow in self.host.flows()
                if flow.get("port") == port
            )

        expected = [f"earlier{i}" for i in range(6)]
        waiting.until(lambda: sources() == expected, "the refusals are logged")
        waiting.until(lambda: time.monotonic() > began + 4.4, "most of the five seconds")
        self.assert_refused(last.exchange("udp", "127.0.0.1", port))
        waiting.until(lambda: len(sources()) > 6, "the last refusal is logged")
        self.assertEqual(sources(), [*expected, "last"])


if __name__ == "__main__":
    unittest.main()
