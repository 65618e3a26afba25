# SPDX-License-Identifier: Apache-2.0
"""Two hosts that share a secret, with a link that a test can make unreliable."""

import re
import subprocess
import unittest

from tests.system import host, undo, wire
from tests.system.pair import SeveralHosts

SERVER, CLIENT = "10.98.0.2", "10.98.0.1"
SERVER6, CLIENT6 = "fd00:98::2", "fd00:98::1"
STRANGER = "10.98.0.66"  # an address on the link that no host has
STRANGER_MAC = "02:00:00:00:00:66"
PORT = 8080
IDENTITY = '[host]\nname = "{name}"\npeers = ["10.98.0.0/24", "fd00:98::/64"]\n[trust]\npsk_file = "{psk}"\n'


class LinkedCase(SeveralHosts, unittest.TestCase):
    POLICY = ""
    IDENTITY = IDENTITY

    @classmethod
    def setUpClass(cls):
        cls.hosts = []
        cls.addClassCleanup(lambda: [each.close() for each in cls.hosts])
        files = undo.Undo()
        cls.addClassCleanup(files.run)
        psk = files.directory + "/psk"
        subprocess.run([host.TRIRECTL, "pki", "psk", psk], check=True, stdout=subprocess.DEVNULL)
        for name in ("client", "server"):
            cls.hosts.append(
                host.Host(
                    policy=cls.POLICY, identity=cls.IDENTITY.format(name=name, psk=psk), start=False
                )
            )
        cls.client, cls.server = cls.hosts
        cls.wire = wire.Wire(
            cls.client,
            cls.server,
            (CLIENT + "/24", CLIENT6 + "/64"),
            (SERVER + "/24", SERVER6 + "/64"),
        )
        cls.addClassCleanup(cls.wire.close)
        device = re.search(r"dev (\S+)", cls.server.must(["ip", "route", "get", CLIENT])).group(1)
        cls.server.ip(f"neigh add {STRANGER} lladdr {STRANGER_MAC} dev {device}")
        for each in cls.hosts:
            each.start()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.wire.be)
        self.workload = self.server.labelled("app=web")
        self.workload.serve("tcp", "::", PORT)
        self.friend = self.client.labelled("app=web")

    def served(self, port=PORT):
        return dict(self.workload.served("tcp", port))

    @staticmethod
    def metric(where, name):
        text = where.must([host.TRIRECTL, "metrics"])
        return int(re.search(rf"^{re.escape(name)} (\d+)", text, re.M).group(1))

    def refused(self, reason, where=None):
        return self.metric(
            where or self.server, f'trireme_handshakes_refused_total{{reason="{reason}"}}'
        )
