# SPDX-License-Identifier: Apache-2.0
"""A booted host with Docker, linked to a second host that has a daemon of its own and that also acts
as the world: every address of FAR4 answers there. Both reach the containers of the first."""

import itertools
import json
import shutil
import subprocess

from tests.system import agent, host, waiting
from tests.system.lab import LabCase

HERE4, THERE4 = "10.98.0.1", "10.98.0.2"
FAR4 = "10.97.0.0/16"
BRIDGE4 = "172.17.0.1"
# The lab's own Python, in a container.
PYTHON = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /srv:/srv:ro"
IDENTITY = '[host]\nname = "{name}"\npeers = [{peers}]\n[trust]\npsk_file = "{psk}"\n'


class CrossingCase(LabCase):
    """`lab` and `peer`, with a common secret. The peer asks containers of the lab for tokens too."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = host.Host(start=False)
        cls.addClassCleanup(cls.peer.close)
        shutil.copy(agent.__file__, cls.lab.root + "/srv/agent.py")
        cls._link()
        cls.lab.must("cd /etc/trireme && trirectl pki psk psk")
        secret = cls.peer.config + "/psk"
        shutil.copy2(f"{cls.lab.root}/etc/trireme/psk", secret)
        cls.peer.write(
            "identity.toml",
            IDENTITY.format(name="peer", peers='"10.98.0.0/24", "172.17.0.0/16"', psk=secret),
        )
        cls.lab.write(
            "etc/trireme/identity.toml",
            IDENTITY.format(name="lab", peers='"10.98.0.0/24"', psk="/etc/trireme/psk"),
        )
        cls.lab.must("trirectl reload")
        cls.peer.start()

    @classmethod
    def _link(cls):
        there = cls.peer.undo.name("v")
        subprocess.run(
            ["ip", "link", "add", "net0", "netns", str(cls.lab.leader), "type", "veth"]
            + ["peer", "name", there, "netns", cls.peer.netns],
            check=True,
        )
        cls.lab.must(f"ip addr add {HERE4}/24 dev net0 && ip link set net0 up")
        cls.lab.must(f"ip route add {FAR4} via {THERE4}")
        # Docker drops what it does not publish.
        cls.lab.must("iptables -I DOCKER-USER -j ACCEPT")
        cls.peer.ip(f"addr add {THERE4}/24 dev {there}")
        cls.peer.ip(f"link set {there} up")
        cls.peer.ip(f"route add 172.17.0.0/16 via {HERE4}")
        cls.peer.ip(f"route add local {FAR4} dev lo")

    def setUp(self):
        # Runs last. Docker removes containers of `docker run --rm` in the background, and the next
        # test uses their names again.
        self.addCleanup(
            waiting.until,
            lambda: not self.lab.must("docker ps -aq"),
            "all containers are removed",
            20,
        )
        super().setUp()
        self.addCleanup(self.peer.kill_agents)

    # --- processes of the lab, as agents ---

    def _agent(self, argv):
        made = agent.Agent(argv, spawn=self.lab.popen, program="/srv/agent.py")
        self.addCleanup(made.end)
        made.cgroup()  # answers only after it has been enrolled
        return made

    UNITS = itertools.count()

    def labelled(self, labels):
        """An agent that is a workload. Returns it with the workload's name."""
        options = [word for label in labels.split(",") for word in ("--label", label)]
        unit = f"crossing-{next(self.UNITS)}"
        return self._agent(["trirun", *options, "--unit", unit, "--"]), f"{unit}.scope"

    def plain(self):
        return self._agent([])

    def container(self, name, labels, more=""):
        """An agent in a container. Returns it with the container's address."""
        options = " ".join(f"-l {label}" for label in labels.split(","))
        line = f"docker run -i --rm --name {name} {options} {more} {PYTHON} busybox"
        made = self._agent(line.split())
        waiting.until(lambda: self.state_of(name) == "enforced", f"{name} is enforced", 20)
        shown = f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {name}"
        return made, self.lab.must(shown)

    def state_of(self, name):
        return {each["name"]: each["state"] for each in self.lab.workloads()}.get(name)

    # --- what the lab's daemon explains ---

    def explain(self, questions):
        """The answers of `policy explain` to (from, to, port)."""
        lines = "".join(
            f"trirectl policy explain --json --from '{source}' --to '{target}' --port {port}; "
            for source, target, port in questions
        )
        said = [json.loads(line) for line in self.lab.sh(lines, 300).stdout.splitlines()]
        self.assertEqual(len(said), len(questions), said)
        for answer, question in zip(said, questions):
            self.assertNotIn("error", answer, question)
        return said

    def explained(self, source, target, port):
        return self.explain([(source, target, port)])[0]

    def use(self, policy):
        """Puts a policy in force on both hosts."""
        self.lab.policy(policy)
        self.peer.explicit_reload(policy)
