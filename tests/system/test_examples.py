# SPDX-License-Identifier: Apache-2.0
"""The files in examples/ do what they say, each as far as its tools are installed."""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

from tests.system import waiting
from tests.system.host import LONG, ROOT, TRIRECTL
from tests.system.lab import LabCase

EXAMPLES = ROOT + "/examples"
ANSIBLE = EXAMPLES + "/ansible"


def text(path):
    with open(f"{EXAMPLES}/{path}", encoding="utf-8") as file:
        return file.read()


class Services(LabCase):
    FILES = (
        ("etc/trireme/identity.d/shop.toml", text("services/identity.toml")),
        ("etc/trireme/policy.d/shop.toml", text("services/policy.toml")),
        ("etc/systemd/system/shop-cache.service", text("services/shop-cache.service")),
        ("root/shop/compose.yaml", text("services/compose.yaml")),
    )

    def up(self):
        """Starts the project with compose, or as compose would."""
        for command in ("docker compose", "docker-compose"):
            if self.lab.sh(f"{command} version").returncode == 0:
                self.lab.must(f"cd /root/shop && {command} -f compose.yaml up -d", 120)
                return
        print("compose is not installed: its project is started with 'docker run'", flush=True)
        for name, service in yaml.safe_load(text("services/compose.yaml"))["services"].items():
            labels = {
                **service["labels"],
                "com.docker.compose.project": "shop",
                "com.docker.compose.service": name,
            }
            options = " ".join(f"-l {key}={value}" for key, value in labels.items())
            self.lab.must(
                f"docker run -d --network {service['network_mode']} {options} "
                f"{service['image']} {service['command']}"
            )

    def container(self, service):
        return self.lab.must(f"docker ps -q --filter label=com.docker.compose.service={service}")

    def fetched(self, service, port):
        fetch = f"timeout 3 wget -qO- http://127.0.0.1:{port}/served"
        return self.lab.sh(f"docker exec {self.container(service)} {fetch}").stdout.strip()

    def test_a_compose_project_and_a_unit(self):
        self.addCleanup(self.lab.sh, "systemctl stop shop-cache")
        self.up()
        self.lab.must("systemctl start shop-cache")
        for service in ("web", "db"):
            self.lab.await_state(self.container(service), "enforced")
            self.assertEqual(
                self.lab.workload_of(self.container(service))["labels"],
                {"app": "shop", "tier": service},
            )
        cache = next(each for each in self.lab.workloads() if each["kind"] == "unit")
        self.assertEqual(
            (cache["name"], cache["state"], cache["labels"]),
            ("shop-cache.service", "enforced", {"app": "shop", "tier": "cache"}),
        )
        for port in (8081, 8082):
            waiting.until(
                lambda port=port: self.fetched("web", port) == "served", "the web tier is served"
            )
        self.lab.await_served(8080)
        self.assertEqual(self.fetched("db", 8081), "served", "the database itself may")
        self.assertEqual(self.fetched("db", 8082), "", "only the web tier may")
        self.assertEqual(self.fetched("db", 8080), "")
        self.assertEqual(self.lab.ask(8081), "", "nor may this host")


class Logs(LabCase):
    DOCKER = False

    def test_rsyslog(self):
        recipe = 'global(workDirectory="/var/spool/rsyslog")\n' + text("monitoring/rsyslog.conf")
        self.lab.write("root/rsyslog.conf", recipe)
        self.lab.must("mkdir -p /var/spool/rsyslog && rsyslogd -N1 -f /root/rsyslog.conf")
        self.lab.must("rsyslogd -f /root/rsyslog.conf -i /run/recipe.pid")
        self.addCleanup(self.lab.sh, "kill $(cat /run/recipe.pid)")
        self.lab.must("trirun --label app=seen --unit seen -- busybox httpd -p 9003 -h /srv")
        self.addCleanup(self.lab.sh, "systemctl stop seen.scope")
        self.lab.await_served(9003, "app=seen")
        self.lab.must("logger --journald <<<$'MESSAGE=x\\nTRIREME_VERDICT=deny\\nTRIREME_PORT=1'")
        self.assertEqual(self.lab.ask(9003, "app=looker"), "")

        def flows():
            lines = self.lab.sh("cat /var/log/trireme-flows.json").stdout.splitlines()
            return [json.loads(line) for line in lines]

        waiting.until(lambda: any(each["port"] == "9003" for each in flows()), "it is there", 20)
        (flow,) = [each for each in flows() if each["port"] == "9003"]
        self.assertEqual((flow["verdict"], flow["protocol"], flow["count"]), ("deny", "tcp", "1"))
        self.assertIn("app=looker", flow["source"])
        self.assertIn("app=seen", flow["destination"])
        self.assertNotIn(
            "1", [each["port"] for each in flows()], "what others write does not count"
        )

        self.lab.must("nft flush ruleset")

        def events():
            lines = self.lab.sh("cat /var/log/trireme-events.json").stdout.splitlines()
            return {each["id"]: each for each in map(json.loads, lines)}

        drift = self.message_ids()["kDrift"]
        waiting.until(lambda: drift in events(), "the changed table is reported", 20)
        self.assertIn("table", events()[drift]["message"])

    @staticmethod
    def message_ids():
        with open(ROOT + "/include/trireme/base/journal.hpp", encoding="utf-8") as header:
            return dict(re.findall(r'(k\w+) = "([0-9a-f]{32})"', header.read()))

    def test_the_recipe_has_every_event_that_is_no_flow(self):
        flows = {"kDenied", "kAudited"}  # these have a verdict
        self.assertEqual(
            set(re.findall(r"[0-9a-f]{32}", text("monitoring/rsyslog.conf"))),
            {each for name, each in self.message_ids().items() if name not in flows},
        )

    def test_recipes_that_nobody_has_tried_say_so(self):
        for name in ("vector.toml", "fluent-bit.conf"):
            self.assertIn("NOT TRIED", text(f"monitoring/{name}"))


