# SPDX-License-Identifier: Apache-2.0
"""Networks by CIDR, @world and @host: which entity a peer without labels is, in both directions and
families, and what audit mode logs."""

import time
import unittest

from tests.system import waiting
from tests.system.world import HOST4, HOST6, WorldCase

INSIDE = {4: "10.97.1.1", 6: "fd00:97::1:1"}
OUTSIDE = {4: "10.97.2.1", 6: "fd00:97::2:1"}
NETWORK = '[[network]]\nname = "near"\ncidrs = ["10.97.1.0/24", "fd00:97::1:0/112"]\n'
HERE = {4: HOST4, 6: HOST6}
FAMILIES = (4, 6)


def rule(action, source, destination, *ports, more=""):
    written = ", ".join(f'"{port}"' for port in ports)
    return (
        f'[[{action}]]\nfrom = "{source}"\nto = "{destination}"\n'
        + (f"ports = [{written}]\n" if ports else "")
        + more
    )


class Networks(WorldCase):
    def setUp(self):
        super().setUp()
        self.far = self.world.plain()

    def assert_only(self, allowed, exchange, address, note=""):
        (self.assert_allowed if allowed else self.assert_refused)(exchange, f"{address} {note}")

    def test_to_a_network_and_its_ports_only(self):
        web = self.host.labelled("app=web")
        tcp, udp, closed = (
            self.far.serve("tcp", "::"),
            self.far.serve("udp", "::"),
            self.far.serve("tcp", "::"),
        )
        self.host.explicit_reload(
            NETWORK + rule("allow", "app=web", "@near", f"tcp/{tcp}", "udp/1-65535")
        )
        for family in FAMILIES:
            for address, inside in ((INSIDE[family], True), (OUTSIDE[family], False)):
                self.assert_only(inside, web.exchange("tcp", address, tcp), address)
                # A server with a wildcard socket answers from the address that was asked only if it
                # sets that address, so use a listener for each address.
                server = self.far.serve("udp", address)
                self.assert_only(inside, web.exchange("udp", address, server), address)
                self.assert_refused(web.exchange("tcp", address, closed), address)
        del udp

    def test_from_a_network_to_its_ports_only(self):
        web = self.host.labelled("app=web")
        for family in FAMILIES:
            tcp, udp, closed = (
                web.serve("tcp", HERE[family]),
                web.serve("udp", HERE[family]),
                web.serve("tcp", HERE[family]),
            )
            self.host.explicit_reload(
                NETWORK + rule("allow", "@near", "app=web", f"tcp/{tcp}", f"udp/{udp}")
            )
            for address, inside in ((INSIDE[family], True), (OUTSIDE[family], False)):
                for kind, port in (("tcp", tcp), ("udp", udp)):
                    outcome = self.far.exchange(
                        kind, HERE[family], port, source=[address, 0], timeout=1
                    )
                    self.assert_only(inside, outcome, address, kind)
                self.assertNotEqual(
                    self.far.exchange("tcp", HERE[family], closed, source=[address, 0], timeout=1),
                    "ok",
                )

    def test_overlapping_networks_whatever_their_order(self):
        web = self.host.labelled("app=web")
        wide = '[[network]]\nname = "wide"\ncidrs = ["10.97.0.0/16", "fd00:97::/64"]\n'
        port = self.far.serve("tcp", "::")
        for rules, inside, outside in (
            ((rule("allow", "app=web", "@wide"), rule("deny", "*", "@near")), False, True),
            (
                (rule("allow", "app=web", "@near"), rule("deny", "*", "@wide", "udp/1-65535")),
                True,
                False,
            ),
            ((rule("allow", "app=web", "@near"), rule("allow", "app=web", "@wide")), True, True),
        ):
            for parts in ((NETWORK, wide, *rules), (*reversed(rules), wide, NETWORK)):
                self.host.explicit_reload("".join(parts))
                for family in FAMILIES:
                    self.assert_only(
                        inside,
                        web.exchange("tcp", INSIDE[family], port),
                        INSIDE[family],
                        "".join(rules),
                    )
                    self.assert_only(
                        outside,
                        web.exchange("tcp", OUTSIDE[family], port),
                        OUTSIDE[family],
                        "".join(rules),
                    )

    def test_the_world_and_this_host_are_two(self):
        """A service for unlabeled clients: allowed to @world, to @host for a health check, and to
        neither."""
        web, plain = self.host.labelled("app=web"), self.host.plain()
        for family in FAMILIES:
            port = web.serve("tcp", HERE[family])
            datagrams = web.serve("udp", HERE[family])
            for entity, world, here in (("@world", True, False), ("@host", False, True)):
                self.host.explicit_reload(
                    rule("allow", entity, "app=web", f"tcp/{port}", f"udp/{datagrams}")
                )
                for kind, number in (("tcp", port), ("udp", datagrams)):
                    self.assert_only(
                        world,
                        self.far.exchange(kind, HERE[family], number, timeout=1),
                        entity,
                        kind,
                    )
                    self.assert_only(here, plain.exchange(kind, HERE[family], number), entity, kind)

    def test_ten_thousand_cidrs(self):
        cidrs = [f'"10.97.{64 + index // 128}.{index % 128 * 2}/32"' for index in range(5000)]
        cidrs += [f'"fd00:97::{index // 256:x}:{index % 256 * 2:x}/128"' for index in range(5000)]
        web = self.host.labelled("app=web")
        port = self.far.serve("tcp", "::")
        policy = (
            f'[[network]]\nname = "list"\ncidrs = [{", ".join(cidrs)}]\n'
            + rule("allow", "app=web", "@list", f"tcp/{port}")
            + f'[[test]]\nfrom = {{ app = "web" }}\nto = "@list"\nport = "tcp/{port}"\nexpect = "allow"\n'
        )
        began = time.monotonic()
        self.host.explicit_reload(policy)
        took = time.monotonic() - began
        print(f"10,000 CIDRs are in force after {took:.2f} s", flush=True)
        self.assertLess(took, 5 * waiting.PATIENCE)
        for address, listed in (
            ("10.97.64.0", True),
            ("10.97.64.1", False),
            ("10.97.103.14", True),
            ("10.97.103.15", False),
            ("fd00:97::13:10e", True),
            ("fd00:97::13:10f", False),
        ):
            self.assert_only(listed, web.exchange("tcp", address, port), address)

    def flows(self, port, verdict):
        return [
            flow
            for flow in self.host.flows()
            if flow["port"] == port and flow["verdict"] == verdict
        ]

    def test_audit_of_networks(self):
        """In audit mode, of the whole policy and of one rule, would-be refusals pass. Each such
        flow is logged once, with the rule that would have decided."""
        web = self.host.labelled("app=web")
        port, other = self.far.serve("tcp", "::"), self.far.serve("tcp", "::")
        inward = web.serve("tcp", HERE[4])
        trial = 'mode = "audit"\nname = "trial"\n'
        self.host.explicit_reload(
            NETWORK
            + rule("allow", "*", "@near")
            + rule("allow", "@near", "*")
            + rule("deny", "app=web", "@near", f"tcp/{port}", more=trial)
            + rule(
                "deny",
                "@near",
                "app=web",
                f"tcp/{inward}",
                more='mode = "audit"\nname = "inward"\n',
            )
        )
        self.assertEqual(web.open("c", "tcp", HERE[4]), "ok")
        self.assertEqual(web.connect("c", INSIDE[4], port), "ok")
        for text in ("one", "two", "three"):
            self.assertEqual(web.send_text("c", text), "ok")
            self.assertEqual(web.receive("c"), {"text": text})
        self.assert_allowed(web.exchange("tcp", INSIDE[4], other))
        self.assert_refused(web.exchange("tcp", OUTSIDE[4], port), "no rule")
        self.assert_allowed(self.far.exchange("tcp", HERE[4], inward, source=[INSIDE[4], 0]))
        waiting.until(
            lambda: self.flows(port, "deny") and self.flows(inward, "audit"), "they are logged"
        )
        reported = self.flows(port, "audit")
        self.assertEqual(
            [(flow["destination"]["address"], flow["rule"][:12]) for flow in reported],
            [(INSIDE[4], "deny 'trial'")],
        )
        self.assertEqual(reported[0]["destination"]["networks"], ["near"])
        self.assertEqual(
            [flow["rule"][:13] for flow in self.flows(inward, "audit")], ["deny 'inward'"]
        )
        self.assertEqual(self.flows(other, "audit"), [])
        whole = (
            '[defaults]\nmode = "audit"\n'
            + NETWORK
            + rule("allow", "app=web", "@near")
            + rule("deny", "app=web", "@near", f"tcp/{other}")
        )
        self.host.explicit_reload(whole)
        for address in (INSIDE[6], OUTSIDE[6]):
            self.assert_allowed(web.exchange("tcp", address, other), address)
        self.assert_allowed(web.exchange("tcp", INSIDE[6], port))
        waiting.until(lambda: len(self.flows(other, "audit")) >= 2, "both flows are logged")
        self.assertEqual(
            sorted(
                (flow["destination"]["address"], bool(flow["rule"]))
                for flow in self.flows(other, "audit")
            ),
            [(INSIDE[6], True), (OUTSIDE[6], False)],
        )


class OtherProtocols(WorldCase):
    def test_icmp_and_what_has_no_ports(self):
        """GRE and SCTP over raw sockets: a rule without ports allows them, a rule with ports does
        not."""
        web = self.host.labelled("app=web")
        for rules, icmp, others in (
            ("", False, False),
            (rule("allow", "app=web", "@near", "icmp", "icmpv6"), True, False),
            (rule("allow", "app=web", "@near", "tcp/1-65535", "udp/1-65535"), False, False),
            (rule("allow", "app=web", "@near"), True, True),
        ):
            self.host.explicit_reload(NETWORK + rules)
            for family in FAMILIES:
                self.assertEqual(
                    web.ping(INSIDE[family], timeout=3 if icmp else 0.5) == "ok", icmp, rules
                )
                for protocol in (47, 132, 253):
                    self.assertEqual(
                        web.send_raw(INSIDE[family], protocol) == "ok",
                        others,
                        f"{rules} {protocol}",
                    )
            self.assertNotEqual(web.ping(OUTSIDE[4]), "ok")


if __name__ == "__main__":
    unittest.main()
