# SPDX-License-Identifier: Apache-2.0
"""Changes of policy and identity on a booted host: what `trirectl policy diff` and `triremed
--check --config-dir` say before the change happens, and what ends when it does."""

import json
import time
import unittest

from tests.system import waiting
from tests.system.crossing import BRIDGE4
from tests.system.lab import LabCase

AUDIT = '[defaults]\nmode = "audit"\n'
ECHO = "[Service]\nExecStart=/bin/busybox nc -ll -p {port} -e /bin/cat\n"
ECHO_UNIT = '[[unit]]\nname = "echo.service"\nlabels = { app = "echo" }\n'
REPLAY_UNIT = ECHO_UNIT.replace("echo", "replay")
RULE = '[[allow]]\nfrom = "{origin}"\nto = "{target}"\n'


class Changes(LabCase):
    FILES = (
        ("etc/systemd/system/echo.service", ECHO.format(port=7401)),
        ("etc/systemd/system/replay.service", ECHO.format(port=7403)),
    )

    def setUp(self):
        super().setUp()
        self.put("", "")
        self.addCleanup(self.put, "", "")
        self.addCleanup(self.lab.sh, "systemctl stop echo")
        self.lab.must("systemctl start echo")

    def put(self, policy, identity):
        """Puts both files in force."""
        self.lab.write("etc/trireme/identity.toml", identity)
        self.lab.policy(policy)

    def prepare(self, policy, identity=None):
        """The directory that the comparisons are about."""
        self.lab.write("srv/next/policy.toml", policy)
        self.lab.sh("rm -f /srv/next/identity.toml")
        if identity is not None:
            self.lab.write("srv/next/identity.toml", identity)

    def diff(self, *options):
        done = self.lab.sh(f"trirectl policy diff /srv/next --json {' '.join(options)}")
        found = json.loads(done.stdout)
        self.assertEqual(done.returncode, 1 if found["differs"] else 0, done.stdout)
        return found

    def said(self, *options):
        return self.lab.sh(f"trirectl policy diff /srv/next {' '.join(options)}").stdout

    def checked(self):
        done = self.lab.sh("triremed --check --config-dir /srv/next")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr

    def container(self, name, labels, command="sleep 1000"):
        self.lab.must(f"docker run -d --name {name} --net=host {labels} busybox {command}")
        self.lab.await_state(self.lab.must(f"docker inspect -f '{{{{.Id}}}}' {name}"), "enforced")

    def await_unit(self, name="echo.service"):
        def is_enforced():
            states = {each["name"]: each["state"] for each in self.lab.workloads()}
            return states.get(name) == "enforced"

        waiting.until(is_enforced, f"{name} is enforced")

    def live(self, port):
        lines = self.lab.must(f"trirectl flows --live --json --port {port}").splitlines()
        return [
            (each["count"], each["source"], each["destination"]) for each in map(json.loads, lines)
        ]

    # --- units ---

    def test_a_running_service_becomes_a_unit_in_audit_mode(self):
        """Its open connections keep their attribution, count as what enforcement would end, and
        end then."""
        self.lab.policy(AUDIT)
        plain = self.talking(["busybox", "nc", "127.0.0.1", "7401"])
        self.put(AUDIT, ECHO_UNIT)
        self.await_unit()
        for _ in range(2):  # before the first packet, and after
            ((count, source, destination),) = self.live(7401)
            self.assertEqual((count, source["entity"]), (1, "@host"))
            self.assertEqual(
                (destination["labels"], destination["workload"]),
                ({"app": "echo"}, "echo.service"),
            )
            self.assertTrue(plain())
        waiting.until(
            lambda: self.lab.must("trirectl flows --json --port 7401"), "audit mode logs it"
        )
        suggested = json.loads(self.lab.must("trirectl policy suggest --port 7401 --json"))
        self.assertEqual(suggested["networks"], [], "another process of this host is @host")
        self.assertEqual([rule["from"] for rule in suggested["rules"]], [["@host"]])

        self.prepare("", ECHO_UNIT)
        found = self.diff()
        self.assertEqual(found["live_flows_cut"], 1)
        self.assertEqual(found["settings"], ["mode: audit -> enforce"])
        self.assertEqual(found["identity"], [])
        self.assertTrue(plain())
        self.put("", ECHO_UNIT)
        waiting.until(lambda: not plain(), "it has ended")

    def test_a_directory_that_adds_a_unit(self):
        first, second = (self.talking(["busybox", "nc", "127.0.0.1", "7401"]) for _ in range(2))
        self.prepare("", ECHO_UNIT)
        found = self.diff()
        self.assertEqual((found["live_flows_cut"], found["identity_compared"]), (2, True))
        (change,) = found["identity"]
        self.assertEqual(
            (change["name"], change["change"], change["before"], change["live_flows_cut"]),
            ("echo.service", "becomes", None, 2),
        )
        self.assertEqual(change["after"]["labels"], {"app": "echo"})
        (cut,) = found["cuts"]
        self.assertEqual(
            (cut["count"], cut["port"], cut["to"]["cgroup"]),
            (2, "tcp/7401", "/system.slice/echo.service"),
        )
        text = self.said()
        self.assertIn("[[unit]] echo.service (app=echo): added\n", text)
        self.assertIn(
            "echo.service becomes a workload with app=echo (2 connections would end)\n", text
        )
        self.assertRegex(text, r"2 +@host +echo\.service \(@host\) +tcp/7401 +no rule allows it")
        checked = self.checked()
        self.assertIn("2 would be cut:", checked)
        self.assertIn("2 x @host -> echo.service (app=echo) tcp/7401: no rule allows it", checked)

        # Nothing is cut in audit mode, or with a rule.
        for policy in (AUDIT, RULE.format(origin="@host", target="app=echo")):
            self.prepare(policy, ECHO_UNIT)
            self.assertEqual(self.diff()["live_flows_cut"], 0, policy)
            self.assertEqual(self.checked(), "", policy)
        self.assertTrue(first() and second())
        self.put("", ECHO_UNIT)
        waiting.until(lambda: not first() and not second(), "both have ended")

    def test_a_directory_that_removes_a_unit(self):
        """A workload may not reach @host, which the unit then is part of."""
        policy = RULE.format(origin="app=web", target="app=echo")
        self.put(policy, ECHO_UNIT)
        self.await_unit()
        web = self.talking(["trirun", "-l", "app=web", "--", "busybox", "nc", "127.0.0.1", "7401"])
        self.prepare(policy, "")
        found = self.diff()
        self.assertEqual([each["change"] for each in found["identity"]], ["ends"])
        self.assertEqual(found["live_flows_cut"], 1)
        self.assertIn("echo.service is no longer a workload (1 connection would end)", self.said())
        self.assertIn("1 would be cut:", self.checked())
        self.assertTrue(web())
        self.put(policy, "")
        waiting.until(lambda: not web(), "it has ended, not only stopped")

    def test_labels_are_not_proved_to_another_network_afterwards(self):
        """A container on the bridge talks to a process of this host, which then becomes a workload
        with the same labels. New connections prove them; the open one began without."""
        policy = f'[[network]]\nname = "bridge"\ncidrs = ["{BRIDGE4}"]\n'
        policy += RULE.format(origin="app=echo", target="@bridge")
        self.put(policy, "")
        self.lab.must("docker run -d --name near -l app=echo busybox sleep 1000")
        self.lab.await_state(self.lab.must("docker inspect -f '{{.Id}}' near"), "enforced")
        command = ["docker", "exec", "-i", "near", "nc", BRIDGE4, "7401"]
        near = self.talking(command)
        self.prepare(AUDIT + policy, ECHO_UNIT)
        self.assertEqual(self.diff()["live_flows_cut"], 0, "audit mode")
        self.prepare(policy, ECHO_UNIT)
        (cut,) = self.diff()["cuts"]
        self.assertEqual((cut["count"], cut["port"]), (1, "tcp/7401"))
        self.assertTrue(near())
        self.put(policy, ECHO_UNIT)
        self.await_unit()
        waiting.until(lambda: not near(), "it has ended")
        self.assertTrue(self.talking(command)(), "a new one")

    def test_a_container_that_is_no_longer_a_workload(self):
        """The table in its network namespace is removed. The service would go on to know it by the
        labels that it proved. Its address is allowed, but for new connections only."""
        policy = RULE.format(origin="app=near", target="app=echo")
        policy += '[[network]]\nname = "containers"\ncidrs = ["172.17.0.0/16"]\n'
        policy += RULE.format(origin="@containers", target="app=echo")
        self.put(policy, ECHO_UNIT)
        self.await_unit()
        self.lab.must("docker run -d --name far -l app=near busybox sleep 1000")
        self.lab.await_state(self.lab.must("docker inspect -f '{{.Id}}' far"), "enforced")
        command = ["docker", "exec", "-i", "far", "nc", BRIDGE4, "7401"]
        far = self.talking(command)
        identity = ECHO_UNIT + '[docker]\ncontainers = "host-network"\n'
        self.prepare(policy, identity)
        found = self.diff()
        self.assertEqual(
            [each["text"] for each in found["identity"]], ["far is no longer a workload"]
        )
        self.assertEqual(found["live_flows_cut"], 1)
        self.assertTrue(far())
        self.put(policy, identity)
        waiting.until(lambda: not far(), "it has ended")
        self.assertTrue(self.talking(command)(), "a new one")

    def test_a_directory_without_identity_is_compared_without(self):
        self.put("", ECHO_UNIT)
        self.await_unit()
        self.prepare("")
        found = self.diff()
        self.assertEqual((found["differs"], found["identity_compared"]), (False, False))
        done = self.lab.sh("trirectl policy diff /srv/next")
        self.assertEqual(done.stdout, "no change for any current workload\n")
        self.assertIn("has no identity.toml: identity was not compared", done.stderr)
        self.prepare("", "")
        self.assertNotIn("no change", self.said(), "an empty file removes the unit")

    def test_who_may_launch_is_a_difference(self):
        self.prepare("", '[[launch]]\nuser = "root"\nlabels = ["app=web*"]\n')
        found = self.diff()
        self.assertEqual(found["settings"], ["[[launch]] user root (app=web*): added"])
        self.assertEqual((found["identity"], found["live_flows_cut"]), ([], 0))
        self.assertNotIn("no change", self.said())

    # --- labels ---

    def test_labels_of_containers(self):
        policy = RULE.format(origin="app=web", target="app=db,tier=a")
        self.put(policy, "")
        self.container("db", "-l app=db -l tier=a", "nc -ll -p 7402 -e cat")
        self.container("web", "-l app=web")
        web = self.talking(["docker", "exec", "-i", "web", "nc", "127.0.0.1", "7402"])
        identity = '[docker]\nlabels = ["app"]\n'
        self.prepare(policy, identity)
        found = self.diff()
        (change,) = found["identity"]
        self.assertEqual(change["text"], "db changes from app=db,tier=a to app=db")
        self.assertEqual((change["live_flows_cut"], found["live_flows_cut"]), (1, 1))
        self.assertEqual(found["cuts"][0]["identity"], [change["text"]])
        self.assertIn("1 x web (app=web) -> db (app=db) tcp/7402", self.checked())
        self.assertTrue(web())
        self.put(policy, identity)
        waiting.until(lambda: not web(), "it has ended")

    def test_labels_of_the_host(self):
        policy = RULE.format(origin="app=web,zone=eu", target="app=db")
        self.put(policy, '[host]\nlabels = { zone = "eu" }\n')
        self.container("db", "-l app=db", "nc -ll -p 7402 -e cat")
        web = self.talking(["trirun", "-l", "app=web", "--", "busybox", "nc", "127.0.0.1", "7402"])
        identity = '[host]\nlabels = { zone = "us" }\n'
        self.prepare(policy, identity)
        found = self.diff()
        self.assertEqual({each["change"] for each in found["identity"]}, {"changes"})
        self.assertEqual(len(found["identity"]), 2, "every workload of the host")
        self.assertEqual(found["live_flows_cut"], 1)
        self.assertIn("[host] labels: zone=eu -> zone=us", found["settings"])
        self.assertIn("1 would be cut:", self.checked())
        self.assertTrue(web())
        self.put(policy, identity)
        waiting.until(lambda: not web(), "it has ended")

    def test_which_containers_count(self):
        policy = RULE.format(origin="*", target="app=db")
        self.put(policy, "")
        self.container("db", "-l app=db", "nc -ll -p 7402 -e cat")
        self.container("bare", "")
        bare = self.talking(["docker", "exec", "-i", "bare", "nc", "127.0.0.1", "7402"])
        identity = '[docker]\ncontainers = "none"\n'
        self.prepare(policy, identity)
        found = self.diff()
        self.assertEqual([each["change"] for each in found["identity"]], ["ends", "ends"])
        self.assertEqual(found["live_flows_cut"], 0, "policy applies to neither end")
        identity = '[docker]\ncontainers = "labeled"\n'
        self.prepare(policy, identity)
        found = self.diff()
        self.assertEqual(
            [each["text"] for each in found["identity"]], ["bare is no longer a workload"]
        )
        self.assertEqual(found["live_flows_cut"], 1)
        self.assertTrue(bare())
        self.put(policy, identity)
        waiting.until(lambda: not bare(), "it has ended")

    def test_containers_that_the_daemon_does_not_know(self):
        none = '[docker]\ncontainers = "none"\n'
        self.put("", none)
        self.lab.must("docker run -d --name db --net=host -l app=db busybox nc -ll -p 7402 -e cat")
        plain = self.talking(["busybox", "nc", "127.0.0.1", "7402"])
        self.prepare("", "")
        (note,) = self.diff()["notes"]
        self.assertIn("containers were not compared", note)
        self.assertIn("'triremed --check --config-dir /srv/next'", note)
        self.assertIn("1 x @host -> db (app=db) tcp/7402: no rule allows it", self.checked())
        self.put("", "")
        waiting.until(lambda: not plain(), "it has ended")

    # --- flows that were seen ---

    def test_flows_of_the_last_days_are_replayed(self):
        """From the daemon's memory, and after its restart from the journal. The service is this
        test's own: the journal has the flows of the other tests."""
        self.addCleanup(self.lab.sh, "systemctl stop replay")
        self.lab.must("systemctl start replay")
        self.put(AUDIT, REPLAY_UNIT)
        self.await_unit("replay.service")
        self.talking(["busybox", "nc", "127.0.0.1", "7403"])
        waiting.until(
            lambda: self.lab.must("trirectl flows --json --port 7403 --verdict audit"),
            "it is logged",
        )
        self.prepare("", REPLAY_UNIT)
        for restarted in (False, True):
            if restarted:
                self.lab.must("systemctl restart trireme")
                self.assertEqual(self.lab.must("trirectl flows --json --port 7403"), "")
            seen = self.diff("--seen", "1h")["seen"]
            self.assertEqual((seen["seconds"], seen["journal"]), (3600, "read"))
            self.assertEqual(seen["forgotten"], 0)
            self.assertIn(
                "allowed flows from before the daemon's start are not known",
                self.lab.sh("trirectl policy diff /srv/next --seen 1h").stderr,
            )
            cuts = [cut for cut in seen["cuts"] if cut["port"] == "tcp/7403"]
            self.assertEqual(
                {(cut["from"]["text"], cut["to"]["text"]) for cut in cuts},
                {("@host", "app=replay")},
                f"restarted: {restarted}",
            )
            self.assertRegex(
                self.said("--seen", "1h"), r"\d+ of \d+ flows? seen in the last 1h would be denied:"
            )
            if not restarted:
                self.lab.must("systemctl restart replay")  # no flow that is logged again
        self.prepare(RULE.format(origin="@host", target="app=replay"), REPLAY_UNIT)
        seen = self.diff("--seen", "1h")["seen"]
        self.assertEqual([c for c in seen["cuts"] if c["port"] == "tcp/7403"], [])
        wrong = self.lab.sh("trirectl policy diff /srv/next --seen yesterday")
        self.assertNotEqual(wrong.returncode, 0)
        self.assertIn("invalid time span 'yesterday'", wrong.stderr)

    def test_anybody_can_write_to_the_journal(self):
        """Only the daemon's entries count."""
        forged = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
            "verdict": "audit",
            "source": {"labels": {"app": "forged"}, "workload": "x"},
            "destination": {"labels": {"app": "echo"}, "workload": "y"},
            "protocol": "tcp",
            "port": 4711,
            "rule": "",
            "reason": "",
        }
        self.lab.write(
            "srv/entry",
            f"MESSAGE=x\nSYSLOG_IDENTIFIER=triremed\nTRIREME_FLOW={json.dumps(forged)}\n",
        )
        self.lab.must("logger --journald=/srv/entry; journalctl --sync; systemctl restart trireme")
        self.put(AUDIT, "")
        self.prepare("", "")
        # The flows that other tests of this class have made are there, too.
        self.assertNotIn("forged", json.dumps(self.diff("--seen", "1h")["seen"]))


if __name__ == "__main__":
    unittest.main()
