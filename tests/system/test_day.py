# SPDX-License-Identifier: Apache-2.0
"""A day of an operator, from the first look to the last, on a host that already runs two services
and a compose project: survey, audit mode, suggest, lint, diff, apply, a mistake, a denial, a new
rule, an incident, a rollback. Every answer is compared with connections. Once with Docker, once
with Podman."""

import itertools
import json
import re
import shlex
import subprocess
import unittest

from tests.system import waiting
from tests.system.host import LONG
from tests.system.lab import Lab, LabCase
from tests.system.test_podman import FILES as PODMAN_FILES
from tests.system.test_podman import start_podman

CACHE, DB, REPORT, SITE = 7001, 7002, 7003, 7080
PORTS = f"tcp/{CACHE}-{DB}"  # of what becomes a workload
UNITS = (
    (
        "etc/systemd/system/cache.service",
        f"[Service]\nExecStart=/usr/bin/busybox nc -ll -p {CACHE} -e /bin/cat\n",
    ),
    (
        "etc/systemd/system/site.service",
        f"[Service]\nExecStart=/usr/bin/busybox httpd -f -p {SITE} -h /srv\n",
    ),
)
IDENTITY = '[docker]\ncontainers = "labeled"\n'
COMPOSE = "com.docker.compose."
HOST = ()  # commands without labels
AS_REPORT = ("trirun", "-l", "app=report", "--")
AS_STRANGER = ("trirun", "-l", "app=stranger", "--")
# Who talks to whom all day.
TALKS = {
    ("@host", "cache.service", CACHE),
    ("shop-web-1", "cache.service", CACHE),
    ("shop-web-1", "shop-db-1", DB),
}
# What a hurried operator keeps of the suggested rules.
MISTAKE = f"""
[[allow]]
name = "shop to cache"
from = "app=shop"
to = "app=cache"
ports = ["tcp/{CACHE}"]
[[allow]]
name = "shop to shop"
from = "app=shop"
to = "app=shop"
ports = ["tcp/{DB}"]
"""
RULE = f"""
[[allow]]
name = "report to cache"
from = "app=report"
to = "app=cache"
ports = ["tcp/{CACHE}"]
"""


def name_of(end):
    return end.get("workload") or end["entity"]


def ends_of(flow):
    return name_of(flow["source"]), name_of(flow["destination"]), flow["port"]


