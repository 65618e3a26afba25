# SPDX-License-Identifier: Apache-2.0
"""What real TCPs do beyond the plain three segments, between two hosts: Multipath TCP, Fast Open,
SYN cookies, deferred accept, small segments, servers that speak first, large first writes. All
allowed connections are established without extra time-outs, and no denied one is."""

import socket
import unittest

from tests.system import fleet

TCP_FASTOPEN, TCP_FASTOPEN_CONNECT = 23, 30  # linux/tcp.h


class Habits(fleet.FleetCase, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = fleet.Fleet(("client", "server"), fleet.shared_secret)
        cls.addClassCleanup(cls.fleet.close)
        cls.client, cls.server = cls.fleet["client"], cls.fleet["server"]

    def setUp(self):
        self.addCleanup(self.fleet.kill_agents)
        self.web, self.friend = self.server.labelled("app=web"), self.client.labelled("app=web")
        self.stranger = self.client.labelled("app=other")

    def set(self, name, client, server=None):
        """Sets sysctls in the network namespaces of the two hosts."""
        for each, value in (
            (self.client, client),
            (self.server, client if server is None else server),
        ):
            before = each.must(["sysctl", "-n", name]).strip()
            each.must(["sysctl", "-qw", f"{name}={value}"])
            self.addCleanup(each.must, ["sysctl", "-qw", f"{name}={before}"])

    def repeated(self):
        """The number of segments that the TCPs of both hosts have retransmitted so far."""
        return sum(self.count(each, "TcpRetransSegs") for each in (self.client, self.server))

    @staticmethod
    def count(each, name):
        """A TCP counter of this host."""
        return int(each.must(["nstat", "-asz", name]).split(name)[1].split()[0])

    def expect(
        self, kind="tcp", served="tcp", serving=(), connecting=(), text="ping", repetitions=0
    ):
        """Makes five exchanges with each address of the server. At least one of the five must have
        no more than these retransmissions; a slow machine may need one at times."""
        port = self.web.serve(served, "::", options=serving)
        for address in self.fleet.addresses("server"):
            seen = []
            for _ in range(5):
                before = self.repeated()
                self.assertEqual(
                    self.friend.exchange(
                        kind, address, port, text=text, options=connecting, timeout=5
                    ),
                    "ok",
                    address,
                )
                seen.append(self.repeated() - before)
            self.assertLessEqual(min(seen), repetitions, f"{address}: {seen}")
        counted = dict(self.web.served(served, port))
        self.assertEqual(counted, {"accepted": 10, "bytes": 10 * len(text)}, "no data twice")
        for address in self.fleet.addresses("server"):
            self.assertEqual(
                self.stranger.exchange(kind, address, port, text=text, options=connecting),
                "ECONNREFUSED",
                address,
            )
        self.assertEqual(self.web.served(served, port), counted, "a stranger's data")

    def test_plain(self):
        self.expect()

    def test_multipath(self):
        """Both ends fall back to TCP, because the option is removed from the SYN. One end or both
        support it."""
        for kind, served in (("mptcp", "mptcp"), ("mptcp", "tcp"), ("tcp", "mptcp")):
            self.expect(kind, served)
        port = self.web.serve("mptcp", "::")
        self.friend.open("m", "mptcp", "10.98.0.1")
        self.assertEqual(self.friend.connect("m", "10.98.0.2", port), "ok")
        self.assertFalse(self.friend.is_multipath("m"))

    def test_multipath_is_whole_on_one_host(self):
        """A connection that needs no token keeps the option. Each subflow is decided on like a
        connection."""
        port = self.web.serve("mptcp", "127.0.0.1")
        near = self.server.labelled("app=web")
        near.open("m", "mptcp", "127.0.0.1")
        self.assertEqual(near.connect("m", "127.0.0.1", port), "ok")
        self.assertTrue(near.is_multipath("m"))
        other = self.server.labelled("app=other")
        self.assertEqual(other.exchange("mptcp", "127.0.0.1", port), "ECONNREFUSED")

    def test_fast_open(self):
        """Data of the SYN, with and without a cookie, is sent again after the handshake. There is
        no other cost."""
        accepts = [(socket.IPPROTO_TCP, TCP_FASTOPEN, 100)]
        early = [(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)]
        for setting in (0x3, 0x207):
            self.set("net.ipv4.tcp_fastopen", setting)
            self.expect(serving=accepts, connecting=early, repetitions=1)
        self.assertGreaterEqual(
            self.count(self.client, "TcpExtTCPFastOpenActiveFail"),
            10,
            "SYNs had data, which was not acknowledged",
        )

    def test_syn_cookies(self):
        """The server's TCP keeps no state for a SYN."""
        self.set("net.ipv4.tcp_syncookies", 2)
        before = self.count(self.server, "TcpExtSyncookiesRecv")
        self.expect()
        self.assertGreaterEqual(self.count(self.server, "TcpExtSyncookiesRecv") - before, 10)

    def test_a_deferred_accept(self):
        """The server's TCP does not complete the handshake with an acknowledgement without data,
        such as PROOF."""
        self.expect(serving=[(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)])

    def test_small_segments_and_a_narrow_link(self):
        self.expect(connecting=[(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)], text="x" * 5_000)
        for each in (self.client, self.server):
            each.ip("link set net0 mtu 1280")
            self.addCleanup(each.ip, "link set net0 mtu 1500")
        self.expect(text="x" * 20_000)

    def test_a_large_first_write(self):
        """The first acknowledgement carries data, which the device would segment."""
        self.expect(text="x" * 200_000, connecting=[(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)])

    def test_no_timestamps_and_no_scaling(self):
        for name in ("net.ipv4.tcp_timestamps", "net.ipv4.tcp_window_scaling", "net.ipv4.tcp_sack"):
            self.set(name, 0)
        self.expect()

    def test_a_server_that_speaks_first(self):
        """The client sends nothing."""
        port = self.web.serve("tcp", "::", greeting="welcome")
        for address in self.fleet.addresses("server"):
            seen = []
            for number in range(5):
                name, before = f"{address} {number}", self.repeated()
                self.friend.open(name, "tcp", "::" if ":" in address else "0.0.0.0")
                self.assertEqual(self.friend.connect(name, address, port), "ok")
                self.assertEqual(self.friend.receive(name), {"text": "welcome"})
                seen.append(self.repeated() - before)
            self.assertEqual(min(seen), 0, f"{address}: {seen}")

    def test_no_delay(self):
        self.expect(connecting=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)], text="x" * 3_000)


if __name__ == "__main__":
    unittest.main()
