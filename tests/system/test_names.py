# SPDX-License-Identifier: Apache-2.0
"""Networks by DNS name. Only a name server's answer to a workload adds addresses, and they are
added before the answer is delivered."""

import json
import subprocess
import unittest

from tests.system import host, nameserver, waiting
from tests.system.world import HOST4, WORLD4, WORLD6, WorldCase

PORT = 8080

NETWORK = '[[network]]\nname = "mirror"\nnames = ["deb.example.org", "*.pool.example.org"]\n'
RESOLVER = f'[[network]]\nname = "dns"\ncidrs = ["{WORLD4}", "{WORLD6}"]\n'
MAY_ASK = '[[allow]]\nfrom = "app=web"\nto = "@dns"\nports = ["udp/53", "tcp/53"]\n'
MAY_GO = f'[[allow]]\nname = "to the mirror"\nfrom = "app=web"\nto = "@mirror"\nports = ["tcp/{PORT}", "udp/{PORT}"]\n'
POLICY = NETWORK + RESOLVER + MAY_ASK + MAY_GO


def many(count, first=0):
    return [f"10.97.{64 + index // 250}.{index % 250 + 1}" for index in range(first, first + count)]


class Names(WorldCase):
    def setUp(self):
        super().setUp()
        self.far = self.world.plain()
        self.far.serve("tcp", "::", PORT)

    def name_server(self, zone, addresses=(WORLD4, WORLD6), where=None, prefix=()):
        process = nameserver.start((where or self.world).popen, addresses, zone, prefix)
        self.addCleanup(host.kill_quietly, process)
        return process

    def ask(self, client, name, *options, server=WORLD4, kind="A"):
        """Output of dig for the answer."""
        return client.run(
            ["dig", "+short", "+tries=1", "+time=2", *options, f"@{server}", name, kind]
        )["out"].split()

    def test_an_address_counts_from_its_answer_on(self):
        self.name_server(
            {
                "deb.example.org": {
                    "answers": [[None, "A", "10.97.1.1", 0], [None, "AAAA", "fd00:97::101", 0]]
                }
            }
        )
        self.host.explicit_reload(POLICY)
        web, other = self.host.labelled("app=web"), self.host.labelled("app=other")
        for address, kind, server in (("10.97.1.1", "A", WORLD4), ("fd00:97::101", "AAAA", WORLD6)):
            self.assert_refused(web.exchange("tcp", address, PORT), address)
            self.assertEqual(self.ask(web, "deb.example.org", kind=kind, server=server), [address])
            self.assert_allowed(web.exchange("tcp", address, PORT), address)
            self.assert_refused(web.exchange("tcp", address, PORT + 1), "another port")
            self.assert_refused(other.exchange("tcp", address, PORT), "other labels")
        self.assert_refused(web.exchange("tcp", "10.97.1.2", PORT), "another address")

    def test_whose_address_changes_with_each_answer(self):
        """Each new address is reachable as soon as the answer arrives, even while other programs
        keep nf_tables busy."""
        addresses = many(80)
        self.name_server({"deb.example.org": {"turn": addresses}})
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        self.assert_refused(web.exchange("tcp", addresses[0], PORT))
        for at, address in enumerate(addresses):
            if at == 60:
                self.keep_nf_tables_busy()
            self.assertEqual(
                web.look_up_and_connect("deb.example.org", WORLD4, PORT), [address, "ok"]
            )

    def test_who_asks_from_a_port_that_was_anothers(self):
        """Conntrack's entry is that of the previous owner of the port. The answer is still
        attributed to the workload that asked; an answer to an unlabeled process adds no
        addresses."""
        addresses = many(6)
        self.name_server({"deb.example.org": {"turn": addresses}})
        self.host.explicit_reload(POLICY)
        askers = [
            self.host.labelled("app=web"),
            self.host.labelled("app=web"),
            self.host.labelled("app=web"),
            self.host.plain(),
        ]
        for address, asker in zip(addresses, (*askers, *askers[:2])):
            self.assertEqual(
                asker.look_up_and_connect("deb.example.org", WORLD4, PORT, source=5353),
                [address, "ok"],
            )
        self.assert_refused(
            askers[0].exchange("tcp", addresses[3], PORT), "what no workload asked for"
        )

    def keep_nf_tables_busy(self):
        """Runs nft transactions that are only checked; other transactions wait for them."""
        elements = ",".join(
            f"10.{at // 65536}.{at // 256 % 256}.{at % 256}" for at in range(10_000)
        )
        path = self.host.undo.directory + "/busy.nft"
        with open(path, "w", encoding="ascii") as file:
            file.write(
                f"table inet busy {{ set s {{ type ipv4_addr; elements = {{ {elements} }}; }}; }}\n"
            )
        busy = self.host.popen(
            ["sh", "-c", f"nft -c -f {path} && echo; while nft -c -f {path}; do :; done"],
            stdout=subprocess.PIPE,
        )
        self.addCleanup(host.kill_quietly, busy)
        self.assertEqual(busy.stdout.readline(), b"\n")

    def test_wildcards_aliases_and_names_beside_them(self):
        self.name_server(
            {
                "a.b.pool.example.org": {"answers": [[None, "A", "10.97.2.1", 0]]},
                "pool.example.org": {"answers": [[None, "A", "10.97.2.2", 0]]},
                "xdeb.example.org": {"answers": [[None, "A", "10.97.2.3", 0]]},
                "deb.example.org": {
                    "answers": [
                        ["cdn.example.net", "A", "10.97.2.4", 0],
                        ["x.example.com", "CNAME", "cdn.example.net", 0],
                        [None, "CNAME", "x.example.com", 0],
                    ]
                },
                "alias.example.com": {
                    "answers": [
                        [None, "CNAME", "deb.example.org", 0],
                        ["deb.example.org", "A", "10.97.2.5", 0],
                    ]
                },
            }
        )
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        for name, address, allowed in (
            ("a.b.pool.example.org", "10.97.2.1", True),
            ("A.B.Pool.EXAMPLE.org", "10.97.2.1", True),
            ("pool.example.org", "10.97.2.2", False),
            ("xdeb.example.org", "10.97.2.3", False),
            ("deb.example.org", "10.97.2.4", True),
            ("alias.example.com", "10.97.2.5", False),
        ):
            self.assertIn(address, self.ask(web, name), name)
            (self.assert_allowed if allowed else self.assert_refused)(
                web.exchange("tcp", address, PORT), name
            )

    def test_answers_over_tcp_and_large_ones(self):
        tcp, udp = many(300), many(300, 400)
        self.name_server(
            {
                "deb.example.org": {"answers": [[None, "A", address, 0] for address in tcp]},
                "x.pool.example.org": {"answers": [[None, "A", address, 0] for address in udp]},
            }
        )
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        self.assertEqual(sorted(self.ask(web, "deb.example.org", "+tcp")), sorted(tcp))
        self.assertEqual(sorted(self.ask(web, "x.pool.example.org", "+bufsize=8192")), sorted(udp))
        for address in (tcp[0], tcp[150], tcp[-1], udp[0], udp[-1]):
            self.assert_allowed(web.exchange("tcp", address, PORT), address)

    def test_what_is_not_asked_for_teaches_nothing(self):
        """Records that were not asked for, another question, loops, and invalid messages."""
        wanted = ["deb.example.org", "A", "10.97.3.1", 3600]
        loop = "8180000100010000000003646562076578616d706c65036f726700000100 01c01f 0001000100000e10 00040a610301"
        self.name_server(
            {
                "evil.example.net": {
                    "answers": [[None, "A", "10.97.3.9", 0], wanted],
                    "additional": [wanted],
                },
                "other.example.net": {"answers": [[None, "A", "10.97.3.1", 0]]},
                "chain.example.net": {"answers": [[None, "CNAME", "deb.example.org", 0], wanted]},
                "x.pool.example.org": {
                    "answers": [
                        [None, "CNAME", "y.pool.example.org", 0],
                        ["y.pool.example.org", "CNAME", "x.pool.example.org", 0],
                    ]
                },
                "deb.example.org": {"raw": loop.replace(" ", "")},
            }
        )
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        for name in (
            "evil.example.net",
            "other.example.net",
            "chain.example.net",
            "x.pool.example.org",
            "deb.example.org",
        ):
            self.ask(web, name)
        for address in ("10.97.3.1", "10.97.3.9"):
            self.assert_refused(web.exchange("tcp", address, PORT), address)
        self.assertEqual(self.host.status()["names"]["addresses"], 0)

    def test_whom_nobody_asked_teaches_nothing(self):
        """Answers from an address or port that was not asked, or that was asked for something
        else."""
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        self.assertEqual(web.open("s", "udp", HOST4), "ok")
        poison = nameserver.message(0, "deb.example.org", [[None, "A", "10.97.3.2", 3600]]).hex()
        self.assertEqual(web.send_to("s", "?", WORLD4, 53), "ok")
        for forger, address, port in (("a", "10.97.3.3", 53), ("b", WORLD4, 5353)):
            self.assertEqual(self.far.open(forger, "udp", address, port), "ok")
            self.far.send_bytes(forger, poison, HOST4, web.port("s"))
        self.assert_refused(web.exchange("tcp", "10.97.3.2", PORT))
        self.assertEqual(self.host.status()["names"]["addresses"], 0)
        self.assertEqual(self.far.open("c", "udp", WORLD4, 53), "ok")  # the server that was asked
        self.far.send_bytes("c", poison, HOST4, web.port("s"))
        waiting.until(lambda: self.host.status()["names"]["addresses"] == 1, "its answer is used")

    def test_an_accomplice_is_no_name_server(self):
        """A name server that only the baseline allows, or that is the workload itself, adds no
        addresses."""
        zone = {"deb.example.org": {"answers": [[None, "A", "10.97.3.4", 3600]]}}
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        friend = self.name_server(
            zone, ("127.0.0.7", "::1"), self.host, [host.TRIRUN, "--label", "app=web", "--"]
        )
        self.assertEqual(self.ask(web, "deb.example.org", server="127.0.0.7"), ["10.97.3.4"])
        self.assertEqual(
            self.ask(web, "deb.example.org", "+tcp", server="127.0.0.7"), ["10.97.3.4"]
        )
        self.assert_refused(web.exchange("tcp", "10.97.3.4", PORT))
        self.assertIn("DNS answer of 127.0.0.7 for deb.example.org", self.host.log_text())
        self.host.explicit_reload(
            POLICY + '[[allow]]\nfrom = "app=web"\nto = "app=web"\nports = ["udp/53"]\n'
        )
        self.assertEqual(self.ask(web, "deb.example.org", server="127.0.0.7"), ["10.97.3.4"])
        self.assert_allowed(
            web.exchange("tcp", "10.97.3.4", PORT), "a rule allows it as a name server"
        )
        self.assertIsNone(friend.poll())

    def test_who_takes_a_resolvers_port_over_is_not_heard(self):
        """While conntrack remembers the flow, neither the workload that asked nor the daemon
        receives the answer."""
        self.host.explicit_reload(
            POLICY + '[[allow]]\nfrom = "app=web"\nto = ["@host", "app=dns"]\nports = ["udp/53"]\n'
        )
        web = self.host.labelled("app=web")
        stranger = self.host.labelled("app=other")
        poison = nameserver.message(0, "deb.example.org", [[None, "A", "10.97.3.5", 3600]]).hex()
        for index, resolver in enumerate((self.host.plain(), self.host.labelled("app=dns"))):
            with self.subTest(resolver=index):
                address = f"127.0.0.{9 + index}"
                self.assert_allowed(resolver.open("r", "udp", address, 53))
                self.assert_allowed(web.open("c", "udp", "127.0.0.1"))
                self.assert_allowed(web.connect("c", address, 53))
                self.assert_allowed(web.send_text("c", "?"))
                self.assertEqual(resolver.receive("r"), {"text": "?"})
                resolver.send_to("r", "an answer", "127.0.0.1", web.port("c"))
                self.assertEqual(web.receive("c"), {"text": "an answer"})
                resolver.close("r")
                self.assert_allowed(stranger.open("x", "udp", address, 53))
                stranger.send_bytes("x", poison, "127.0.0.1", web.port("c"))
                self.assertIn("error", web.receive("c", timeout=0.5))
                self.assertEqual(self.host.status()["names"]["addresses"], 0)
                stranger.close("x")
                self.assert_allowed(resolver.open("r", "udp", address, 53))
                resolver.send_to("r", "another", "127.0.0.1", web.port("c"))
                self.assertEqual(web.receive("c"), {"text": "another"})
                web.close("c")
                resolver.close("r")

    def test_dnsmasq_on_this_host(self):
        """As an unlabeled process at 127.0.0.53, and as a workload; queried with the resolver of
        libc."""
        self.host.explicit_reload(
            POLICY
            + '[[allow]]\nfrom = "app=web"\nto = ["@host", "app=dns"]\nports = ["udp/53", "tcp/53"]\n'
        )
        web = self.host.labelled("app=web")
        for index, prefix in enumerate(([], [host.TRIRUN, "--label", "app=dns", "--"])):
            server, address4, address6 = (
                f"127.0.0.{53 + index}",
                f"10.97.4.{index + 1}",
                f"fd00:97::4:{index + 1}",
            )
            self.dnsmasq(prefix, server, f"--host-record=deb.example.org,{address4},{address6}")
            for address in (address4, address6):
                self.assert_refused(web.exchange("tcp", address, PORT), address)
            found = web.run(
                [
                    "unshare",
                    "-m",
                    "sh",
                    "-c",
                    f"echo nameserver {server} >{self.host.undo.directory}/resolv.conf && "
                    f"mount --bind {self.host.undo.directory}/resolv.conf /etc/resolv.conf && getent ahosts deb.example.org",
                ]
            )
            self.assertEqual(
                {line.split()[0] for line in found["out"].splitlines()}, {address4, address6}, found
            )
            for address in (address4, address6):
                self.assert_allowed(web.exchange("tcp", address, PORT), address)

    def dnsmasq(self, prefix, address, *options):
        process = self.host.popen(
            [
                *prefix,
                "/usr/sbin/dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--user=root",
                "--bind-interfaces",
                f"--listen-address={address}",
                "--pid-file",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(host.kill_quietly, process)
        waiting.until(
            lambda: f"{address}:53 " in self.host.must(["ss", "-Hlnu"]), "dnsmasq listens"
        )

    def test_what_was_learned_outlives_reloads_and_the_daemon(self):
        self.name_server(
            {
                "deb.example.org": {"answers": [[None, "A", "10.97.5.1", 0]]},
                "x.pool.example.org": {"answers": [[None, "A", "10.97.5.2", 0]]},
            }
        )
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        for name in ("deb.example.org", "x.pool.example.org"):
            self.ask(web, name)
        self.assertEqual(web.open("c", "tcp", HOST4), "ok")
        self.assertEqual(web.connect("c", "10.97.5.1", PORT), "ok")
        self.host.stop(9)
        self.assert_allowed(web.exchange("tcp", "10.97.5.1", PORT), "the daemon is dead")
        self.assertEqual(
            self.ask(web, "deb.example.org"), ["10.97.5.1"], "answers pass without the daemon"
        )
        self.host.start()
        self.host.explicit_reload(POLICY + "# again\n")
        for address in ("10.97.5.1", "10.97.5.2"):
            self.assert_allowed(web.exchange("tcp", address, PORT), address)
        self.host.explicit_reload(POLICY.replace(', "*.pool.example.org"', ""))
        self.assert_refused(
            web.exchange("tcp", "10.97.5.2", PORT), "a name that was removed from policy"
        )
        self.assertEqual(web.send_text("c", "ping"), "ok")
        self.assertEqual(web.receive("c"), {"text": "ping"})
        listed = self.host.must(["nft", "list", "set", "inet", "trireme", "named4"])
        self.assertIn('comment "deb.example.org"', listed)

    def test_networks_by_name_and_by_cidr_are_judged_alike(self):
        """In any order: deny overrides allow, and a name adds to the CIDRs."""
        self.name_server(
            {
                "deb.example.org": {"answers": [[None, "A", "10.97.6.1", 0]]},
                "x.pool.example.org": {"answers": [[None, "A", "10.97.6.2", 0]]},
            }
        )
        cidr = f'[[network]]\nname = "near"\ncidrs = ["10.97.6.0/24"]\n[[allow]]\nfrom = "app=web"\nto = "@near"\nports = ["tcp/{PORT}"]\n'
        deny = '[[network]]\nname = "bad"\nnames = ["deb.example.org"]\n[[deny]]\nfrom = "*"\nto = "@bad"\n'
        web = self.host.labelled("app=web")
        for policy in (cidr + deny, deny + cidr):
            self.host.explicit_reload(RESOLVER + MAY_ASK + cidr)
            self.assert_allowed(web.exchange("tcp", "10.97.6.1", PORT))
            self.host.explicit_reload(RESOLVER + MAY_ASK + policy)
            self.assert_allowed(web.exchange("tcp", "10.97.6.1", PORT), "not asked for yet")
            for name in ("deb.example.org", "x.pool.example.org"):
                self.ask(web, name)
            self.assert_refused(web.exchange("tcp", "10.97.6.1", PORT), "denied by name")
            self.assert_allowed(web.exchange("tcp", "10.97.6.2", PORT), "by its CIDR")

    def test_it_is_explained_and_told(self):
        self.name_server({"deb.example.org": {"answers": [[None, "A", "10.97.7.1", 0]]}})
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")

        def explained():
            return self.host.trirectl(
                "policy",
                "explain",
                "--from",
                "app=web",
                "--to",
                "deb.example.org",
                "--port",
                f"tcp/{PORT}",
            )

        self.assertEqual(explained().returncode, 0)
        self.assertIn("no DNS answer for deb.example.org was seen", explained().stdout)
        self.ask(web, "deb.example.org")
        self.assertIn("deb.example.org at 10.97.7.1 (@world, @mirror)", explained().stdout)
        self.assertIn("to the mirror", explained().stdout)
        self.assert_refused(web.exchange("tcp", "10.97.7.1", PORT + 2))

        def reported():
            return [flow for flow in self.host.flows() if flow["port"] == PORT + 2]

        end = waiting.until(reported, "the refusal is logged")[0]["destination"]
        self.assertEqual((end["networks"], end["names"]), (["mirror"], ["deb.example.org"]))

    def test_sites_that_no_network_names_are_suggested_by_name(self):
        """On the first day, in audit mode, and the suggested policy then works."""
        port = self.far.serve("tcp", "::", PORT + 10)  # that no other test uses
        sites = {
            "deb.example.org": "10.97.11.1",
            "api.example.com": "10.97.11.2",
            "git.example.net": "10.97.11.3",
        }
        self.name_server(
            {name: {"answers": [[None, "A", address, 0]]} for name, address in sites.items()}
        )
        self.host.explicit_reload('[defaults]\nmode = "audit"\n')
        web = self.host.labelled("app=web")
        for name, address in sites.items():
            self.assertEqual(web.look_up_and_connect(name, WORLD4, port), [address, "ok"])

        def shown():
            ends = [flow["destination"] for flow in self.host.flows() if flow["port"] == port]
            return {end["address"]: end.get("names", []) for end in ends}

        waiting.until(
            lambda: shown() == {address: [name] for name, address in sites.items()},
            "flows show the names",
        )
        filters = ["--from", "app=web", "--port", f"tcp/{port},udp/53"]
        suggest = [host.TRIRECTL, "policy", "suggest", *filters]
        networks = json.loads(self.host.must([*suggest, "--json"]))["networks"]
        self.assertEqual(
            {each["name"]: each["names"] for each in networks},
            {"dns": [], **{name: [name] for name in sites}},
        )
        self.host.explicit_reload(self.host.must(suggest))
        self.assert_refused(web.exchange("tcp", "10.97.11.1", port), "its name was only seen")
        for name, address in sites.items():
            self.assertEqual(web.look_up_and_connect(name, WORLD4, port), [address, "ok"])
        self.assert_refused(web.exchange("tcp", "10.97.11.9", port))

    @unittest.skipUnless(host.LONG, "takes a TTL of a minute")
    def test_when_the_ttl_ends(self):
        """An address that a flow uses keeps its name, others lose it. The flow continues either
        way."""
        self.name_server(
            {
                "deb.example.org": {
                    "answers": [[None, "A", "10.97.9.1", 0], [None, "A", "10.97.9.2", 0]]
                }
            }
        )
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        self.ask(web, "deb.example.org")
        self.assertEqual(web.open("c", "tcp", HOST4), "ok")
        self.assertEqual(web.connect("c", "10.97.9.1", PORT), "ok")
        self.assert_allowed(web.exchange("tcp", "10.97.9.2", PORT))
        self.host.must(
            ["conntrack", "-D", "-d", "10.97.9.2"]
        )  # otherwise its slowly expiring entry would keep the name
        waiting.until(
            lambda: self.host.status()["names"]["addresses"] == 1,
            "no flow uses the other address",
            150,
            1,
        )
        self.assert_refused(web.exchange("tcp", "10.97.9.2", PORT))
        self.host.must([host.TRIRECTL, "reload"])
        self.assertEqual(web.send_text("c", "ping"), "ok")
        self.assertEqual(web.receive("c"), {"text": "ping"})
        self.assertEqual(self.ask(web, "deb.example.org"), ["10.97.9.1", "10.97.9.2"])
        self.assert_allowed(web.exchange("tcp", "10.97.9.2", PORT), "asked for again")

    def test_a_wildcard_with_5000_addresses(self):
        addresses = many(5000)
        self.name_server(
            {
                f"n{first}.pool.example.org": {
                    "answers": [
                        [None, "A", address, 0] for address in addresses[first : first + 250]
                    ]
                }
                for first in range(0, 5000, 250)
            }
        )
        self.host.explicit_reload(POLICY)
        web = self.host.labelled("app=web")
        for first in range(0, 5000, 250):
            self.assertEqual(len(self.ask(web, f"n{first}.pool.example.org", "+bufsize=8192")), 250)
        self.assertEqual(self.host.status()["names"]["addresses"], 5000)
        for address in addresses[::500]:
            self.assert_allowed(web.exchange("tcp", address, PORT), address)
        self.assert_refused(web.exchange("tcp", "10.97.63.1", PORT))


if __name__ == "__main__":
    unittest.main()
