# SPDX-License-Identifier: Apache-2.0
"""A host and a namespace on the other end of its link that acts as the world: every address of FAR4
and FAR6 answers there."""

import subprocess

from tests.system import host
from tests.system.host import HostCase

HOST4, HOST6 = "10.96.0.1", "fd00:96::1"
WORLD4, WORLD6 = "10.96.0.2", "fd00:96::2"
FAR4, FAR6 = "10.97.0.0/16", "fd00:97::/64"
BOUND = (
    "fd00:97::1:1/128",
    "fd00:97::2:1/128",
)  # sockets can be bound to any of FAR4, and to these


class WorldCase(HostCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.world = host.Host(start=False)
        cls.addClassCleanup(cls.world.close)
        here, there = cls.host.undo.name("v"), cls.world.undo.name("v")
        subprocess.run(
            [
                "ip",
                "link",
                "add",
                here,
                "netns",
                cls.host.netns,
                "type",
                "veth",
                "peer",
                "name",
                there,
                "netns",
                cls.world.netns,
            ],
            check=True,
        )
        for each, link, four, six in (
            (cls.host, here, HOST4, HOST6),
            (cls.world, there, WORLD4, WORLD6),
        ):
            each.ip(f"addr add {four}/24 dev {link}")
            each.ip(f"addr add {six}/64 dev {link} nodad")
            each.ip(f"link set {link} up")
        for everywhere, gate in ((FAR4, WORLD4), (FAR6, WORLD6)):
            cls.world.ip(f"route add local {everywhere} dev lo")
            cls.host.ip(f"route add {everywhere} via {gate}")
        for address in BOUND:
            cls.world.ip(f"addr add {address} dev lo" + (" nodad" if ":" in address else ""))

    def setUp(self):
        super().setUp()
        self.host.explicit_reload("")  # removes what earlier tests have learned about names
        self.addCleanup(self.world.kill_agents)
