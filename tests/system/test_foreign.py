# SPDX-License-Identifier: Apache-2.0
"""Rules, marks and connections of other tools are the same before, while and after trireme runs."""

import re
import unittest

from tests.system.host import Host, HostCase

RULES = """
table inet foreign {
  set s { type ipv4_addr; elements = { 192.0.2.7 } }
  chain in {
    type filter hook input priority 0; policy accept
    tcp dport 7 counter drop
  }
  chain out {
    type route hook output priority -150; policy accept
    tcp dport 20000-21000 meta mark set 0x10203 ct mark set 0x40506
    udp dport 20000-21000 meta mark set 0x10203 ct mark set 0x40506
  }
}
table ip nat2 {
  chain post {
    type nat hook postrouting priority 100; policy accept
    oifname "nowhere" masquerade
  }
}
"""


def foreign(host):
    """All rules except trireme's, without counters."""
    listing = host.must(["nft", "-s", "list", "ruleset"])
    ours = re.compile(r"^table inet trireme \{.*?^\}\n", re.S | re.M)
    return ours.sub("", listing)


def iptables(host):
    return "".join(
        line + "\n"
        for tool in ("iptables-legacy-save", "iptables-save", "ip6tables-save")
        for line in host.run([tool]).stdout.splitlines()
        if not line.startswith("#")
    )


class Neighbours(HostCase):
    @classmethod
    def setUpClass(cls):
        cls.host = Host(start=False)
        cls.addClassCleanup(cls.host.close)
        cls.host.nft(RULES)
        cls.host.must(
            [
                "iptables",
                "-w",
                "-t",
                "mangle",
                "-A",
                "OUTPUT",
                "-p",
                "tcp",
                "--dport",
                "22222",
                "-j",
                "MARK",
                "--set-mark",
                "7",
            ]
        )
        cls.before = (foreign(cls.host), iptables(cls.host))
        cls.host.start()

    def assert_untouched(self, when):
        self.assertEqual(foreign(self.host), self.before[0], when)
        self.assertEqual(iptables(self.host), self.before[1], when)

    def test_rules_are_byte_for_byte_the_same(self):
        self.assert_untouched("while it runs")
        web = self.host.labelled("app=web")
        port = web.serve("tcp", "127.0.0.1", 20001)
        web.exchange("tcp", "127.0.0.1", port)
        self.assert_untouched("with a workload")
        self.host.explicit_reload('[[allow]]\nfrom = "@host"\nto = "app=web"\n')
        self.assert_untouched("after a reload")
        self.host.restart()
        self.assert_untouched("after a crash")
        self.host.kill_agents()
        self.host.stop()
        self.assert_untouched("after a stop")
        self.host.start()
        self.host.explicit_reload("")

    def test_marks_stay_with_their_owner(self):
        web, same = self.host.labelled("app=web"), self.host.labelled("app=web")
        for kind, port in (("tcp", 20002), ("udp", 20003)):
            web.serve(kind, "127.0.0.1", port)
            same.open("c", kind, "127.0.0.1", 30000)
            self.assert_allowed(same.connect("c", "127.0.0.1", port))
            self.assert_allowed(same.send_text("c", "x"))
            self.assertEqual(same.receive("c"), {"text": "x"})
            entries = self.host.must(["conntrack", "-L", "-p", kind, "--dport", str(port)])
            self.assertIn(f"mark={0x40506}", entries)
            same.close("c")

    def test_our_table_neither_reads_nor_sets_marks(self):
        table = self.host.must(["nft", "-s", "list", "table", "inet", "trireme"])
        self.assertNotRegex(table, r"\bct mark\b")
        self.assertNotRegex(table, r"\b(meta )?mark set\b")

    def test_the_ruleset_can_be_listed(self):
        workloads = [self.host.labelled(f"app=w{number}") for number in range(3)]
        self.assertEqual(len(self.host.workloads()), len(workloads))
        done = self.host.run(["nft", "list", "ruleset"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            [
                line
                for line in done.stderr.splitlines()
                if "iptables-nft" not in line and "unhandled NFPROTO" not in line
            ],
            [],
        )
        self.assertIn("table inet trireme", done.stdout)
        done = self.host.run(["nft", "-j", "list", "ruleset"])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_flows_between_others_go_on_as_they_began(self):
        """Connections and UDP flows of unlabeled processes that are older than the table."""
        self.host.stop()
        self.host.must(["nft", "delete", "table", "inet", "trireme"])
        server, client = self.host.plain(), self.host.plain()
        port = server.serve("tcp", "127.0.0.1")
        client.open("c", "tcp", "127.0.0.1")
        self.assert_allowed(client.connect("c", "127.0.0.1", port))
        self.host.start()
        self.assert_allowed(client.send_text("c", "still there"))
        self.assertEqual(client.receive("c"), {"text": "still there"})


if __name__ == "__main__":
    unittest.main()
