# SPDX-License-Identifier: Apache-2.0
"""Docker with userns-remap: containers in user namespaces are workloads like any others."""

import unittest

from tests.system import waiting
from tests.system.lab import LabCase


class Remapped(LabCase):
    FILES = (("etc/docker/daemon.json", '{"userns-remap": "default"}\n'),)

    def start(self, options, image, command=""):
        made = self.lab.must(f"docker run -d {options} {image} {command}")
        self.lab.await_state(made, "enforced")
        return made

    def test_a_bridge_container_is_judged_by_its_labels(self):
        server = self.start("-l app=web", "nginx")
        pid = self.lab.must(f"docker inspect -f '{{{{.State.Pid}}}}' {server}")
        self.assertNotEqual(
            self.lab.must(f"readlink /proc/{pid}/ns/user"),
            self.lab.must("readlink /proc/1/ns/user"),
        )
        address = self.lab.must(f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {server}")
        fetch = f"curl -sS --max-time 5 http://{address}"
        waiting.until(
            lambda: self.lab.sh(f"trirun --label app=web -- {fetch}").stdout.strip()
            == "hello from nginx",
            "a workload of the host with the same labels is allowed",
            20,
        )
        self.assertEqual(self.lab.sh(f"trirun --label app=other -- {fetch}").stdout, "")
        self.assertEqual(self.lab.sh(fetch).stdout, "")
        friend, stranger = (
            self.start(f"-l app={app}", "curlimages/curl", "sleep 600") for app in ("web", "other")
        )
        self.assertEqual(self.lab.must(f"docker exec {friend} {fetch}"), "hello from nginx")
        self.assertEqual(self.lab.sh(f"docker exec {stranger} {fetch}").stdout, "")
        self.assertEqual(self.lab.status()["problems"], [])

    def test_a_container_of_the_hosts_network(self):
        made = self.start(
            "--userns=host --net=host -l app=web", "busybox", "httpd -f -p 7001 -h /srv"
        )
        self.lab.await_served(7001, "app=web")
        self.assertEqual(self.lab.ask(7001), "")
        self.assertEqual(self.lab.workload_of(made)["labels"], {"app": "web"})


if __name__ == "__main__":
    unittest.main()
