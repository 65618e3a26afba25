# SPDX-License-Identifier: Apache-2.0
"""The first day: what a first start would cut is said before it cuts; audit mode cuts nothing, and
ends in rules that let everything go on."""

import unittest

from tests.system import waiting
from tests.system.lab import Lab, LabCase

IDENTITY = (
    '[docker]\ncontainers = "all"\n[[unit]]\nname = "echo.service"\nlabels = { app = "echo" }\n'
)
UNIT = "[Service]\nExecStart=/bin/busybox nc -ll -p 7301 -e /bin/cat\n"


class FirstStart(LabCase):
    FILES = (("etc/trireme/identity.toml", IDENTITY), ("etc/systemd/system/echo.service", UNIT))

    @classmethod
    def setUpClass(cls):
        """Without trireme: it has not been started yet."""
        cls.lab = Lab(files=cls.FILES)
        cls.addClassCleanup(cls.lab.close)
        cls.lab.start_docker()
        cls.lab.must("systemctl start echo")

    def talking(self, command):
        """A client that holds a connection and echoes on demand."""
        client = self.lab.popen(command, stdin=-1, stdout=-1, text=True)
        self.addCleanup(self._end, client)

        def exchange():
            client.stdin.write("ping\n")
            client.stdin.flush()
            return client.stdout.readline().strip()

        waiting.until(lambda: exchange() == "ping", "it is connected")
        return exchange

    def _end(self, client):
        client.kill()
        client.communicate()

    def test_from_a_running_host_to_enforcement(self):
        lab = self.lab
        lab.must("docker run -d --name db --net=host -l app=db busybox nc -ll -p 7302 -e cat")
        lab.must("docker run -d --name web --net=host -l app=web busybox sleep 1000")
        web = self.talking(["docker", "exec", "-i", "web", "nc", "127.0.0.1", "7302"])
        plain = self.talking(["busybox", "nc", "127.0.0.1", "7301"])

        checked = lab.sh("triremed --check")
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn(
            "first start here: 3 containers and units would be under policy; 2 of their 2 live connections would be cut",
            checked.stderr,
        )
        self.assertIn(
            "1 x web (app=web) -> db (app=db) tcp/7302: no rule allows it", checked.stderr
        )
        self.assertIn(
            "1 x @host -> echo.service (app=echo) tcp/7301: no rule allows it", checked.stderr
        )
        self.assertIn('mode = "audit"', checked.stderr)

        lab.write("etc/trireme/policy.toml", '[defaults]\nmode = "audit"\n')
        lab.start_trireme()
        self.assertEqual((web(), plain()), ("ping", "ping"))
        journal = lab.must("journalctl -u trireme --no-pager -o cat")
        self.assertIn(
            '2 of their 2 live connections would be refused; mode = "audit" lets them pass', journal
        )
        waiting.until(
            lambda: (web(), plain())
            and len(lab.must("trirectl flows --json --verdict audit").splitlines()) >= 2,
            "both are told",
            15,
            0.1,
        )

        lab.must(
            "mkdir -p /etc/trireme/policy.d && trirectl policy suggest >/etc/trireme/policy.d/suggested.toml"
        )
        lab.policy("")
        self.assertEqual((web(), plain()), ("ping", "ping"))
        self.assertEqual(
            lab.sh("trirun --label app=other -- busybox nc 127.0.0.1 7302 </dev/null").returncode, 1
        )
        self.assertEqual(
            lab.sh("triremed --check").stderr, "", "the table is there: no first start any more"
        )


if __name__ == "__main__":
    unittest.main()
