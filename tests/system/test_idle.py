# SPDX-License-Identifier: Apache-2.0
"""Proved connections stay authorized as long as their sockets exist: if they are idle, half closed,
or forgotten by conntrack on either host, and over restarts of either daemon. No other socket gains
access by them."""

import unittest

from tests.system import fleet, waiting
from tests.system.host import LONG

PORT = 8080
SERVER4, SERVER6 = "10.98.0.2", "fd00:98::2"
PLAIN_PORT = 8090
TO_ADDRESS = f"""
[[network]]
name = "server"
cidrs = ["{SERVER4}/32", "{SERVER6}/128"]

[[allow]]
from = ["app=web", "app=other"]
to = ["@server"]
ports = ["tcp/{PLAIN_PORT}", "udp/{PLAIN_PORT}", "udp/{PORT}"]
"""
FROM_ADDRESS = f"""
[[allow]]
from = ["@world"]
to = ["app=web"]
ports = ["tcp/{PLAIN_PORT}"]
"""
NO_RESETS = """table inet no_resets {
  chain out {
    type filter hook output priority 200
    oifname "net0" tcp flags & rst == rst drop
  }
}
"""


def forget(*hosts):
    for host in hosts:
        for family in ("ipv4", "ipv6"):
            host.must(["conntrack", "-F", "-f", family])


