# SPDX-License-Identifier: Apache-2.0
"""The walkthrough of the README, as typed."""

import unittest

from tests.system.lab import LabCase


class Walkthrough(LabCase):
    def test_as_typed(self):
        lab = self.lab
        self.assertEqual(lab.must("systemctl is-active trireme"), "active")

        container = lab.must("docker run -l app=nginx --net=host -d nginx")
        self.assertEqual(
            lab.must(f"docker inspect -f '{{{{.HostConfig.NetworkMode}}}}' {container}"), "host"
        )
        lab.await_state(container, "enforced")

        refused = lab.sh("curl -sS --max-time 5 http://127.0.0.1")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("127.0.0.1 port 80", refused.stderr)

        # From another network namespace; its labels travel within the handshake.
        bridge = lab.must("docker run -l app=nginx -itd curlimages/curl sh")
        lab.await_state(bridge, "enforced")
        self.assertEqual(
            lab.must(f"docker exec {bridge} curl -sS --max-time 5 http://172.17.0.1"),
            "hello from nginx",
        )
        stranger = lab.must("docker run -l app=stranger -itd curlimages/curl sh")
        lab.await_state(stranger, "enforced")
        self.assertNotEqual(
            lab.sh(f"docker exec {stranger} curl -sS --max-time 5 http://172.17.0.1").returncode, 0
        )

        self.assertEqual(
            lab.must("trirun --label app=nginx -- curl -sS --max-time 5 http://127.0.0.1"),
            "hello from nginx",
        )
        other = lab.sh("trirun --label app=other -- curl -sS --max-time 5 http://127.0.0.1")
        self.assertNotEqual(other.returncode, 0)

        # Processes that the container forks, or that docker exec runs in it, are under the same
        # policy.
        self.assertEqual(
            lab.must(f"docker exec {container} wget -qO- http://127.0.0.1"), "hello from nginx"
        )
        lab.sh("mkdir -p /tmp/plain && echo plain >/tmp/plain/index.html")
        lab.must("busybox httpd -p 8080 -h /tmp/plain")
        self.assertEqual(lab.must("curl -sS http://127.0.0.1:8080/index.html"), "plain")
        done = lab.sh(f"docker exec {container} wget -qO- http://127.0.0.1:8080/index.html")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("Connection refused", done.stderr)
        forked = "(setsid wget -qO- http://127.0.0.1{} &) | cat"
        self.assertEqual(
            lab.must(f"docker exec {container} sh -c '{forked.format('')}'"), "hello from nginx"
        )
        self.assertEqual(
            lab.must(f"docker exec {container} sh -c '{forked.format(':8080/index.html')}'"), ""
        )

        # Other processes are not affected.
        self.assertEqual(lab.must("curl -sS http://127.0.0.1:8080/index.html"), "plain")


if __name__ == "__main__":
    unittest.main()
