# SPDX-License-Identifier: Apache-2.0
"""A socket that takes over the address and port of another one inherits none of its permissions."""

import socket
import unittest

from tests.system import waiting
from tests.system.agent import TCP_FASTOPEN_CONNECT
from tests.system.host import LONG, HostCase

FAMILIES = ("127.0.0.1", "::1")
SYN_SENT, CLOSED = 2, 7
ROUNDS = 50 if LONG else 5
FAST_OPEN_BOTH_WAYS = 0x403  # tcp_fastopen: client and server, without a cookie


class Takeover(HostCase):
    """app=web talks to app=web; the stranger is another workload or an unlabeled process."""

    def setUp(self):
        super().setUp()
        self.strangers = [self.host.plain(), self.host.labelled("app=db")]
        self.server, self.client = self.host.labelled("app=web"), self.host.labelled("app=web")

    def connected(self, address, server, client, port, source):
        """Opens a connection: "c" at the client, "s" at the server; the listener is "l"."""
        self.assert_allowed(server.open("l", "tcp", address, port, listen=16))
        port = server.port("l")
        self.assert_allowed(client.open("c", "tcp", address, source))
        self.assert_allowed(client.connect("c", address, port))
        self.assert_allowed(server.accept("l", "s"))
        return port, client.port("c")

    def once_free(self, stranger, address, port, source):
        """The outcome of the stranger's exchange from the client's port, when the last ACK has
        freed that port. A busy processor handles the ACK after close() has returned."""
        taken = "EADDRNOTAVAIL"
        outcomes = []

        def tried():
            outcomes.append(
                stranger.exchange("tcp", address, port, source=[address, source], timeout=0.1)
            )
            return outcomes[-1] != taken

        waiting.until(tried, "the client's port is free", 5)
        return outcomes[-1]

    def assert_nothing_accepted(self, owner, listener="l"):
        self.assertEqual(owner.accept(listener, "never", timeout=0.15), "timeout")

    # --- the server's end ---

    def test_a_listener_that_takes_a_closed_port(self):
        for address in FAMILIES:
            for stranger in self.strangers:
                port, _ = self.connected(address, self.server, self.client, 0, 0)
                for name in ("s", "l"):
                    self.server.close(name)
                self.client.close("c")
                self.assert_allowed(stranger.open("t", "tcp", address, port, listen=16))
                self.assert_refused(self.client.exchange("tcp", address, port))
                self.assert_nothing_accepted(stranger, "t")
                stranger.close("t")

    def test_a_listener_that_takes_the_port_of_a_half_open_connection(self):
        """The client's first SYN finds a full backlog; the repeated SYN finds the stranger's
        socket."""
        for address in FAMILIES:
            for stranger in self.strangers:
                # A full backlog leaves the client in SYN_SENT.
                self.assert_allowed(self.server.open("l", "tcp", address, 0, listen=0))
                port = self.server.port("l")
                self.assert_allowed(self.client.open("fill", "tcp", address))
                self.assert_allowed(self.client.connect("fill", address, port))
                self.assert_allowed(self.client.open("c", "tcp", address))
                self.assertEqual(self.client.connect_start("c", address, port), "EINPROGRESS")
                self.server.close("l")
                self.assert_allowed(stranger.open("t", "tcp", address, port, listen=16))
                state = waiting.until(
                    lambda: self.client.state("c") != SYN_SENT and self.client.state("c"),
                    "the SYN is repeated",
                    5,
                )
                self.assertEqual(state, CLOSED)
                self.assert_nothing_accepted(stranger, "t")
                for name in ("c", "fill"):
                    self.client.close(name)
                stranger.close("t")

    def test_a_datagram_socket_that_takes_a_port_over(self):
        for address in FAMILIES:
            for stranger in self.strangers:
                self.assert_allowed(self.server.open("s", "udp", address))
                port = self.server.port("s")
                self.assert_allowed(self.client.open("c", "udp", address))
                self.assert_allowed(self.client.connect("c", address, port))
                self.assert_allowed(self.client.send_text("c", "hello"))
                self.assertEqual(self.server.receive("s"), {"text": "hello"})
                self.server.close("s")
                self.assert_allowed(stranger.open("t", "udp", address, port))
                self.client.send_text("c", "secret")
                self.assertIn("error", stranger.receive("t", timeout=0.2))
                # The client does not receive the stranger's data either.
                stranger.send_to("t", "forged", address, self.client.port("c"))
                self.assertNotIn("text", self.client.receive("c", timeout=0.2))
                self.client.close("c")
                stranger.close("t")

    # --- the client's end ---

    def test_a_client_that_takes_a_closed_connection_over(self):
        """The server's connection is in TIME_WAIT, FIN_WAIT or CLOSE_WAIT when the stranger uses
        the client's address and port."""
        for address in FAMILIES:
            for stranger in self.strangers:
                for state in ("time-wait", "client-gone", "server-shut"):
                    port, source = self.connected(address, self.server, self.client, 0, 0)
                    if state == "time-wait":
                        self.server.close("s")
                        self.assertEqual(self.client.receive("c"), {"text": ""})
                    elif state == "server-shut":
                        self.server.shutdown("s")
                    self.client.close("c", reset=state == "server-shut")
                    outcome = stranger.exchange(
                        "tcp", address, port, source=[address, source], timeout=0.5
                    )
                    self.assertNotEqual(outcome, "ok", f"{address} {state}")
                    self.assert_nothing_accepted(self.server)
                    if state != "time-wait":
                        self.server.close("s", reset=True)
                    self.server.close("l")

    def test_time_wait_reuse_by_a_stranger_is_refused_and_by_the_owner_allowed(self):
        """Many rounds with one address and port, in which each SYN finds the TIME_WAIT of the
        previous round. Rules find no listener then; the gate does, and drops silently."""
        for address in FAMILIES:
            self.assert_allowed(self.server.open("l", "tcp", address, 0, listen=64))
            port = self.server.port("l")
            for stranger in self.strangers:
                source = 0
                for number in range(ROUNDS):
                    self.assert_allowed(self.client.open("c", "tcp", address, source))
                    self.assert_allowed(self.client.connect("c", address, port), f"round {number}")
                    source = self.client.port("c")
                    self.assert_allowed(self.server.accept("l", "s"))
                    self.server.close("s")
                    self.assertEqual(self.client.receive("c"), {"text": ""})
                    self.client.close("c")
                    self.assertIn(
                        self.once_free(stranger, address, port, source),
                        ("ECONNREFUSED", "ECONNRESET", "timeout"),
                        f"round {number}",
                    )
                self.assert_nothing_accepted(self.server)
            self.server.close("l")

    def test_data_in_the_third_segment_is_not_delivered(self):
        """A client without quick acknowledgements sends data in the ACK of the handshake; a
        listener with deferred accept waits for that."""
        for address in FAMILIES:
            for deferred in (False, True):
                options = [(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)] if deferred else []
                self.assert_allowed(
                    self.server.open("l", "tcp", address, 0, listen=16, options=options)
                )
                port = self.server.port("l")
                for stranger in self.strangers:
                    self.assert_allowed(self.client.open("c", "tcp", address))
                    self.assert_allowed(self.client.connect("c", address, port))
                    source = self.client.port("c")
                    self.assert_allowed(self.client.send_text("c", "mine"))
                    self.assert_allowed(self.server.accept("l", "s"))
                    self.server.close("s")
                    self.client.receive("c")
                    self.client.close("c")
                    options = [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)]
                    self.assert_allowed(stranger.open("t", "tcp", address, source, options=options))
                    self.assertNotEqual(stranger.connect("t", address, port, timeout=0.5), "ok")
                    self.assert_nothing_accepted(self.server)
                    stranger.close("t")
                self.server.close("l")

    def test_fast_open_data_is_judged_with_its_syn(self):
        self.host.must(["sysctl", "-qw", f"net.ipv4.tcp_fastopen={FAST_OPEN_BOTH_WAYS}"])
        fast = [(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)]
        for address in FAMILIES:
            self.assert_allowed(
                self.server.open(
                    "l",
                    "tcp",
                    address,
                    0,
                    listen=16,
                    options=[(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)],
                )
            )
            port = self.server.port("l")
            self.assert_allowed(self.client.open("c", "tcp", address, options=fast))
            self.assert_allowed(self.client.connect("c", address, port))
            self.assert_allowed(self.client.send_text("c", "hello"))
            self.assert_allowed(self.server.accept("l", "s"))
            self.assertEqual(self.server.receive("s"), {"text": "hello"})
            source = self.client.port("c")
            self.server.close("s")
            self.client.receive("c")
            self.client.close("c")
            for stranger in self.strangers:
                for port_of_origin in (0, source):
                    self.assert_allowed(
                        stranger.open("t", "tcp", address, port_of_origin, options=fast)
                    )
                    stranger.connect("t", address, port, timeout=0.5)
                    stranger.send_text("t", "secret", timeout=0.5)
                    self.assert_nothing_accepted(self.server)
                    stranger.close("t")
            self.server.close("l")

    def test_a_datagram_client_that_takes_a_port_over(self):
        for address in FAMILIES:
            for stranger in self.strangers:
                self.assert_allowed(self.server.open("s", "udp", address))
                port = self.server.port("s")
                self.assert_allowed(self.client.open("c", "udp", address))
                self.assert_allowed(self.client.connect("c", address, port))
                self.assert_allowed(self.client.send_text("c", "hello"))
                self.assertEqual(self.server.receive("s"), {"text": "hello"})
                source = self.client.port("c")
                self.client.close("c")
                self.assert_allowed(stranger.open("t", "udp", address, source))
                self.server.send_to("s", "secret", address, source)
                self.assertNotIn(
                    "text",
                    stranger.receive("t", timeout=0.2),
                    "the answer of another socket's flow",
                )
                stranger.send_to("t", "forged", address, port)
                self.assertNotIn("text", self.server.receive("s", timeout=0.2))
                self.server.close("s")
                stranger.close("t")

    # --- other ways in ---

    def test_a_server_that_speaks_first_tells_a_stranger_nothing(self):
        for address in FAMILIES:
            port = self.server.serve("tcp", address, greeting="secret")
            self.assert_allowed(self.client.open("c", "tcp", address))
            self.assert_allowed(self.client.connect("c", address, port))
            self.assertEqual(self.client.receive("c"), {"text": "secret"})
            self.client.close("c")
            accepted = self.server.served("tcp", port)["accepted"]
            for stranger in self.strangers:
                self.assert_allowed(stranger.open("t", "tcp", address))
                self.assert_refused(stranger.connect("t", address, port))
                stranger.close("t")
            self.assertEqual(self.server.served("tcp", port)["accepted"], accepted)

    def test_two_refused_identities_never_add_up_to_an_allowed_one(self):
        """The numbers 1 and 2, refused in turn from one address and port, must not combine to
        number 3."""
        agents = {f"n{number}": self.host.labelled(f"app=n{number}") for number in range(12)}
        numbers = {each["labels"]["app"]: each["identity"] for each in self.host.workloads()}
        trios = [
            (one, two, sum_)
            for one in agents
            for two in agents
            for sum_ in agents
            if one < two and numbers[one] | numbers[two] == numbers[sum_] and sum_ not in (one, two)
        ]
        self.assertTrue(trios, numbers)
        for address in FAMILIES:
            for kind in ("tcp", "udp"):
                for one, two, sum_ in trios[:8]:
                    port = agents[sum_].serve(kind, address)
                    for each in (one, two, one):
                        outcome = agents[each].exchange(
                            kind, address, port, source=[address, 40000], timeout=0.5
                        )
                        self.assert_refused(outcome, f"{kind} {address}")
                    self.assertEqual(agents[sum_].served(kind, port)["accepted"], 0)

    def test_a_socket_keeps_the_identity_it_was_made_under(self):
        """An inherited listener and an inherited connection keep the identity of the process that
        created them."""
        port = self.server.serve("tcp", "127.0.0.1")
        child = self.server.in_child("exchange", "tcp", "127.0.0.1", port)
        self.assert_allowed(child)
        for stranger in self.strangers:
            self.assert_refused(stranger.in_child("exchange", "tcp", "127.0.0.1", port))

    def test_reset_segments_of_a_stranger_cannot_open_anything(self):
        for address in FAMILIES:
            port = self.server.serve("tcp", address)
            for stranger in self.strangers:
                for _ in range(ROUNDS):
                    self.assert_allowed(stranger.open("t", "tcp", address, 41000))
                    self.assert_refused(stranger.connect("t", address, port))
                    stranger.close("t", reset=True)
                self.assertEqual(self.server.served("tcp", port)["accepted"], 0)


if __name__ == "__main__":
    unittest.main()