class Day:
    ENGINE = ""

    @classmethod
    def setUpClass(cls):
        """Without trireme: it comes to a host that is in use."""
        cls.lab = Lab(files=cls.FILES)
        cls.addClassCleanup(cls.lab.close)
        cls.start_engine()

    def test_from_the_first_look_to_the_last(self):
        for part in (
            self.services_run,
            self.survey,
            self.audit_mode,
            self.suggestion,
            self.slip,
            self.comparison,
            self.enforcement,
            self.mistake,
            self.denial,
            self.rule,
            self.incident,
            self.rollback,
            self.monitoring,
            self.history,
        ):
            print(part.__name__, flush=True)
            part()
            self.assertEqual(self.lab.ask(SITE), "served", "what is no workload is left alone")

    # --- commands and connections ---

    def json(self, *words):
        return json.loads(self.lab.must(shlex.join(["trirectl", *words, "--json"])))

    def flows(self, *words):
        text = self.lab.must(shlex.join(["trirectl", "flows", *words, "--json"]))
        return [json.loads(line) for line in text.splitlines()]

    def diff(self, directory, *words):
        done = self.lab.run(["trirectl", "policy", "diff", directory, "--json", *words])
        found = json.loads(done.stdout)
        self.assertEqual(done.returncode, 1 if found["differs"] else 0, done.stdout + done.stderr)
        return found

    def explain(self, source, target, port):
        """Returns (whether it is allowed, what is shown)."""
        done = self.lab.sh(
            f"trirectl policy explain --from {source} --to {target} --port tcp/{port}"
        )
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return done.returncode == 0, done.stdout

    def apply(self, directory, *words):
        return self.lab.must(
            shlex.join(["trirectl", "policy", "apply", directory, "--yes", *words])
        )

    def digest(self):
        return self.lab.status()["policy"]["digest"]

    def states(self):
        return {each["name"]: (each["state"], each["labels"]) for each in self.lab.workloads()}

    def in_web(self):
        return (self.ENGINE, "exec", "-i", "shop-web-1")

    def reaches(self, who, port):
        """Whether a new connection of these commands is answered."""
        line = f"echo ping | timeout 2 busybox nc 127.0.0.1 {port}"
        return self.lab.run([*who, "sh", "-c", line]).stdout == "ping\n"

    def all_talk(self):
        return [exchange() for exchange in (self.plain, self.web_cache, self.web_db)] == [True] * 3

    # --- the day ---

    def services_run(self):
        self.lab.must("systemctl start cache site")
        for service, command in (("db", f"nc -ll -p {DB} -e cat"), ("web", "sleep 1000")):
            labels = f"-l {COMPOSE}project=shop -l {COMPOSE}service={service}"
            options = f"-d --name shop-{service}-1 --net=host {labels}"
            self.lab.must(f"{self.ENGINE} run {options} busybox {command}")
        self.plain, self.web_cache, self.web_db = (
            self.talking([*who, "busybox", "nc", "127.0.0.1", str(port)])
            for who, port in ((HOST, CACHE), (self.in_web(), CACHE), (self.in_web(), DB))
        )
        self.lab.await_served(SITE)

    def candidates(self):
        return {each["name"]: each for each in self.json("survey")["candidates"]}

    def survey(self):
        self.lab.must("triremed --check")
        self.lab.start_trireme()
        wanted = {"cache.service", "site.service", "shop/db", "shop/web"}
        waiting.until(lambda: wanted <= set(self.candidates()), "all of them are found", 20)
        found = self.candidates()
        self.assertEqual(self.states(), {}, "it changes nothing")
        self.assertTrue(self.all_talk())
        for name, listens, connects, labels in (
            ("cache.service", [f"tcp/{CACHE}"], 0, {"app": "cache"}),
            ("shop/db", [f"tcp/{DB}"], 0, {"app": "shop", "tier": "db"}),
            ("shop/web", [], 2, {"app": "shop", "tier": "web"}),
        ):
            self.assertEqual(
                (found[name]["listens"], found[name]["connects"], found[name]["labels"]),
                (listens, connects, labels),
                name,
            )
        survey = self.json("survey")
        self.assertEqual(
            {
                ends_of(each): each["count"]
                for each in survey["denied"]
                if each["port"] in (CACHE, DB)
            },
            {
                ("@host", "cache.service", CACHE): 1,
                ("shop/web", "cache.service", CACHE): 1,
                ("shop/web", "shop/db", DB): 1,
            },
        )
        self.assertRegex(
            self.lab.must("trirectl survey"),
            rf"1 +shop/web \(app=shop,tier=web\) +shop/db \(app=shop,tier=db\) +tcp/{DB}",
        )
        # The lines that it proposes are what the operator uses.
        (label_from,) = re.findall(r"label_from = \{.*?\}", "\n".join(survey["notes"]))
        self.identity = f"{self.FILES[0][1]}{label_from}\n{found['cache.service']['lines']}"

    def audit_mode(self):
        self.first = self.digest()
        self.lab.must(
            "rm -rf /root/next /root/bare /root/wrong && mkdir /root/next"
            " && cp -r /etc/trireme/*.toml /etc/trireme/*.d /root/next"
        )
        self.lab.write("root/next/identity.toml", self.identity)
        self.lab.must("sed -i 's/^mode = \"enforce\"/mode = \"audit\"/' /root/next/policy.toml")
        self.assertIn("/root/next: valid", self.lab.must("trirectl policy check /root/next"))
        found = self.diff("/root/next")
        self.assertIn("mode: enforce -> audit", found["settings"])
        labels = {
            "cache.service": {"app": "cache"},
            "shop-db-1": {"app": "shop", "tier": "db"},
            "shop-web-1": {"app": "shop", "tier": "web"},
        }
        self.assertEqual(
            {each["name"]: (each["change"], each["after"]["labels"]) for each in found["identity"]},
            {name: ("becomes", each) for name, each in labels.items()},
        )
        self.assertEqual(found["live_flows_cut"], 0)
        self.apply("/root/next")
        self.audited = self.digest()
        waiting.until(
            lambda: self.states() == {name: ("enforced", each) for name, each in labels.items()},
            "they are workloads",
            20,
        )
        found = self.candidates()
        self.assertIn("site.service", found)
        for name in ("cache.service", "shop/db", "shop/web"):
            self.assertNotIn(name, found)
        waiting.until(
            lambda: self.all_talk()
            and {ends_of(each) for each in self.flows("--verdict", "audit", "--port", PORTS)}
            == TALKS,
            "what enforcement would deny is logged, and goes on",
            20,
            0.1,
        )
        self.assertEqual(
            {ends_of(each): each["verdict"] for each in self.flows("--live", "--port", PORTS)},
            {talk: "audit" for talk in TALKS},
        )

    def suggestion(self):
        asked = ("policy", "suggest", "--port", PORTS)
        proposed = self.json(*asked)
        self.assertEqual(proposed["networks"], [])
        self.assertEqual(
            {
                each
                for rule in proposed["rules"]
                for each in itertools.product(rule["from"], rule["to"], rule["ports"])
            },
            {
                ("@host", "app=cache", f"tcp/{CACHE}"),
                ("app=shop,tier=web", "app=cache", f"tcp/{CACHE}"),
                ("app=shop,tier=web", "app=shop,tier=db", f"tcp/{DB}"),
            },
            "what was seen, and no more",
        )
        self.lab.must(shlex.join(["trirectl", *asked]) + " >/root/next/policy.d/suggested.toml")

    def slip(self):
        self.lab.write(
            "root/next/policy.d/10-own.toml",
            f'[[allow]]\nname = "admin"\nfrom = "@host"\nto = "cache"\nports = ["tcp/{CACHE}"]\n',
        )
        done = self.lab.sh("trirectl policy lint /root/next")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("10-own.toml", done.stdout)
        self.assertIn("did you mean 'app=cache'?", done.stdout)
        self.lab.must("rm /root/next/policy.d/10-own.toml && trirectl policy lint /root/next")

    def comparison(self):
        """With the suggested rules and without."""
        self.lab.must("sed -i 's/^mode = \"audit\"/mode = \"enforce\"/' /root/next/policy.toml")
        self.lab.must("cp -r /root/next /root/bare && rm /root/bare/policy.d/suggested.toml")
        for directory, cut in (("/root/bare", 3), ("/root/next", 0)):
            found = self.diff(directory, "--seen", "1h")
            self.assertEqual(found["settings"], ["mode: audit -> enforce"], directory)
            self.assertEqual((found["identity"], found["live_flows_cut"]), ([], cut), directory)
            self.assertEqual(
                {each["port"] for each in found["seen"]["cuts"]} & {f"tcp/{CACHE}", f"tcp/{DB}"},
                {f"tcp/{CACHE}", f"tcp/{DB}"} if cut else set(),
                directory,
            )
        said = self.lab.sh("trirectl policy diff /root/next").stdout
        self.assertRegex(said, r"(?m)^0 of \d+ open connections would end$")

    def enforcement(self):
        said = self.apply("/root/next", "--confirm", "5m")
        self.assertIn("unless confirmed: trirectl policy confirm", said)
        status = self.lab.status()
        self.assertEqual(status["mode"], "enforce")
        self.assertEqual(status["pending"]["rollback_digest"], self.audited)
        self.assertTrue(self.all_talk(), "as the comparison said")
        self.lab.must("trirectl policy confirm")
        self.assertIsNone(self.lab.status()["pending"])
        self.enforced = self.digest()
        self.assert_enforced()

    def assert_enforced(self):
        """By new connections: what the suggested rules allow, and nothing else."""
        self.assertEqual(self.digest(), self.enforced)
        for who, port, expected in (
            (HOST, CACHE, True),
            (HOST, DB, False),
            (self.in_web(), CACHE, True),
            (self.in_web(), DB, True),
            (AS_STRANGER, CACHE, False),
        ):
            self.assertEqual(self.reaches(who, port), expected, f"{who} {port}")

    def mistake(self):
        """The operator's own connections are not in the new policy."""
        self.lab.must("cp -r /root/next /root/wrong")
        self.lab.write("root/wrong/policy.d/suggested.toml", MISTAKE)
        found = self.diff("/root/wrong")
        self.assertEqual(
            [
                (each["from"]["text"], each["to"]["workload"], each["port"], each["count"])
                for each in found["cuts"]
            ],
            [("@host", "cache.service", f"tcp/{CACHE}", 1)],
        )
        said = self.apply("/root/wrong", "--confirm", "6s")
        self.wrong = self.digest()
        self.assertRegex(said, r"1 of \d+ open connections would end:")
        waiting.until(lambda: not self.plain(), "the connection is cut", 3)
        self.assertFalse(self.reaches(HOST, CACHE))
        self.assertTrue(self.web_cache() and self.web_db(), "the others go on")
        waiting.until(
            lambda: self.reaches(HOST, CACHE), "nobody confirms: the old policy is back", 15
        )
        self.assertEqual((self.digest(), self.lab.status()["pending"]), (self.enforced, None))
        self.lab.must("diff -r /etc/trireme/policy.d /root/next/policy.d")
        self.assertIn(
            "was not confirmed in time", self.lab.must("journalctl -b -u trireme --no-pager")
        )
        self.assertTrue(self.web_cache() and self.web_db())

    def denial(self):
        """It is seen with its reason, and explained, by one command each."""
        self.assertFalse(self.reaches(AS_REPORT, CACHE))
        asked = ("--verdict", "deny", "--from", "app=report", "--port", str(CACHE))
        flow = waiting.until(lambda: self.flows(*asked), "the denial is shown")[-1]
        self.assertEqual(
            (flow["source"]["labels"], name_of(flow["destination"]), flow["policy"]),
            ({"app": "report"}, "cache.service", self.enforced[:16]),
        )
        self.assertRegex(
            self.lab.must(shlex.join(["trirectl", "flows", *asked])),
            rf"deny  app=report -> app=cache tcp/{CACHE}  no rule allows it",
        )
        allowed, why = self.explain("app=report", "cache.service", CACHE)
        self.assertFalse(allowed)
        self.assertIn("the labels differ in app", why)
        self.assertIn("closest rule: allow ", why)
        allowed, why = self.explain("shop-web-1", "cache.service", CACHE)
        self.assertTrue(allowed)
        self.assertIn("suggested.toml", why)

    def rule(self):
        report = self.lab.popen(
            [*AS_REPORT[:-1], "--unit", "report", "--", "busybox", "nc", "-ll"]
            + ["-p", str(REPORT), "-e", "/bin/cat"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(self._end, report)
        waiting.until(
            lambda: self.states().get("report.scope") == ("enforced", {"app": "report"}),
            "it is a workload",
        )
        self.lab.write("root/next/policy.d/20-report.toml", RULE)
        found = self.diff("/root/next")
        self.assertEqual(
            [(each["from"], each["to"], each["gained"], each["lost"]) for each in found["access"]],
            [(["app=report"], ["app=cache"], f"tcp/{CACHE}", "")],
        )
        self.assertEqual((found["identity"], found["live_flows_cut"]), ([], 0))
        self.apply("/root/next")
        self.allowed = self.digest()
        self.assertTrue(self.reaches(AS_REPORT, CACHE))
        self.assertFalse(self.reaches(AS_REPORT, DB))
        allowed, why = self.explain("app=report", "cache.service", CACHE)
        self.assertTrue(allowed)
        self.assertIn("'report to cache'", why)
        waiting.until(
            lambda: any(
                each.get("name") == "report to cache" and each["hits"]
                for each in self.json("rules")
            ),
            "the rule has counted",
        )
        shown = self.flows("--all", "--verdict", "allow", "--from", "app=report", "--port", PORTS)
        self.assertEqual({name_of(each["destination"]) for each in shown}, {"cache.service"})

    def incident(self):
        self.lab.must("trirectl quarantine shop-web-1 --reason 'beacons to 203.0.113.9'")
        for restarted in (False, True):
            if restarted:
                self.lab.must("systemctl restart trireme")
            for port in (CACHE, DB):
                self.assertFalse(self.reaches(self.in_web(), port), f"restarted: {restarted}")
            self.assertTrue(self.reaches(HOST, CACHE), "the others are not in quarantine")
            (hold,) = self.lab.status()["holds"]
            self.assertEqual(
                (hold["name"], hold["reason"]), ("shop-web-1", "beacons to 203.0.113.9")
            )
        waiting.until(lambda: self.lab.status()["holds"][0]["live"], "it is known again", 15)
        allowed, why = self.explain("shop-web-1", "cache.service", CACHE)
        self.assertFalse(allowed)
        self.assertRegex(why, r"ordered by \S+ at 2.*Z: beacons to 203")
        self.assertEqual(self.states()["shop-web-1"][0], "quarantined")
        self.lab.must("trirectl release shop-web-1")
        for port in (CACHE, DB):
            waiting.until(
                lambda port=port: self.reaches(self.in_web(), port), f"it reaches {port} again", 15
            )
        self.assertEqual(self.lab.status()["holds"], [])
        self.assertEqual(self.digest(), self.allowed, "no file has changed")

    def rollback(self):
        self.assertTrue(self.reaches(AS_REPORT, CACHE))
        self.lab.must("trirectl policy rollback")
        self.assertFalse(self.reaches(AS_REPORT, CACHE))
        self.assert_enforced()

    def monitoring(self):
        done = self.lab.sh("trirectl status --check")
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.lab.write("etc/trireme/policy.toml", '[[allow]]\nfrom = 7\nto = "*"\n')
        done = self.lab.sh("trirectl status --check")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"^not in force: policy\.toml:2:8: error: ")
        waiting.until(lambda: self.lab.status()["policy"]["errors"], "the daemon has read it")
        self.assert_enforced()
        self.lab.must(f"trirectl policy rollback {self.enforced[:16]}")
        self.lab.must("cmp /etc/trireme/policy.toml /root/next/policy.toml")
        self.lab.must("trirectl status --check")

    def history(self):
        self.assertEqual(
            [
                (each["digest"], each["how"], each["in_force"], each["rolled_back"])
                for each in self.json("policy", "history")
            ],
            [
                (self.enforced, "rollback", True, False),
                (self.allowed, "apply", False, True),
                (self.wrong, "apply", False, True),
                (self.audited, "apply", False, False),
                (self.first, "start", False, False),
            ],
        )
        shown = self.lab.must("trirectl policy history")
        self.assertEqual((shown.count("in force"), shown.count("rolled back")), (1, 2), shown)


class WithDocker(Day, LabCase):
    ENGINE = "docker"
    FILES = (("etc/trireme/identity.toml", IDENTITY), *UNITS)

    @classmethod
    def start_engine(cls):
        cls.lab.start_docker()


@unittest.skipUnless(LONG, "the same day as with Docker")
class WithPodman(Day, LabCase):
    ENGINE = "podman"
    DOCKER = False
    FILES = (
        ("etc/trireme/identity.toml", IDENTITY + 'socket = "/run/podman/podman.sock"\n'),
        *UNITS,
        *PODMAN_FILES,
    )

    @classmethod
    def start_engine(cls):
        start_podman(cls.lab)


if __name__ == "__main__":
    unittest.main()
