# SPDX-License-Identifier: Apache-2.0
"""A verifier that is stopped, killed or overloaded: meanwhile no new connection is allowed and
authorized ones continue; afterwards it works at once."""

import random
import re
import signal
import struct
import threading
import time
import unittest

from tests.system import host, linked, packets, waiting
from tests.system.linked import CLIENT, PORT, SERVER, STRANGER
from tests.system.packets import HELLO, SYN, Segment

STOPPED = 10.0 if host.LONG else 3.0
AT_ONCE = 1.0 * waiting.PATIENCE
FLOOD = (60, 50_000) if host.LONG else (4, 20_000)  # seconds, a second
SOURCES = "198.18.0.0/16"  # RFC 2544


def token(credential, labels):
    """A HELLO of a host without a secret."""
    return (
        packets.MAGIC
        + bytes((2, HELLO, 2, 0))
        + random.randbytes(16)
        + struct.pack("!HH", len(credential), len(labels))
        + credential
        + labels
    )


class Overload(linked.LinkedCase):
    def setUp(self):
        super().setUp()
        self.other = self.client.labelled("app=other")
        self.plain = self.client.plain()
        self.friend.open("c", "tcp", CLIENT)
        self.assertEqual(self.friend.connect("c", SERVER, PORT), "ok")
        self.ping()

    def ping(self):
        """Sends over the established connection."""
        started = time.monotonic()
        self.assertEqual(self.friend.send_text("c", "ping"), "ok")
        self.assertEqual(self.friend.receive("c"), {"text": "ping"})
        return time.monotonic() - started

    def while_it_is_away(self, seconds):
        """Asserts that the connection continues, and that no new one is established."""
        before = self.served()["accepted"]
        for each in (self.other, self.plain):
            each.send("burst", SERVER, PORT, 10, seconds)
        end = time.monotonic() + seconds
        slowest = 0.0
        while time.monotonic() < end:
            slowest = max(slowest, self.ping())
            time.sleep(0.02)
        for each in (self.other, self.plain):
            self.assertNotIn("ok", each.answer()["outcomes"])
        self.assertEqual(self.served()["accepted"], before)
        self.assertLess(slowest, 0.5 * waiting.PATIENCE)

    def expect_back_at_once(self):
        started = time.monotonic()
        self.assertEqual(self.friend.exchange("tcp", SERVER, PORT), "ok")
        self.assertLess(time.monotonic() - started, AT_ONCE)
        self.assertIn(self.other.exchange("tcp", SERVER, PORT), ("ECONNREFUSED", "ECONNRESET"))
        self.ping()

    def stop_daemon(self):
        self.server.daemon.send_signal(signal.SIGSTOP)
        self.addCleanup(self.server.daemon.send_signal, signal.SIGCONT)

    def test_stopped(self):
        self.stop_daemon()
        self.while_it_is_away(STOPPED)
        self.server.daemon.send_signal(signal.SIGCONT)
        self.expect_back_at_once()

    def test_killed(self):
        self.server.stop(signal.SIGKILL)
        self.while_it_is_away(1.5)
        self.server.start()
        self.expect_back_at_once()

    def test_the_clients_verifier_killed(self):
        self.client.stop(signal.SIGKILL)
        self.while_it_is_away(1.5)
        self.client.start()
        self.expect_back_at_once()

    def bad_requests(self, number, sources=SOURCES):
        """SYNs from many sources: random bytes after the magic number, unknown secrets, labels that
        policy denies, and a few that it allows."""
        self.server.must(["ip", "route", "replace", sources, "via", STRANGER])
        tap = self.wire.tap("client")
        self.friend.exchange("tcp", SERVER, PORT)
        name = tap.read(lambda segment: segment.token == HELLO).data[32:40]
        tap.close()
        made = []
        for index in range(number):
            data = (
                packets.MAGIC + random.randbytes(300),
                token(random.randbytes(8) + b"evil", b"app=web\n"),
                token(name + b"evil-%d" % index, b"app=other\n"),
                token(name + b"evil-%d" % index, b"app=web\n"),
            )
            kind = 3 if index % 50 == 0 else index % 3
            source = f"198.18.{random.randrange(256)}.{random.randrange(256)}"
            made.append(
                Segment(
                    source,
                    SERVER,
                    random.randrange(1024, 65536),
                    PORT,
                    SYN,
                    random.randrange(1 << 32),
                    options=packets.OPTIONS,
                    data=data[kind],
                ).packet()
            )
        return made

    def waiting_packets(self):
        """Packets in the server's queues."""
        lines = self.server.must(["cat", "/proc/net/netfilter/nfnetlink_queue"]).splitlines()
        return sum(int(line.split()[2]) for line in lines)

    def test_queue_overflow(self):
        requests = self.bad_requests(2_000)
        tap = self.wire.tap("server")
        self.addCleanup(tap.close)
        self.stop_daemon()
        self.assertGreater(tap.flood(requests, 1.0, 100_000), 10_000)
        self.while_it_is_away(1.0)
        self.assertGreater(self.waiting_packets(), 4_000)
        self.server.daemon.send_signal(signal.SIGCONT)
        # TCP repeats a request after a second if the queue was full.
        waiting.until(lambda: self.waiting_packets() < 1_000, "the queues are empty", 1)
        self.expect_back_at_once()
        waiting.until(
            lambda: self.metric(self.server, "trireme_queue_dropped_total") > 0,
            "dropped packets are counted",
        )

    def resident(self):
        with open(f"/proc/{self.server.daemon.pid}/status", encoding="utf-8") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))

    def test_flood(self):
        requests = self.bad_requests(8_000)
        tap = self.wire.tap("server")
        self.addCleanup(tap.close)
        tap.flood(requests, 1.0, FLOOD[1])  # fills all bounded resources
        seconds, rate = FLOOD

        def sample(count):
            done = self.friend.burst(SERVER, PORT, count, 10, apart=0.01)
            self.assertEqual(done["outcomes"], {"ok": count})
            times = done["times"]
            return times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000

        calm = sample(100)
        before, accepted, log = (
            self.resident(),
            self.served()["accepted"],
            len(self.server.log_text()),
        )
        sent = []
        flood = threading.Thread(target=lambda: sent.append(tap.flood(requests, seconds, rate)))
        flood.start()
        rough = sample(int(seconds * 40))
        flood.join()
        after = self.resident()
        self.assertEqual(self.served()["accepted"], accepted + int(seconds * 40))
        lines = self.server.log_text()[log:].count("\n")
        print(
            f"\n{sent[0] / seconds:,.0f} bad requests a second for {seconds} s: resident {before} to {after} kB, connect and exchange "
            f"p50/p99 {calm[0]:.1f}/{calm[1]:.1f} ms without, {rough[0]:.1f}/{rough[1]:.1f} ms with it; {lines} lines of log, "
            f"{self.metric(self.server, 'trireme_queue_dropped_total')} did not fit the queues",
            flush=True,
        )
        self.assertLess(after - before, 4096)
        self.assertLess(lines, 250 + 25 * seconds)
        self.assertGreater(
            self.refused("malformed_token") + self.refused("untrusted") + self.refused("policy"),
            1_000,
        )


if __name__ == "__main__":
    unittest.main()
