# SPDX-License-Identifier: Apache-2.0
"""Hosts behind a router that masquerades, drops what conntrack calls INVALID and forwards a port;
with programs that are in common use."""

import json
import subprocess
import unittest

from tests.system import fleet, waiting
from tests.system.host import TRIRUN

PORT = 8080
NEAR = (
    "10.97.0.254",
    "fd00:97::fe",
)  # the router's own addresses, whose port 8081 leads to the server's 8080
NGINX = """daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0};
server {{ listen 8080; listen [::]:8080 ipv6only=on; location / {{ return 200 "from nginx"; }} }} }}
"""


class Routed(fleet.FleetCase):
    """A client, and behind a router a server and a third host."""

    @classmethod
    def setUpClass(cls):
        cls.fleet = fleet.Fleet(("client", "server", "third"), cls.TRUST, routed=True)
        cls.addClassCleanup(cls.fleet.close)
        cls.client, cls.server, cls.third = (
            cls.fleet[name] for name in ("client", "server", "third")
        )

    def setUp(self):
        self.addCleanup(self.fleet.kill_agents)

    def ends(self):
        """The server's addresses as seen by the client: through the masquerade, and through the
        DNAT."""
        return [(address, PORT) for address in self.fleet.addresses("server")] + [
            (address, 8081) for address in NEAR
        ]

    def start(self, each, labels, *argv):
        """Starts a program as a workload there, until the end of the test."""
        process = each.popen(
            [TRIRUN, "--label", labels, "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

        def end():
            process.kill()
            process.wait()

        self.addCleanup(end)
        return process

    def test_the_same_labels_talk_and_no_others(self):
        server = self.server.labelled("app=web")
        server.serve("tcp", "::", PORT)
        web, other, plain = (
            self.client.labelled("app=web"),
            self.client.labelled("app=other"),
            self.client.plain(),
        )
        for address, port in self.ends():
            for _ in range(3):
                self.assertEqual(web.exchange("tcp", address, port), "ok", address)
            self.assertEqual(other.exchange("tcp", address, port), "ECONNREFUSED", address)
            self.assertEqual(plain.exchange("tcp", address, port), "ECONNREFUSED", address)
        self.assertEqual(server.served("tcp", PORT)["accepted"], 3 * len(self.ends()))

    def test_a_server_of_another_kind_behind_the_same_address(self):
        """The workload that a DNAT leads to proves its own labels."""
        server = self.server.plain()
        server.serve("tcp", "::", PORT)
        client = self.client.labelled("app=web")
        for address, port in self.ends():
            self.assertEqual(client.exchange("tcp", address, port), "ECONNREFUSED", address)
        self.assertEqual(server.served("tcp", PORT)["bytes"], 0)

    def open_flow(self, client, address, port, name=""):
        """Opens a connected UDP socket, which is named as its destination if no name is given."""
        self.assertEqual(client.open(name or address, "udp", "::" if ":" in address else ""), "ok")
        self.assertEqual(client.connect(name or address, address, port), "ok")

    def test_datagrams_of_the_same_labels_and_no_others(self):
        """Flows of many datagrams, several at a time on one client, through the masquerade and
        through the DNAT."""
        for family in (
            "ipv4.icmp_ratelimit",
            "ipv6.icmp.ratelimit",
        ):  # the kernel's limit of ICMP errors: six to one address, then one per second
            self.server.must(["sysctl", "-qw", f"net.{family}=0"])
        server = self.server.labelled("app=web")
        server.serve("udp", "::", PORT)
        web, other, plain = (
            self.client.labelled("app=web"),
            self.client.labelled("app=other"),
            self.client.plain(),
        )
        for address, port in self.ends():
            for flow in (f"{address} {number}" for number in range(3)):
                self.open_flow(web, address, port, flow)
                for text in ("first", *(f"{number}" * 100 for number in range(8))):
                    self.assertEqual(web.send_text(flow, text), "ok", flow)
                    self.assertEqual(web.receive(flow), {"text": text}, flow)
            for stranger in (other, plain):
                self.assertIn(
                    stranger.exchange("udp", address, port), ("EHOSTUNREACH", "EACCES"), address
                )
        self.assertEqual(server.served("udp", PORT)["accepted"], 27 * len(self.ends()))

    def test_a_datagram_server_of_another_kind_behind_the_same_address(self):
        server = self.server.plain()
        server.serve("udp", "::", PORT)
        client = self.client.labelled("app=web")
        for address, port in self.ends():  # each is refused after a wait, so run them concurrently
            self.open_flow(client, address, port)
            self.assertEqual(client.send_text(address, "ping"), "ok")
        for address, _ in self.ends():
            error = client.receive(address, timeout=6).get("error")
            for _ in range(2):  # an ICMP error can be lost: the kernel limits their rate
                if error == "timeout":
                    client.send_text(address, "again")  # begins a handshake, which takes 3 s
                    error = client.receive(address, timeout=6).get("error")
            self.assertIn(error, ("EHOSTUNREACH", "EACCES"), address)
        self.assertEqual(server.served("udp", PORT)["accepted"], 0, "nor datagrams of the verifier")

    def test_a_flow_of_datagrams_through_nat_ends_with_the_policy(self):
        server = self.server.labelled("app=web")
        server.serve("udp", "::", PORT)
        client = self.client.labelled("app=web")

        def answers(name, timeout=0.3):
            client.send_text(name, name)  # the outcome may be that of an earlier datagram
            return client.receive(name, timeout=timeout) == {"text": name}

        names = [address for address, _ in self.ends()]
        for address, port in self.ends():
            self.open_flow(client, address, port)
            self.assertTrue(answers(address, timeout=5), address)
        self.server.policy('[[deny]]\nfrom = "app=web"\nto = "app=web"\n')
        try:
            for name in names:
                waiting.until(lambda name=name: not answers(name), f"the flow to {name} has ended")
            before = server.served("udp", PORT)["accepted"]
            for name in names:
                self.assertFalse(answers(name))
            self.assertEqual(server.served("udp", PORT)["accepted"], before)
        finally:
            self.server.policy("")
        for name in names:
            waiting.until(
                lambda name=name: answers(name), f"the flow to {name} is allowed again", 20
            )

    def test_the_third_host(self):
        """From it and to it, both beside the server and across the router."""
        agents = {name: self.fleet[name].labelled("app=web") for name in self.fleet.names}
        for name in ("server", "third"):
            agents[name].serve("tcp", "::", PORT)
        for source, target in (("third", "server"), ("server", "third"), ("client", "third")):
            for address in self.fleet.addresses(target):
                self.assertEqual(
                    agents[source].exchange("tcp", address, PORT), "ok", f"{source} to {target}"
                )
        stranger = self.third.labelled("app=other")
        for address in self.fleet.addresses("server"):
            self.assertEqual(stranger.exchange("tcp", address, PORT), "ECONNREFUSED")

    def test_nginx_and_curl(self):
        directory = self.server.undo.directory
        subprocess.run(["chmod", "777", directory], check=True)
        with open(directory + "/nginx.conf", "w", encoding="utf-8") as file:
            file.write(NGINX.format(directory))
        self.start(self.server, "app=web", "nginx", "-c", directory + "/nginx.conf")

        def get(labels, address, port):
            url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
            curl = ["curl", "-sS", "--max-time", "5", url]
            return self.client.trirun(labels, curl) if labels else self.client.run(curl)

        waiting.until(
            lambda: get("app=web", *self.ends()[0]).stdout == "from nginx", "nginx answers"
        )
        for address, port in self.ends():
            self.assertEqual(get("app=web", address, port).stdout, "from nginx")
            for labels in ("app=other", ""):
                self.assertEqual(
                    get(labels, address, port).returncode, 7, "curl: Failed to connect"
                )


class RoutedCertificates(Routed, unittest.TestCase):
    TRUST = staticmethod(fleet.certificates)

    def test_iperf3(self):
        """In both directions, over several connections: megabytes pass through flows that are
        authorized once."""
        for address in self.fleet.addresses("server"):
            server = self.start(self.server, "app=web", "iperf3", "-s", "-1", "-B", address)
            waiting.until(
                lambda: self.server.run(["ss", "-Hltn", "sport = :5201"]).stdout, "iperf3 listens"
            )
            out = self.client.trirun(
                "app=web",
                ["iperf3", "-c", address, "-n", "20M", "-P", "2", "--bidir", "-J"],
                timeout=30,
            ).stdout
            sums = json.loads(out)["end"]
            received = [
                sums[name]["bytes"] for name in ("sum_received", "sum_received_bidir_reverse")
            ]
            self.assertGreater(sum(received), 10_000_000)
            self.assertGreater(
                min(received), 100_000, "iperf3 ends both directions when the first ends"
            )
            server.wait(10)

    @staticmethod
    def remembers(host, labels):
        """True if a daemon that is killed now would still know the peer with these labels after a
        restart."""
        try:
            with open(host.runtime + "/identities.json", encoding="utf-8") as file:
                return any(each["labels"].strip() == labels for each in json.load(file))
        except FileNotFoundError:
            return False

    def test_a_redis_connection_outlives_restarts_of_both_daemons(self):
        address = self.fleet.addresses("server")[0]
        self.start(
            self.server,
            "app=db",
            "redis-server",
            "--port",
            "6379",
            "--bind",
            address,
            "--save",
            "",
            "--protected-mode",
            "no",
            "--dir",
            self.server.undo.directory,
        )
        waiting.until(
            lambda: self.server.run(["ss", "-Hltn", "sport = :6379"]).stdout, "redis listens"
        )
        client = self.client.labelled("app=db")
        client.open("redis", "tcp", "")
        self.assertEqual(client.connect("redis", address, 6379), "ok")
        self.assertEqual(client.ask("redis", "SET life long\r\n"), "+OK\r\n")
        for each in (self.client, self.server):
            # Wait for the save: here it is written to a disk, which can be slow; on a real machine
            # to memory.
            waiting.until(lambda host=each: self.remembers(host, "app=db"), "the peer is saved")
            for signal in (9, 15):
                each.restart(signal)
                self.assertEqual(client.ask("redis", "GET life\r\n"), "$4\r\nlong\r\n")
        self.assertEqual(
            self.client.labelled("app=web").exchange("tcp", address, 6379), "ECONNREFUSED"
        )
        # The connection also survives a stop of the daemon.
        for each in (self.client, self.server):
            each.stop(15)
            self.assertEqual(client.ask("redis", "GET life\r\n"), "$4\r\nlong\r\n")
            each.start()


class Undeclared(fleet.FleetCase, unittest.TestCase):
    """The same router, but the hosts do not know that its addresses are translated."""

    def setUp(self):
        self.fleet = fleet.Fleet(
            ("client", "server"), fleet.shared_secret, routed=True, declared=False
        )
        self.addCleanup(self.fleet.close)

    def test_its_translation_is_refused_and_named(self):
        client, server = (self.fleet[name] for name in ("client", "server"))
        served = server.labelled("app=web")
        served.serve("tcp", "::", PORT)
        web = client.labelled("app=web")
        for address in self.fleet.addresses("server"):
            self.assertNotEqual(web.exchange("tcp", address, PORT), "ok", "masqueraded")
        for address in NEAR:
            self.assertNotEqual(
                web.exchange("tcp", address, 8081), "ok", "translated to another server"
            )
        self.assertEqual(served.served("tcp", PORT)["bytes"], 0)
        for where, cause in ((server, "forged_proof"), (client, "other_address")):
            waiting.until(
                lambda where=where, cause=cause: cause
                in {flow.get("cause") for flow in where.flows()},
                cause,
            )


class RoutedSecret(Routed, unittest.TestCase):
    TRUST = staticmethod(fleet.shared_secret)


if __name__ == "__main__":
    unittest.main()
