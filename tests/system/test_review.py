# SPDX-License-Identifier: Apache-2.0
"""Regression tests for bypasses that a review found: addresses translated on OUTPUT, and transports
that no rule decides on."""

import subprocess
import unittest

from tests.system import agent, waiting
from tests.system.host import LOCAL4, LOCAL6, HostCase

FAR4, NEAR4, ELSEWHERE4 = "192.0.2.2", "192.0.2.1", "203.0.113.1"
FAR6, NEAR6, ELSEWHERE6 = "2001:db8::2", "2001:db8::1", "2001:db8:1::1"


class Translated(HostCase):
    """DNAT on OUTPUT: a local address leads to another host, as with Docker's published ports, and
    another host's address leads to this host."""

    POLICY = '[[allow]]\nfrom = "app=egress"\nto = "@world"\n'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        host = cls.host
        cls.far = host.undo.name("f")
        host.undo.add("netns", cls.far)
        subprocess.run(["ip", "netns", "add", cls.far], check=True)
        host.ip(f"link add wire type veth peer name wire netns {cls.far}")
        for line in (
            f"addr add {NEAR4}/24 dev wire",
            f"addr add {NEAR6}/64 dev wire nodad",
            "link set wire up",
            f"route add default via {FAR4}",
            f"-6 route add default via {FAR6}",
        ):
            host.ip(line)
        for line in (
            f"addr add {FAR4}/24 dev wire",
            f"addr add {FAR6}/64 dev wire nodad",
            "link set wire up",
            f"route add default via {NEAR4}",
            f"-6 route add default via {NEAR6}",
        ):
            subprocess.run(["ip", "-n", cls.far, *line.split()], check=True)

    def translate(self, family, rules):
        """`rules` as (kind, address, port, real address, real port)."""
        lines = [
            f"{family} daddr {address} {kind} dport {port} dnat to "
            + (f"[{to}]" if ":" in to else to)
            + f":{real}"
            for kind, address, port, to, real in rules
        ]
        self.host.nft(
            f"table {family} foreign {{\nchain out {{\ntype nat hook output priority -100\n"
            + "\n".join(lines)
            + "\n}\n}\n"
        )
        self.addCleanup(self.host.nft, f"delete table {family} foreign")

    def test_a_local_address_that_leads_to_another_host(self):
        far = agent.Agent(["nsenter", f"--net=/run/netns/{self.far}"])
        self.addCleanup(far.end)
        web, egress, plain = (
            self.host.labelled("app=web"),
            self.host.labelled("app=egress"),
            self.host.plain(),
        )
        for family, local, there in (("ip", LOCAL4, FAR4), ("ip6", LOCAL6, FAR6)):
            ports = {kind: far.serve(kind, there) for kind in ("tcp", "udp")}
            warm = far.serve("tcp", there)
            waiting.until(
                lambda to=there, at=warm: plain.exchange("tcp", to, at) == "ok",
                "the neighbor is resolved",
            )
            self.translate(
                family, [(kind, local, 8080, there, port) for kind, port in ports.items()]
            )
            for kind, port in ports.items():
                self.assert_refused(web.exchange(kind, local, 8080), f"{kind} {local}")
                self.assertEqual(far.served(kind, port)["accepted"], 0)
                self.assert_allowed(egress.exchange(kind, local, 8080), f"{kind} {local}")
                self.assert_allowed(plain.exchange(kind, local, 8080), f"{kind} {local}")

    def test_an_address_elsewhere_that_leads_to_this_host(self):
        web, same, egress = (
            self.host.labelled("app=web"),
            self.host.labelled("app=web"),
            self.host.labelled("app=egress"),
        )
        plain, other = self.host.plain(), self.host.plain()
        for family, local, elsewhere in (("ip", LOCAL4, ELSEWHERE4), ("ip6", LOCAL6, ELSEWHERE6)):
            rules = []
            for kind in ("tcp", "udp"):
                rules += [
                    (kind, elsewhere, 8081, local, plain.serve(kind, local)),
                    (kind, elsewhere, 8082, local, web.serve(kind, local)),
                ]
            self.translate(family, rules)
            for kind in ("tcp", "udp"):
                # A process of this host is not @world.
                self.assert_refused(egress.exchange(kind, elsewhere, 8081), f"{kind} {elsewhere}")
                self.assert_allowed(other.exchange(kind, elsewhere, 8081), f"{kind} {elsewhere}")
                self.assert_allowed(same.exchange(kind, elsewhere, 8082), f"{kind} {elsewhere}")
                for stranger in (egress, plain):
                    self.assert_refused(
                        stranger.exchange(kind, elsewhere, 8082), f"{kind} {elsewhere}"
                    )


if __name__ == "__main__":
    unittest.main()