class Ansible(LabCase):
    DOCKER = False
    POLICY = '[[allow]]\nname = "{}"\nfrom = "app=web"\nto = "app=db"\n'

    def test_lint(self):
        for path in glob.glob(ANSIBLE + "/**/*.yml", recursive=True):
            with open(path, encoding="utf-8") as file:
                self.assertTrue(yaml.safe_load(file), path)
        if shutil.which("ansible-lint") is None:
            print("ansible-lint is not installed: the role is only parsed", flush=True)
            return
        done = subprocess.run(
            ["ansible-lint", "--offline", "site.yml"],
            cwd=ANSIBLE,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def play(self, policy):
        for path in glob.glob(ANSIBLE + "/**/*.yml", recursive=True):
            with open(path, encoding="utf-8") as file:
                self.lab.write("root/play/" + os.path.relpath(path, ANSIBLE), file.read())
        self.lab.write("root/play/policy/policy.toml", policy)
        self.lab.write("root/play/identity/localhost/identity.toml", '[host]\nname = "played"\n')
        return self.lab.sh(
            "cd /root/play && ANSIBLE_NOCOLOR=1 ansible-playbook -i localhost, -c local site.yml",
            300,
        )

    def test_the_role_in_use(self):
        if shutil.which("ansible-playbook") is None:
            print("ansible-playbook is not installed: the role is not run", flush=True)
            return
        done = self.play(self.POLICY.format("first"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("first", self.lab.must("cat /etc/trireme/policy.toml"))
        self.assertEqual(self.lab.status()["policy"]["rules"], 1)
        mode = self.lab.must("stat -c %a /etc/trireme")
        self.assertEqual(mode, "755", "the daemon can search the directory")
        again = self.play(self.POLICY.format("first"))
        self.assertRegex(again.stdout, r"changed=0 ", "a second run changes nothing")
        broken = self.play("[[allow]]\nform = 1\n")
        self.assertNotEqual(broken.returncode, 0)
        self.assertIn("policy.toml:2:1", broken.stdout)
        self.assertIn("first", self.lab.must("cat /etc/trireme/policy.toml"))
        self.assertEqual(self.lab.status()["policy"]["errors"], [])
        self.lab.must("systemctl stop trireme")
        before = self.play(self.POLICY.format("second"))
        self.assertEqual(before.returncode, 0, before.stdout + before.stderr)
        self.assertIn("second", self.lab.must("cat /etc/trireme/policy.toml"))
        self.assertEqual(self.lab.status()["policy"]["rules"], 1)
        self.assertEqual(self.lab.must("stat -c %a /etc/trireme"), mode)

    @unittest.skipUnless(LONG, "plays the role three times")
    def test_a_file_that_is_removed_from_the_control_machine(self):
        if shutil.which("ansible-playbook") is None:
            print("ansible-playbook is not installed: the role is not run", flush=True)
            return
        extra = "root/play/policy/policy.d/extra.toml"
        self.lab.write(extra, self.POLICY.format("extra"))
        self.assertEqual(self.play(self.POLICY.format("first")).returncode, 0)
        self.assertEqual(self.lab.status()["policy"]["rules"], 2)
        self.lab.must(f"rm /{extra}")
        self.assertEqual(self.play(self.POLICY.format("first")).returncode, 0)
        self.assertEqual(self.lab.status()["policy"]["rules"], 1)


class Workflow(unittest.TestCase):
    """The lines of the CI workflow, in a repository with the three-tier policy."""

    def commands(self):
        steps = yaml.safe_load(text("ci/policy.yml"))["jobs"]["check"]["steps"]
        return [step["run"] for step in steps if "trirectl" in step.get("run", "")]

    def outcomes(self, policy):
        with tempfile.TemporaryDirectory() as directory:
            os.mkdir(directory + "/policy")
            with open(directory + "/policy/policy.toml", "w", encoding="utf-8") as file:
                file.write(policy)
            path = os.path.dirname(TRIRECTL) + ":" + os.environ["PATH"]
            return [
                subprocess.run(
                    ["bash", "-e", "-c", command],
                    cwd=directory,
                    env={**os.environ, "PATH": path},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                ).returncode
                for command in self.commands()
            ]

    def test_a_good_policy_passes_and_bad_ones_do_not(self):
        good = text("policies/three-tier/policy.toml")
        self.assertEqual(len(self.commands()), 3)
        self.assertEqual(self.outcomes(good), [0, 0, 0])
        self.assertNotEqual(self.outcomes(good + "[[allow]]\nform = 1\n")[0], 0)
        failing = re.sub(r'expect = "deny"', 'expect = "allow"', good)
        self.assertNotEqual(self.outcomes(failing)[1], 0)
        opened = good + '[[allow]]\nname = "x"\nfrom = "@world"\nto = "tier=db"\n'
        self.assertNotEqual(self.outcomes(opened)[2], 0)


if __name__ == "__main__":
    unittest.main()
