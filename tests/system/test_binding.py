# SPDX-License-Identifier: Apache-2.0
"""A handshake authorizes one flow only. Tokens that a neighbor relays are refused; address
translation on either host is taken into account."""

import json
import unittest

from tests.system import fleet, waiting

PORT, PUBLISHED = 8080, 8081
CLIENT, SERVER, RELAY = "10.98.0.1", "10.98.0.2", "10.98.0.3"
VIRTUAL = "10.98.0.9"  # an address that only the relay has
CLIENTS_OTHER = "10.98.0.11"

# What a container on a bridge can do by answering ARP requests: it relays to the server from its
# own address.
PASSES_ON = f"""table ip passes_on {{
  chain pre {{
    type nat hook prerouting priority -100
    ip daddr {VIRTUAL} dnat to {SERVER}
  }}
  chain post {{
    type nat hook postrouting priority 100
    ip daddr {SERVER} masquerade
  }}
}}
"""
PUBLISHES = f"""table ip own {{
  chain pre {{
    type nat hook prerouting priority -100
    ip daddr {SERVER} meta l4proto {{ tcp, udp }} th dport {PUBLISHED} redirect to :{PORT}
  }}
}}
"""
MASQUERADES = f"""table ip own {{
  chain post {{
    type nat hook postrouting priority 100
    ip daddr {SERVER} snat to {CLIENTS_OTHER}
  }}
}}
"""
TURNS_ELSEWHERE = f"""table ip own {{
  chain out {{
    type nat hook output priority -100
    ip daddr {VIRTUAL} dnat to {SERVER}
  }}
}}
"""


class Binding(fleet.FleetCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = fleet.Fleet(("client", "server", "relay"), cls.TRUST, start=False)
        cls.addClassCleanup(cls.fleet.close)
        cls.client, cls.server, cls.relay = (
            cls.fleet[name] for name in ("client", "server", "relay")
        )
        cls.client.ip(f"addr add {CLIENTS_OTHER}/24 dev net0")
        cls.relay.ip(f"addr add {VIRTUAL}/24 dev net0")
        cls.relay.must(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        cls.relay.must(["sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0"])
        cls.relay.must(["sysctl", "-qw", "net.ipv4.conf.net0.send_redirects=0"])
        for each in (cls.client, cls.server):
            each.start()

    def setUp(self):
        self.addCleanup(self.fleet.kill_agents)
        self.web = self.server.labelled("app=web")
        for kind in ("tcp", "udp"):
            self.web.serve(kind, "0.0.0.0", PORT)
        self.friend = self.client.labelled("app=web")

    def rules(self, where, text):
        where.nft(text)
        name = text.split()[2]
        self.addCleanup(where.must, ["nft", "delete", "table", "ip", name])

    def await_cause(self, where, cause):
        waiting.until(lambda: cause in {flow.get("cause") for flow in where.flows()}, cause)

    def assert_served(self, address, port):
        for kind in ("tcp", "udp"):
            self.assertEqual(self.friend.exchange(kind, address, port), "ok", f"{kind} {address}")

    def assert_not_served(self, address, port):
        before = {kind: self.web.served(kind, PORT) for kind in ("tcp", "udp")}
        for kind in ("tcp", "udp"):
            self.assertNotEqual(self.friend.exchange(kind, address, port), "ok", kind)
            self.assertEqual(self.web.served(kind, PORT)["bytes"], before[kind]["bytes"], kind)

    def test_what_a_neighbour_passes_on_is_refused(self):
        self.rules(self.relay, PASSES_ON)
        self.assert_served(SERVER, PORT)
        self.assert_not_served(VIRTUAL, PORT)
        self.await_cause(self.client, "other_address")

    def test_so_is_what_it_asks_in_its_own_name_at_the_servers_address(self):
        self.rules(self.relay, PASSES_ON)
        (link,) = json.loads(self.relay.must(["ip", "-j", "link", "show", "net0"]))
        self.client.ip(f"neigh replace {SERVER} lladdr {link['address']} dev net0")
        self.addCleanup(self.client.ip, f"neigh del {SERVER} dev net0")
        self.assert_not_served(SERVER, PORT)
        self.await_cause(self.server, "forged_proof")

    def test_ports_that_the_server_publishes(self):
        self.rules(self.server, PUBLISHES)
        self.assert_served(SERVER, PUBLISHED)

    def test_a_client_that_its_host_masquerades(self):
        self.rules(self.client, MASQUERADES)
        self.assert_served(SERVER, PORT)

    def test_what_the_clients_host_turns_elsewhere(self):
        self.rules(self.client, TURNS_ELSEWHERE)
        self.assertEqual(self.friend.exchange("tcp", VIRTUAL, PORT), "ok")

    def test_who_is_there_instead_says_nothing_to_a_connected_socket(self):
        """DNAT on OUTPUT leads the flow to another host. Until the NAT is undone, the rules do not
        find the socket."""
        self.rules(self.client, TURNS_ELSEWHERE.replace(SERVER, RELAY))
        stranger = self.relay.plain()
        port = stranger.serve("udp", RELAY)  # echoes all datagrams, first HELLO
        self.assertEqual(self.friend.open("u", "udp", CLIENT), "ok")
        self.assertEqual(self.friend.connect("u", VIRTUAL, port), "ok")
        self.friend.send_text("u", "query")
        waiting.until(lambda: stranger.served("udp", port)["accepted"] > 0, "HELLO arrives")
        self.assertIn("error", self.friend.receive("u", timeout=0.5))

    def test_both_at_once(self):
        self.rules(self.server, PUBLISHES)
        self.rules(self.client, MASQUERADES)
        self.assert_served(SERVER, PUBLISHED)


class BySecret(Binding, unittest.TestCase):
    TRUST = staticmethod(fleet.shared_secret)


if __name__ == "__main__":
    unittest.main()
