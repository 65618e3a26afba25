# SPDX-License-Identifier: Apache-2.0
"""A link that loses and duplicates packets. Every allowed connection is established, if only after
TCP's retransmissions; no denied one is."""

import unittest

from tests.system import host, linked
from tests.system.linked import CLIENT, PORT, SERVER, SERVER6

PATIENCE = 900 if host.LONG else 130  # TCP's own limits: tcp_retries2, tcp_syn_retries


def quantiles(times):
    return ", ".join(
        f"{name} {times[min(len(times) * percent // 100, len(times) - 1)]:.3f} s"
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("longest", 100))
    )


class BadLink(linked.LinkedCase):
    def setUp(self):
        super().setUp()
        self.stranger = self.client.labelled("app=other")

    def expect_all(self, loss, twice, count, address=SERVER, given_up=0):
        """`given_up`: how many connections TCP itself may end. If all packets of a client are lost
        for a minute, the server has forgotten its SYN and resets the connection
        (tcp_synack_retries); without tokens this is as frequent."""
        count = 1000 if host.LONG else count
        before = self.served()["accepted"]
        self.wire.be(loss=loss, twice=twice)
        self.stranger.send("burst", address, PORT, count // 3, 5.0)
        bystanders = self.without_tokens(address, count) if host.LONG else None
        done = self.friend.burst(address, PORT, count, PATIENCE, apart=0.01)
        refused = self.stranger.answer()
        self.assertGreaterEqual(done["outcomes"]["ok"], count - given_up, done["outcomes"])
        self.assertNotIn("ok", refused["outcomes"])
        self.assertLessEqual(self.served()["accepted"], before + count)
        print(
            f"\n{loss} % lost, {twice} % repeated, connect and exchange: {quantiles(done['times'])}",
            flush=True,
        )
        if bystanders:
            bare = bystanders.answer()
            print(
                f"without tokens, at the same time: {quantiles(bare['times'])}; {bare['outcomes']} to {done['outcomes']}",
                flush=True,
            )
        return done["times"]

    def without_tokens(self, address, count):
        """Starts the same burst between unlabeled processes."""
        self.server.plain().serve("tcp", "::", PORT + 1)
        client = self.client.plain()
        client.send("burst", address, PORT + 1, count, PATIENCE, apart=0.01)
        return client

    def test_one_percent(self):
        self.expect_all(1, 1, 60)

    def test_ten_percent(self):
        self.expect_all(10, 10, 30)

    def test_thirty_percent(self):
        self.expect_all(30, 10, 8, SERVER6, given_up=5 if host.LONG else 1)

    def test_everything_comes_twice(self):
        self.assertLess(self.expect_all(0, 100, 60)[-1], 0.9, "no connection waits for a time-out")

    def test_a_lost_proof_costs_data_no_time_out(self):
        """The server's side holds the data and asks for PROOF again, so the client's TCP
        retransmits nothing."""
        unproved, repeated = self.refused("unproved_data"), []
        for number in range(5):  # on a slow machine one may exceed a time-out
            self.wire.be(
                hold="meta length 72 tcp flags & (syn|ack|psh) == ack numgen inc mod 1000000 == 0",
                from_side="client",
            )
            name = f"lost {number}"
            self.friend.open(name, "tcp", CLIENT)
            self.assertEqual(self.friend.connect(name, SERVER, PORT), "ok")
            self.assertEqual(self.friend.send_text(name, "ping"), "ok")
            self.assertEqual(self.friend.receive(name), {"text": "ping"})
            self.assertGreater(self.refused("unproved_data"), unproved + number, "PROOF was lost")
            repeated.append(self.friend.retransmissions(name))
        self.assertEqual(min(repeated), 0, repeated)

    def test_a_client_that_has_lost_its_connection_connects_again(self):
        """The old connection remains at the server, which answers the new SYN with its own numbers;
        the client's reset then ends it (RFC 9293, section 3.5.1)."""
        port = 45_000
        self.friend.open("old", "tcp", CLIENT, port)
        self.assertEqual(self.friend.connect("old", SERVER, PORT), "ok")
        self.wire.be(hold="meta l4proto tcp", from_side="client")
        self.friend.close("old", reset=True)
        self.wire.be()
        self.friend.open("new", "tcp", CLIENT, port)
        self.assertEqual(self.friend.connect("new", SERVER, PORT, timeout=5), "ok")
        self.assertEqual(self.friend.send_text("new", "ping"), "ok")
        self.assertEqual(self.friend.receive("new"), {"text": "ping"})


if __name__ == "__main__":
    unittest.main()
