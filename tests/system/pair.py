# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one link, a client's and a server's, each with a daemon of its own."""

import subprocess

from tests.system import fleet, host, undo

SERVER4, SERVER6 = "10.98.0.2", "fd00:98::2"
CLIENT4, CLIENT6 = "10.98.0.1", "fd00:98::1"
PORT = 8080
IDENTITY = '[host]\nname = "{name}"\npeers = ["10.98.0.0/24", "fd00:98::/64"]\n'


class SeveralHosts:
    """A test with `hosts`: its agents end with it. If it fails, the last output of the daemons is
    shown."""

    def setUp(self):
        for each in self.hosts:
            self.addCleanup(each.kill_agents)

    def _callTestMethod(self, method):
        try:
            method()
        except BaseException:
            for each in self.hosts:
                print(f"--- end of the daemon's log:\n{each.log_text()[-2500:]}", flush=True)
            raise


class PairCase(SeveralHosts):
    """Subclasses give the hosts credentials."""

    POLICY = ""

    @classmethod
    def trust(cls, directory):
        """Writes what both hosts need into `directory`. Returns the [trust] sections of client and
        server."""
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        cls.hosts = []
        cls.addClassCleanup(lambda: [each.close() for each in cls.hosts])
        files = undo.Undo()
        cls.addClassCleanup(files.run)
        for name, section in zip(("client", "server"), cls.trust(files.directory)):
            cls.hosts.append(
                host.Host(
                    policy=cls.POLICY, identity=IDENTITY.format(name=name) + section, start=False
                )
            )
        cls.client, cls.server = cls.hosts
        here, there = cls.client.undo.name("v"), cls.server.undo.name("v")
        subprocess.run(
            [
                "ip",
                "link",
                "add",
                here,
                "netns",
                cls.client.netns,
                "type",
                "veth",
                "peer",
                "name",
                there,
                "netns",
                cls.server.netns,
            ],
            check=True,
        )
        for each, link, four, six in (
            (cls.client, here, CLIENT4, CLIENT6),
            (cls.server, there, SERVER4, SERVER6),
        ):
            each.ip(f"addr add {four}/24 dev {link}")
            each.ip(f"addr add {six}/64 dev {link} nodad")
            each.ip(f"link set {link} up")
        for each in cls.hosts:
            each.start()


class SharedSecretPair(PairCase):
    @classmethod
    def trust(cls, directory):
        path = directory + "/psk"
        subprocess.run([host.TRIRECTL, "pki", "psk", path], check=True, stdout=subprocess.DEVNULL)
        return [f'[trust]\npsk_file = "{path}"\n'] * 2


class CertificatePair(PairCase):
    @classmethod
    def trust(cls, directory):
        return list(fleet.certificates(directory, ("client", "server")).values())
