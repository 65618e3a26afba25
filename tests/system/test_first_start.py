# SPDX-License-Identifier: Apache-2.0
"""The first start: connections that it would cut are listed before; audit mode cuts none, and leads
to rules that allow all of them."""

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
        """Without trireme, which starts in the tests."""
        cls.lab = Lab(files=cls.FILES)
        cls.addClassCleanup(cls.lab.close)
        cls.lab.start_docker()
        cls.lab.must("systemctl start echo")

    def test_from_a_running_host_to_enforcement(self):
        lab = self.lab
        lab.must("docker run -d --name db --net=host -l app=db busybox nc -ll -p 7302 -e cat")
        lab.must("docker run -d --name web --net=host -l app=web busybox sleep 1000")
        web = self.talking(["docker", "exec", "-i", "web", "nc", "127.0.0.1", "7302"])
        plain = self.talking(["busybox", "nc", "127.0.0.1", "7301"])

        checked = lab.sh("triremed --check")
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn(
            "First start: 3 containers and units will come under policy. "
            "Of 2 connections open now, 2 would be cut:",
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
        self.assertEqual((web(), plain()), (True, True))
        journal = lab.must("journalctl -u trireme --no-pager -o cat")
        self.assertIn(
            'Of 2 connections open now, 2 would be denied, but mode = "audit" allows them:',
            journal,
        )
        waiting.until(
            lambda: (web(), plain())
            and len(lab.must("trirectl flows --json --verdict audit").splitlines()) >= 2,
            "both flows are logged",
            15,
            0.1,
        )

        lab.must(
            "mkdir -p /etc/trireme/policy.d && trirectl policy suggest >/etc/trireme/policy.d/suggested.toml"
        )
        lab.policy("")
        self.assertEqual((web(), plain()), (True, True))
        self.assertEqual(
            lab.sh("trirun --label app=other -- busybox nc 127.0.0.1 7302 </dev/null").returncode, 1
        )
        self.assertEqual(
            lab.sh("triremed --check").stderr, "", "the table exists, so this is not a first start"
        )

        # Another directory is compared with what runs here, whether it is a first start or not.
        lab.must("mkdir -p /srv/next && cp /etc/trireme/identity.toml /srv/next")
        lab.write("srv/next/policy.toml", "")
        checked = lab.sh("triremed --check --config-dir /srv/next")
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn(
            "This configuration would cut open connections. "
            "Of 2 connections open now, 2 would be cut:",
            checked.stderr,
        )
        self.assertIn(
            "1 x web (app=web) -> db (app=db) tcp/7302: no rule allows it", checked.stderr
        )
        lab.must("cp -r /etc/trireme/policy.d /srv/next")
        self.assertEqual(lab.sh("triremed --check --config-dir /srv/next").stderr, "")
        self.assertEqual((web(), plain()), (True, True))


if __name__ == "__main__":
    unittest.main()
