# SPDX-License-Identifier: Apache-2.0
"""Podman's compatible socket in place of Docker's: containers on the host's network and on networks
of their own."""

import shutil
import subprocess
import unittest

from tests.system import images, waiting
from tests.system.lab import Lab, LabCase

SERVE = "httpd -f -p {port} -h /srv"
IDENTITY = '[docker]\nsocket = "/run/podman/podman.sock"\n'
# Docker's directory is the only one in the lab that is not on an overlay.
STORAGE = '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/docker/podman"\n'
# The lab has no cgroup controllers.
LIMITS = "[containers]\npids_limit = 0\n"


FILES = (
    ("etc/containers/storage.conf", STORAGE),
    ("etc/containers/containers.conf", LIMITS),
)


def start_podman(lab):
    if shutil.which("podman") is None:
        raise AssertionError("podman is not installed; run tests/install-deps.sh")
    lab.must("systemctl start podman.socket")
    for name, tar, changes in images.all_images():
        if name != "nginx":
            with subprocess.Popen(
                lab.inside(["podman", "import", *changes, "-", name]),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                process.communicate(tar)
            assert process.returncode == 0, "podman import"


class Podman(LabCase):
    DOCKER = False
    FILES = (("etc/trireme/identity.toml", IDENTITY), *FILES)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lab = cls.lab
        start_podman(lab)
        waiting.until(
            lambda: "cgroup driver" in lab.status()["sources"]["docker"],
            "trireme follows Podman",
            20,
        )

    def setUp(self):
        self.addCleanup(lambda: self.lab.sh("podman rm -fa -t 0", 60))

    def container(self, options, command, labels="app=web", image="busybox"):
        made = self.lab.must(f"podman run -d -l {labels} {options} {image} {command}")
        self.lab.await_state(made, "enforced")
        return made

    def test_the_hosts_network(self):
        made = self.container("--net=host", SERVE.format(port=7001))
        self.lab.await_served(7001, "app=web")
        self.assertEqual(self.lab.ask(7001), "")
        self.assertEqual(self.lab.ask(7001, "app=other"), "")
        self.assertEqual(self.lab.workload_of(made)["labels"], {"app": "web"})
        self.assertEqual(
            self.lab.must(f"podman exec {made} wget -qO- http://127.0.0.1:7001/served"), "served"
        )
        self.lab.must(f"podman rm -f -t 0 {made}")
        waiting.until(lambda: self.lab.workload_of(made) is None, "it is no longer a workload")

    def test_a_network_of_its_own(self):
        made = self.container("", SERVE.format(port=7002))
        address = self.lab.must("podman inspect -f '{{.NetworkSettings.IPAddress}}' " + made)
        fetch = f"curl -sS --max-time 5 http://{address}:7002/served"
        self.assertEqual(self.lab.must(f"trirun --label app=web -- {fetch}"), "served")
        self.assertNotEqual(self.lab.sh(f"trirun --label app=other -- {fetch}").returncode, 0)
        self.assertNotEqual(self.lab.sh(fetch).returncode, 0)
        friend, stranger = (
            self.container("", "sleep 600", labels, "curlimages/curl")
            for labels in ("app=web", "app=other")
        )
        self.assertEqual(self.lab.must(f"podman exec {friend} {fetch}"), "served")
        self.assertNotEqual(self.lab.sh(f"podman exec {stranger} {fetch}").returncode, 0)


class BesideDocker(LabCase):
    """First with the shipped identity.toml, which names only Docker's socket; then with both."""

    FILES = FILES

    @classmethod
    def setUpClass(cls):
        """Without trireme, which starts in the tests."""
        cls.lab = Lab(files=cls.FILES)
        cls.addClassCleanup(cls.lab.close)
        cls.lab.start_docker()
        start_podman(cls.lab)

    def test_left_alone_until_it_is_configured(self):
        lab = self.lab
        self.addCleanup(lambda: lab.sh("podman rm -fa -t 0", 60))
        made = lab.must(f"podman run -d -l app=web --net=host busybox {SERVE.format(port=7001)}")
        lab.must(f"docker run -d -l app=web --net=host busybox {SERVE.format(port=7002)}")
        checked = lab.sh("triremed --check").stderr
        self.assertIn("1 container would be left alone, without policy:", checked)
        self.assertNotIn("quarantine", checked)
        both = 'socket = ["/run/docker.sock", "/nowhere/podman.sock"]\n'
        lab.must("mkdir /etc/other && cp /etc/trireme/policy.toml /etc/other")
        lab.write("etc/other/identity.toml", "[docker]\n" + both)
        checked = lab.sh("triremed --check --config-dir /etc/other").stderr
        self.assertIn("1 container would be quarantined, without network:", checked)
        self.assertIn(f"Podman container {made[:12]}: its engine did not report it", checked)

        lab.start_trireme()
        lab.await_served(7002, "app=web")
        self.assertEqual(lab.ask(7002), "")
        lab.await_state(made, "unenforced")
        self.assertIn("a container of Podman", lab.workload_of(made)["reason"])
        self.assertIn("1 container left alone", lab.status()["sources"]["docker"])
        late = lab.must(f"podman run -d -l app=web busybox {SERVE.format(port=7003)}")
        lab.await_state(late, "unenforced")
        address = lab.must("podman inspect -f '{{.NetworkSettings.IPAddress}}' " + late)
        for place in ("127.0.0.1:7001", f"{address}:7003"):
            self.assertEqual(lab.must(f"curl -sS --max-time 5 http://{place}/served"), "served")

        lab.write(
            "etc/trireme/identity.toml",
            '[docker]\nsocket = ["/run/docker.sock", "/run/podman/podman.sock"]\n',
        )
        lab.must("trirectl reload")
        for container in (made, late):
            lab.await_state(container, "enforced", 30)
        lab.await_served(7001, "app=web")
        self.assertEqual(lab.ask(7001), "")
        fetch = f"curl -sS --max-time 5 http://{address}:7003/served"
        self.assertEqual(lab.must(f"trirun --label app=web -- {fetch}"), "served")
        self.assertEqual(lab.sh(fetch).stdout, "")
        lab.await_served(7002, "app=web")

        lab.write("etc/trireme/identity.toml", "")
        lab.must("trirectl reload")
        lab.await_state(made, "unenforced")
        self.assertEqual(lab.must(fetch), "served")
        lab.must(f"podman rm -f -t 0 {made}")
        waiting.until(lambda: lab.workload_of(made) is None, "it is no longer listed")


if __name__ == "__main__":
    unittest.main()
