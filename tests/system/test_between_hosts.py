# SPDX-License-Identifier: Apache-2.0
"""Two hosts with a router between them: path MTU discovery and neighbor discovery always work;
policy and audit mode for ICMP; names of addresses that are expected to send tokens."""

import unittest

from tests.system import host, nameserver, waiting
from tests.system.fleet import Fleet, FleetCase, shared_secret

PORT = 8080


class BetweenHosts(FleetCase, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = Fleet(("client", "server"), shared_secret, routed=True)
        cls.addClassCleanup(cls.fleet.close)
        cls.client, cls.server = cls.fleet["client"], cls.fleet["server"]
        # The link at the other end of the path has a smaller MTU than either host knows.
        cls.fleet.router.run("ip", "link", "set", "far0", "mtu", "1280")

    def setUp(self):
        self.addCleanup(self.fleet.kill_agents)
        for each in (self.client, self.server):
            each.explicit_reload("")

    def addresses(self):
        return self.fleet.addresses("server")

    def test_path_mtu_and_neighbours(self):
        """The router's errors for packets that are too big reach the TCP of a sender that no rule
        allows to receive ICMP."""
        server, client = self.server.labelled("app=web"), self.client.labelled("app=web")
        server.serve("tcp", "::", PORT)
        for address in self.addresses():
            for each in (self.client, self.server):
                each.must(["ip", "neigh", "flush", "all"])
            self.assertEqual(
                client.exchange("tcp", address, PORT, text="x" * 20_000), "ok", address
            )
            route = self.client.must(["ip", "route", "get", address])
            self.assertIn("mtu 1280", route)
            self.assertNotEqual(client.ping(address), "ok", address)
        self.server.must(["ip", "neigh", "flush", "all"])
        self.assertEqual(client.exchange("tcp", self.addresses()[1], PORT), "ok")

    def test_routes_that_depend_on_the_source(self):
        """Only the routing table of one source address has a gateway. The packets that the verifier
        sends for a flow take the route of the flow."""
        client = self.fleet["client"]
        for family, source, gateway in (
            ("-4", "10.97.0.1", "10.97.0.254"),
            ("-6", "fd00:97::1", "fd00:97::fe"),
        ):
            client.ip(f"{family} route del default via {gateway}")
            self.addCleanup(client.ip, f"{family} route add default via {gateway}")
            client.ip(f"{family} route add default via {gateway} table 100")
            self.addCleanup(client.ip, f"{family} route flush table 100")
            client.ip(f"{family} rule add from {source} lookup 100")
            self.addCleanup(client.ip, f"{family} rule del from {source} lookup 100")
        server = self.fleet["server"].labelled("app=web")
        web = client.labelled("app=web")
        addresses = self.fleet.addresses("server")
        for address, source in zip(addresses, ("10.97.0.1", "fd00:97::1")):
            for kind in ("tcp", "udp"):
                port = server.serve(kind, address)
                name = f"{kind} {address}"
                self.assertEqual(web.open(name, kind, source), "ok", name)
                self.assertEqual(web.connect(name, address, port), "ok", name)
                self.assertEqual(web.send_text(name, "ping"), "ok", name)
                self.assertEqual(web.receive(name), {"text": "ping"}, name)

    def test_unreachable_is_told_at_once(self):
        """ICMP errors for allowed flows pass, and end these flows at once."""
        self.client.explicit_reload('[[allow]]\nfrom = "app=web"\nto = "@world"\n')
        client = self.client.labelled("app=web")
        for address in ("10.99.7.7", "fd00:99:7::7"):  # the router has no route there
            self.assertIn(
                client.exchange("tcp", address, PORT, timeout=5),
                ("EHOSTUNREACH", "ENETUNREACH"),
                address,
            )
        for address in self.addresses():
            self.assertEqual(client.exchange("udp", address, 9), "ECONNREFUSED", address)

    def test_icmp_by_policy(self):
        client = self.client.labelled("app=web")
        self.client.explicit_reload(
            '[[allow]]\nfrom = "app=web"\nto = "@world"\nports = ["icmp", "icmpv6"]\n'
        )
        for address in self.addresses():
            self.assertEqual(client.ping(address), "ok", address)
            self.assertNotEqual(client.exchange("tcp", address, PORT), "ok", address)

    def test_audit_of_tokens(self):
        """Audit mode for the whole policy and in one rule, on either host: the flow passes and is
        reported once, with the rule that would have decided."""
        server, client = self.server.labelled("app=db"), self.client.labelled("app=web")
        rules = '[[deny]]\nname = "trial"\nfrom = "app=web"\nto = "app=db"\nmode = "audit"\n[[allow]]\nfrom = "app=web"\nto = "app=db"\n'
        for port, policy, rule in (
            (PORT, '[defaults]\nmode = "audit"\n', ""),
            (PORT + 1, rules, "deny 'trial'"),
        ):
            server.serve("tcp", "::", port)
            for each in (self.client, self.server):
                each.explicit_reload(policy)
            for address in self.addresses():
                before = [self.audited(each) for each in (self.client, self.server)]
                self.assertEqual(client.exchange("tcp", address, port), "ok", address)
                for each, seen in zip((self.client, self.server), before):
                    reported = waiting.until(
                        lambda: self.audited(each)[len(seen) :], "it is reported"
                    )
                    self.assertEqual(
                        [
                            (
                                flow["rule"][:12],
                                flow["source"]["labels"],
                                flow["destination"]["labels"],
                            )
                            for flow in reported
                        ],
                        [(rule, {"app": "web"}, {"app": "db"})],
                    )
        for each in (self.client, self.server):
            each.explicit_reload("")
        self.assertEqual(client.exchange("tcp", self.addresses()[0], PORT), "ECONNREFUSED")

    @staticmethod
    def audited(each):
        return [flow for flow in each.flows() if flow["verdict"] == "audit"]

    def test_a_name_of_a_peer_without_proof(self):
        """The server's host is expected to send tokens. An unlabeled process there is reached by
        its name."""
        server = self.server.plain()
        server.serve("tcp", "::", PORT)
        for address in self.addresses():
            asked = "10.97.0.254"
            name_server = nameserver.start(
                self.router_popen,
                [asked],
                {
                    "deb.example.org": {
                        "answers": [[None, "AAAA" if ":" in address else "A", address, 0]]
                    }
                },
            )
            self.addCleanup(host.kill_quietly, name_server)
            self.client.explicit_reload(
                f'[[network]]\nname = "mirror"\nnames = ["deb.example.org"]\n'
                f'[[network]]\nname = "dns"\ncidrs = ["{asked}"]\n'
                '[[allow]]\nfrom = "app=web"\nto = "@dns"\nports = ["udp/53"]\n'
                '[[allow]]\nfrom = "app=web"\nto = "@mirror"\n'
            )
            client = self.client.labelled("app=web")
            self.assertEqual(client.exchange("tcp", address, PORT), "ECONNREFUSED", address)
            kind = "AAAA" if ":" in address else "A"
            self.assertEqual(
                client.run(
                    ["dig", "+short", "+tries=1", "+time=8", f"@{asked}", "deb.example.org", kind]
                )["out"].split(),
                [address],
            )
            self.assertEqual(client.exchange("tcp", address, PORT), "ok", address)
            host.kill_quietly(name_server)

    def router_popen(self, argv, **options):
        return self.client.popen(
            ["nsenter", f"--net=/run/netns/{self.fleet.router.netns}", *argv], **options
        )


if __name__ == "__main__":
    unittest.main()