class Idle:
    """Between two hosts; subclasses define `TRUST`."""

    CLIENT, SERVER, ANY, FAMILY = "10.98.0.1", SERVER4, "0.0.0.0", "ipv4"

    @classmethod
    def setUpClass(cls):
        cls.fleet = fleet.Fleet(("client", "server"), cls.TRUST)
        cls.addClassCleanup(cls.fleet.close)
        cls.client, cls.server = cls.fleet["client"], cls.fleet["server"]

    def setUp(self):
        self.addCleanup(self.fleet.kill_agents)
        self.web = self.server.labelled("app=web")
        self.friend = self.client.labelled("app=web")

    def connected(self, name="c", port=0):
        """Opens a connection: "c" at the client, "s" + "c" at the server; the listener is "l".
        Returns the client's port."""
        if "l" not in self.listening():
            self.assertEqual(self.web.open("l", "tcp", self.ANY, PORT, listen=64), "ok")
            self.opened.add("l")
        self.assertEqual(self.friend.open(name, "tcp", self.CLIENT, port), "ok")
        self.assertEqual(self.friend.connect(name, self.SERVER, PORT), "ok")
        self.assertEqual(self.web.accept("l", "s" + name), "ok")
        self.assert_speaks(name)
        return self.friend.port(name)

    def remembers(self, host):
        entries = host.must(["conntrack", "-L", "-f", self.FAMILY, "-p", "tcp"])
        return f"dport={PORT} " in entries

    def listening(self):
        if not hasattr(self, "opened"):
            self.opened = set()
        return self.opened

    def assert_speaks(self, name="c", first="client"):
        ends = [(self.friend, name), (self.web, "s" + name)]
        for sender, receiver in [ends, ends[::-1]] if first == "client" else [ends[::-1], ends]:
            text = f"from {sender[1]}"
            self.assertEqual(sender[0].send_text(sender[1], text), "ok")
            self.assertEqual(receiver[0].receive(receiver[1]), {"text": text})

    def test_whoever_speaks_first_after_conntrack_forgot(self):
        self.connected()
        for hosts in ((self.client,), (self.server,), (self.client, self.server)):
            for first in ("client", "server"):
                with self.subTest(hosts=len(hosts), first=first):
                    forget(*hosts)
                    self.assert_speaks(first=first)

    def test_the_end_reaches_the_other_end(self):
        """Conntrack calls a FIN of a flow that it does not know invalid."""
        for closes, stays in ((self.friend, self.web), (self.web, self.friend)):
            self.connected()
            forget(self.client, self.server)
            closes.close("c" if closes is self.friend else "sc")
            name = "sc" if closes is self.friend else "c"
            self.assertEqual(stays.receive(name), {"text": ""})
            stays.close(name)

    def test_half_closed(self):
        """By default, conntrack forgets a half-closed connection after a minute."""
        self.connected()
        self.assertEqual(self.friend.shutdown("c"), "ok")
        self.assertEqual(self.web.receive("sc"), {"text": ""})
        forget(self.client, self.server)
        self.assertEqual(self.web.send_text("sc", "late answer"), "ok")
        self.assertEqual(self.friend.receive("c"), {"text": "late answer"})
        self.web.close("sc")
        self.assertEqual(self.friend.receive("c"), {"text": ""})

    def test_restarts_of_either_daemon(self):
        self.connected()
        for host in (self.client, self.server):
            for end in ("stop", "kill"):
                with self.subTest(host=host, end=end):
                    if end == "kill":
                        host.restart()
                    else:
                        host.stop()
                        host.start()
                    forget(self.client, self.server)
                    self.assert_speaks(first="server")

    def test_reloads_judge_it_by_who_began_it(self):
        """To conntrack the server's answer is the first packet of the flow."""
        self.connected()
        forget(self.client, self.server)
        self.assert_speaks(first="server")
        self.client.policy("[defaults]\nrefuse = \"reject\"\n")
        self.assert_speaks(first="server")
        shown = waiting.until(
            lambda: self.client.trirectl("flows", "--live").stdout.splitlines(),
            "the connection is listed",
        )
        self.assertIn(f"tcp/{PORT}", "\n".join(shown))

    def test_policy_that_allows_it_no_longer_ends_it(self):
        self.connected()
        forget(self.client, self.server)
        self.server.policy('[defaults]\nbaseline = "none"\n')
        self.addCleanup(self.server.policy, "")
        self.friend.send_text("c", "not allowed")
        self.assertNotIn("text", self.web.receive("sc", timeout=0.5))

    def test_nobody_else_goes_on_with_it(self):
        """The client has ended without a FIN, and another process has its port."""
        self.client.nft(NO_RESETS)
        self.addCleanup(self.client.must, ["nft", "delete", "table", "inet", "no_resets"])
        for stranger in (self.client.plain(), self.client.labelled("app=db")):
            port = self.connected()
            forget(self.client, self.server)
            self.friend.close("c", reset=True)
            outcome = waiting.until(
                lambda who=stranger, port=port: self.taken(who, port),
                "the client's port is free",
                5,
            )
            self.assertNotEqual(outcome, "ok")
            self.assertNotIn("text", self.web.receive("sc", timeout=0.1))
            self.web.close("sc")

    def taken(self, stranger, port):
        outcome = stranger.exchange(
            "tcp", self.SERVER, PORT, source=[self.CLIENT, port], timeout=0.3
        )
        return outcome if outcome not in ("EADDRINUSE", "EADDRNOTAVAIL") else None

    def test_peers_that_prove_nothing(self):
        """Flows that policy allows by address, with the unlabeled process on either host."""
        self.client.policy(TO_ADDRESS)
        self.addCleanup(self.client.policy, "")
        self.server.policy(FROM_ADDRESS)
        self.addCleanup(self.server.policy, "")
        stranger, guest = self.server.plain(), self.client.plain()
        for client, server in ((self.friend, stranger), (guest, self.web)):
            self.assertEqual(server.open("pl", "tcp", self.SERVER, PLAIN_PORT, listen=4), "ok")
            self.assertEqual(client.open("p", "tcp", self.CLIENT), "ok")
            self.assertEqual(client.connect("p", self.SERVER, PLAIN_PORT), "ok")
            self.assertEqual(server.accept("pl", "ps"), "ok")
            for sender, receiver in (
                ((client, "p"), (server, "ps")),
                ((server, "ps"), (client, "p")),
            ):
                forget(self.client, self.server)
                for text in ("still here", "after a reload"):
                    self.assertEqual(sender[0].send_text(sender[1], text), "ok")
                    self.assertEqual(receiver[0].receive(receiver[1]), {"text": text})
                    self.client.explicit_reload(TO_ADDRESS)
                    self.server.explicit_reload(FROM_ADDRESS)
            for agent, names in ((client, ("p",)), (server, ("ps", "pl"))):
                for name in names:
                    agent.close(name)

    def datagram_flow(self):
        """Begins a flow from the friend's socket "u" to the server's "u". Returns the friend's
        port."""
        self.assertEqual(self.friend.open("u", "udp", self.CLIENT), "ok")
        port = self.friend.port("u")
        self.assertEqual(self.friend.send_to("u", "hello", self.SERVER, PORT), "ok")
        self.assertEqual(self.web.receive("u"), {"text": "hello"})
        return port

    def test_who_takes_the_port_of_a_datagram_flow_gets_nothing(self):
        """The client's conntrack has forgotten the flow, but the server's has not."""
        self.assertEqual(self.web.open("u", "udp", self.SERVER, PORT), "ok")
        self.client.policy(TO_ADDRESS)  # allows others to reach the server by address
        self.addCleanup(self.client.policy, "")
        for restart, labels in (
            (None, None),
            ("stop", None),
            ("kill", None),
            (None, "app=other"),
        ):
            port = self.datagram_flow()
            self.friend.end()
            if restart == "stop":
                self.client.stop()
                self.client.start()
            elif restart == "kill":
                self.client.restart()
            forget(self.client)
            stranger = self.client.labelled(labels) if labels else self.client.plain()
            self.assertEqual(stranger.open("t", "udp", self.CLIENT, port), "ok")
            for _ in range(4):
                stranger.send_to("t", "as somebody else", self.SERVER, PORT)
                self.assertNotIn("text", self.web.receive("u", timeout=0.2))
            # A new flow from this port to another server is allowed.
            other = self.server.plain()
            other.serve("udp", self.SERVER, PLAIN_PORT)
            stranger.close("t")
            self.assertEqual(
                stranger.exchange("udp", self.SERVER, PLAIN_PORT, source=[self.CLIENT, port]), "ok"
            )
            other.stop_serving("udp", PLAIN_PORT)
            stranger.end()
            self.friend = self.client.labelled("app=web")

    def test_short_time_outs_of_conntrack(self):
        """A connection pool whose connections are idle for a night, simulated by short
        time-outs."""
        for host in (self.client, self.server):
            for name in ("established", "unacknowledged", "close_wait", "fin_wait"):
                host.must(["sysctl", "-qw", f"net.netfilter.nf_conntrack_tcp_timeout_{name}=1"])
        forget(self.client, self.server)  # connections of other tests in TIME_WAIT
        names = [f"p{i}" for i in range(20)]
        for name in names:
            self.connected(name)
        for _ in range(20 if LONG else 2):
            waiting.until(
                lambda: not self.remembers(self.client) and not self.remembers(self.server),
                "conntrack has forgotten all of them",
                20,
            )
            for name in names:
                self.assert_speaks(name)


class SharedSecret(Idle, fleet.FleetCase, unittest.TestCase):
    TRUST = staticmethod(fleet.shared_secret)


class Ipv6(SharedSecret):
    CLIENT, SERVER, ANY, FAMILY = "fd00:98::1", SERVER6, "::", "ipv6"


@unittest.skipUnless(LONG, "how a host proves itself does not matter later")
class Certificates(Idle, fleet.FleetCase, unittest.TestCase):
    TRUST = staticmethod(fleet.certificates)


if __name__ == "__main__":
    unittest.main()
