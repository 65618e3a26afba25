# SPDX-License-Identifier: Apache-2.0
"""An attacker without a credential on the link between two hosts, who forges, repeats, splices,
cuts and flips packets."""

import itertools
import random
import unittest

from tests.system import host, linked, packets, waiting
from tests.system.linked import CLIENT, PORT, SERVER, STRANGER
from tests.system.packets import ACK, HELLO, PSH, REPLY, RST, SYN, Segment

OPEN_PORT = 8081  # reachable for @world
FIN = 1


class Hostile(linked.LinkedCase):
    # Of the stranger. Each is used once: the server remembers requests of tests before.
    ports = itertools.count(10_000)
    POLICY = f'[[allow]]\nfrom = "@world"\nto = "app=web"\nports = ["tcp/{OPEN_PORT}"]\n'

    def setUp(self):
        super().setUp()
        self.to_server, self.to_client = self.wire.tap("server"), self.wire.tap("client")
        self.addCleanup(self.to_server.close)
        self.addCleanup(self.to_client.close)
        self.port = next(self.ports)

    # --- tokens of both hosts, recorded on the link ---

    def overhear(self):
        """HELLO, REPLY and PROOF of a connection between friends."""
        self.to_server.drain()
        self.to_client.drain()
        self.assertEqual(self.friend.exchange("tcp", SERVER, PORT), "ok")
        hello = self.to_client.read(lambda segment: segment.token == HELLO)
        proof = self.to_client.read(lambda segment: segment.proof)
        reply = self.to_server.read(lambda segment: segment.token == REPLY)
        self.assertTrue(hello and reply and proof)
        return hello, reply, proof

    # --- packets of the stranger ---

    def stranger(self, flags, port=PORT, **fields):
        self.to_server.send(Segment(STRANGER, SERVER, self.port, port, flags, **fields).packet())

    def ask(self, data, port=PORT, seconds=3.0):
        """Sends a SYN with this data from a new port. Returns the server's answer, None if there is
        none."""
        self.port = next(self.ports)
        self.to_server.drain()
        self.stranger(SYN, port, seq=1000, options=packets.OPTIONS, data=data)
        return self.to_server.read(lambda segment: segment.dport == self.port, seconds)

    def go_on(self, answer, port=PORT, tag=None, data=b"let me in"):
        """Answers a SYN-ACK: sends PROOF if there is a tag, then data."""
        if tag is not None:
            self.stranger(
                ACK, port, seq=1001, ack=answer.seq + 1, options=packets.proof_option(tag)
            )
        self.stranger(ACK, port, seq=1001, ack=answer.seq + 1)
        self.stranger(ACK | PSH, port, seq=1001, ack=answer.seq + 1, data=data)

    def assert_nothing_came_in(self, before, port=PORT):
        """Asserts that nothing was accepted. First makes an exchange of the friend, so that the
        server's verifier has seen everything that was sent before."""
        self.assertEqual(self.friend.exchange("tcp", SERVER, PORT), "ok")
        expected = dict(before)
        if port == PORT:
            expected = {"accepted": before["accepted"] + 1, "bytes": before["bytes"] + 4}
        waiting.until(lambda: self.served(port)["bytes"] >= expected["bytes"], "the friend's data")
        self.assertEqual(self.served(port), expected)

    # --- tests ---

    def test_a_reset_with_a_forged_ruling_authorizes_nothing(self):
        """Root on the server's host helps a stranger by sending the packets that the verifier would
        send: resets pass without a query, whatever their priority."""
        hello, _, _ = self.overhear()
        before, confederate = self.served(), self.server.plain()
        for ruling in (0xF1000000, 0xF2000000, 0xF1000000 | 1000):
            answer = self.ask(hello.data)
            reset = Segment(SERVER, STRANGER, PORT, self.port, RST, seq=answer.seq + 1)
            self.to_server.drain()
            confederate.send_packet(STRANGER, reset.packet().hex(), ruling)
            self.assertTrue(
                self.to_server.read(
                    lambda segment: segment.flags & RST and segment.dport == self.port
                ),
                "the reset is sent",
            )
            self.go_on(answer)
        self.assert_nothing_came_in(before)

    def test_hello_repeated_by_a_stranger_gets_nowhere_without_proof(self):
        hello, reply, proof = self.overhear()
        before, forged, log = (
            self.served(),
            self.refused("forged_proof"),
            len(self.server.log_text()),
        )
        for tag in (None, proof.proof, bytes(16), reply.data[-16:]):
            answer = self.ask(hello.data)
            self.assertEqual(answer.flags & (SYN | ACK | RST), SYN | ACK)
            self.assertEqual(answer.token, REPLY)
            self.assertNotEqual(answer.data, reply.data)
            self.go_on(answer, tag=tag)
        for _ in range(50):
            self.go_on(answer, tag=random.randbytes(16))
        self.assert_nothing_came_in(before)
        waiting.until(lambda: self.refused("forged_proof") == forged + 53, "all are counted")
        self.assertGreaterEqual(self.refused("unproved_data"), 4)
        # More than five seconds after the event of another test, it is reported again.
        reported = waiting.until(
            lambda: [flow for flow in self.server.flows() if flow.get("cause") == "forged_proof"],
            "it is reported",
        )
        self.assertEqual(reported[0]["source"]["address"], STRANGER)
        lines = [
            line
            for line in self.server.log_text()[log:].splitlines()
            if "proof is not valid" in line
        ]
        self.assertLessEqual(len(lines), 1, "one in five seconds: " + "\n".join(lines))

    def test_a_request_that_conntrack_has_forgotten_is_completed_by_nobody(self):
        """TCP remembers a request for a minute. A reset that TCP ignores ends the conntrack entry
        after ten seconds. Rules do not see the cgroup of a request."""
        hello, _, _ = self.overhear()
        before = self.served()
        for restart in (False, False, True):
            answer = self.ask(hello.data)
            self.assertEqual(answer.flags & (SYN | ACK | RST), SYN | ACK)
            if restart:
                self.server.restart()
            self.server.must(["conntrack", "-F"])
            self.go_on(answer)
        self.assert_nothing_came_in(before)

    def test_changed_hellos_are_refused(self):
        hello, _, proof = self.overhear()
        before = self.served()
        size = len(hello.data)
        changes = [hello.data[:cut] for cut in (8, 9, 20, 31, 32, 40, size - 1)] + [
            hello.data + b"x"
        ]
        changes += [
            packets.flip(hello.data, bit) for bit in range(64, size * 8, host.LONG and 1 or 11)
        ]
        answers = {"refused": 0, "silent": 0, "answered": 0}
        for data in changes:
            answer = self.ask(data, seconds=0.3)
            if answer is None:
                answers["silent"] += 1
            elif answer.flags & RST:
                answers["refused"] += 1
            else:
                answers["answered"] += 1
                self.go_on(answer, tag=proof.proof)
        self.assertGreater(answers["refused"], 10, answers)
        self.assert_nothing_came_in(before)
        self.assertGreaterEqual(self.refused("malformed_token"), 7)

    def test_a_reply_of_another_connection_is_not_believed(self):
        _, reply, _ = self.overhear()
        forged = self.refused("forged_reply", self.client)
        self.wire.be(hold="tcp flags & (syn|ack) == (syn|ack)", from_side="server")
        self.friend.open("c", "tcp", CLIENT)
        self.to_client.drain()
        self.friend.connect_start("c", SERVER, PORT)
        syn = self.to_client.read(lambda segment: segment.token == HELLO)
        true = self.to_server.read(
            lambda segment: segment.token == REPLY and segment.dport == syn.sport
        )
        for data in [reply.data] + [
            packets.flip(true.data, bit) for bit in range(64, len(true.data) * 8, 23)
        ]:
            self.to_client.send(true.changed(data=data).packet())
            if self.friend.state("c") != 2:
                break
        # Either way there is no connection and no PROOF.
        self.assertIn(self.friend.state("c"), (2, 7))
        self.assertIsNone(self.to_client.read(lambda segment: segment.proof, 0.2))
        self.assertGreater(self.refused("forged_reply", self.client), forged)

    def test_a_forged_reply_leaves_the_handshake_to_the_true_one(self):
        _, reply, _ = self.overhear()
        self.wire.be(hold="tcp flags & (syn|ack) == (syn|ack)", from_side="server")
        self.friend.open("c", "tcp", CLIENT)
        self.to_client.drain()
        self.friend.connect_start("c", SERVER, PORT)
        syn = self.to_client.read(lambda segment: segment.token == HELLO)
        true = self.to_server.read(
            lambda segment: segment.token == REPLY and segment.dport == syn.sport
        )
        for data in (
            reply.data,
            packets.flip(true.data, len(true.data) * 8 - 1),
            packets.flip(true.data, 12 * 8),
        ):
            self.to_client.send(true.changed(data=data).packet())
        self.assertEqual(self.friend.state("c"), 2)
        self.to_client.send(true.packet())
        waiting.until(lambda: self.friend.state("c") == 1, "the true REPLY connects")

    def test_a_server_that_takes_the_token_off_is_refused(self):
        self.wire.be(hold="tcp flags & (syn|ack) == (syn|ack)", from_side="server")
        self.to_client.drain()
        self.friend.open("c", "tcp", CLIENT)
        self.friend.connect_start("c", SERVER, PORT)
        syn = self.to_client.read(lambda segment: segment.token == HELLO)
        true = self.to_server.read(
            lambda segment: segment.token == REPLY and segment.dport == syn.sport
        )
        self.to_client.send(true.changed(data=b"").packet())
        waiting.until(lambda: self.friend.state("c") == 7, "refused")
        waiting.until(
            lambda: [flow for flow in self.client.flows() if flow.get("cause") == "no_proof"],
            "the client reports it",
        )

    def test_proof_flipped_on_the_wire_delays_and_nothing_else(self):
        before = self.served()
        self.wire.be(
            hold="meta length 72 tcp flags & (syn|ack|psh) == ack", from_side="client"
        )  # PROOF, after the timestamps
        self.to_client.drain()
        self.friend.open("c", "tcp", CLIENT)
        self.assertEqual(
            self.friend.connect("c", SERVER, PORT), "ok", "the client has accepted the reply"
        )
        true = self.to_client.read(lambda segment: segment.proof)
        for bit in range(128):
            self.to_server.send(
                true.changed(options=packets.proof_option(packets.flip(true.proof, bit))).packet()
            )
        self.assertEqual(self.friend.send_text("c", "ping"), "ok")
        self.assertEqual(self.friend.receive("c", timeout=0.3), {"error": "timeout"})
        self.assertEqual(self.served(), before)
        self.wire.be()
        self.assertEqual(self.friend.receive("c", timeout=10), {"text": "ping"})

    def test_a_segment_far_outside_the_window_ends_no_connection(self):
        """Conntrack calls the segment invalid, so no rule knows its flow; a reset in answer to it
        would end the connection."""
        self.to_client.drain()
        self.to_server.drain()
        self.friend.open("c", "tcp", CLIENT)
        self.assertEqual(self.friend.connect("c", SERVER, PORT), "ok")
        self.assertEqual(self.friend.send_text("c", "ping"), "ok")
        self.assertEqual(self.friend.receive("c", timeout=10), {"text": "ping"})
        sent = self.to_client.read(lambda segment: segment.flags & PSH)
        echoed = self.to_server.read(lambda segment: segment.flags & PSH)
        self.to_server.drain()
        self.to_server.send(
            Segment(
                CLIENT,
                SERVER,
                sent.sport,
                PORT,
                ACK | PSH,
                seq=sent.seq + 500_000_000,
                ack=echoed.seq + 4,
                data=b"x",
            ).packet()
        )
        self.assertIsNone(
            self.to_server.read(
                lambda segment: segment.dport == sent.sport and segment.flags & RST, 0.5
            )
        )
        self.assertEqual(self.friend.send_text("c", "ping"), "ok")
        self.assertEqual(self.friend.receive("c", timeout=10), {"text": "ping"})

    def test_an_invalid_segment_is_not_reported_as_one_of_quarantine(self):
        """No rule knows the flow of a segment that conntrack calls invalid: the report of its
        refusal says between whom it was, not that somebody is in quarantine, because nobody is."""
        port = self.workload.serve("tcp", "0.0.0.0")  # which nothing else has contacted
        self.stranger(SYN | FIN, port, seq=1000)
        flow = waiting.until(
            lambda: [each for each in self.server.flows() if each["port"] == port],
            "the refusal is reported",
        )[-1]
        self.assertEqual(flow["verdict"], "deny")
        self.assertEqual(flow["source"]["address"], STRANGER)
        self.assertEqual(flow["destination"]["labels"], {"app": "web"})
        for end in ("source", "destination"):
            self.assertNotIn("quarantined", flow[end])
        self.assertNotIn("quarantine", flow["reason"])
        lines = [line for line in self.server.log_text().splitlines() if f"tcp/{port}" in line]
        self.assertTrue(lines, "it is in the journal")
        for line in lines:
            self.assertNotIn("quarantine", line)

    def test_nothing_rides_on_what_was_allowed_before(self):
        """A connection to an unlabeled process (EXEMPT), or one that @world is allowed (AUTH), is
        closed halfway so that conntrack remembers it. Then a HELLO recorded elsewhere and data
        without PROOF are sent on the same ports. A second request with another sequence number
        would make a half-open connection disclose its own (RFC 5961): no other answer leaves."""
        hello, _, _ = self.overhear()
        self.workload.serve("tcp", "0.0.0.0", OPEN_PORT)
        plain = self.server.plain()
        plain_port = plain.serve("tcp", "0.0.0.0")
        for port, owner in ((plain_port, plain), (OPEN_PORT, self.workload)):
            with self.subTest(port=port):
                self.port = next(self.ports)
                self.to_server.drain()
                self.stranger(SYN, port, seq=1000, options=packets.OPTIONS)
                answer = self.to_server.read(lambda segment: segment.dport == self.port, 20)
                self.assertEqual(
                    answer.flags & (SYN | ACK | RST),
                    SYN | ACK,
                    "the unlabeled process can be reached",
                )
                self.stranger(ACK, port, seq=1001, ack=answer.seq + 1)
                waiting.until(
                    lambda: owner.served("tcp", port)["accepted"] == 1, "the earlier connection"
                )
                owner.end_served("tcp", port)
                end = self.to_server.read(
                    lambda segment: segment.dport == self.port and segment.flags & 1, 20
                )
                self.stranger(ACK, port, seq=1001, ack=end.seq + 1)
                # The owner has sent its FIN: the kernel keeps only a FIN_WAIT2 of its connection.
                if owner is plain:
                    plain.end()
                    self.server.agents.remove(plain)
                    self.workload.serve("tcp", "0.0.0.0", port)
                before = self.served(port)
                self.to_server.drain()
                self.stranger(SYN, port, seq=900_000, options=packets.OPTIONS, data=hello.data)
                self.stranger(SYN, port, seq=950_000, options=packets.OPTIONS, data=hello.data)
                for _ in range(4):
                    again = self.to_server.read(
                        lambda segment: segment.dport == self.port and not segment.flags & RST, 1.2
                    )
                    if again is None:
                        break
                    for start, number in (
                        (900_001, again.seq),
                        (950_001, again.seq),
                        (900_001, again.seq + 1),
                        (950_001, again.seq + 1),
                    ):
                        self.stranger(ACK | PSH, port, seq=start, ack=number, data=b"let me in")
                self.assert_nothing_came_in(before, port)

    def test_a_stranger_without_hello_reaches_what_the_world_may(self):
        """Verifies that the tests above fail for the reason that they name."""
        self.workload.serve("tcp", "0.0.0.0", OPEN_PORT)
        answer = self.ask(b"", OPEN_PORT)
        self.go_on(answer, OPEN_PORT)
        waiting.until(lambda: self.served(OPEN_PORT)["bytes"] == len(b"let me in"), "the data")
        self.assertTrue(self.ask(b"").flags & RST)


if __name__ == "__main__":
    unittest.main()
