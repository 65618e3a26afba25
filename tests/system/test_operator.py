# SPDX-License-Identifier: Apache-2.0
"""trirectl as an operator uses it: flows, suggestions, differences and graphs, on a terminal and in
pipes."""

import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
import unittest

from tests.system import terminal, waiting
from tests.system.host import LOCAL4, TRIRECTL, TRIREMED, HostCase

LONG_LABELS = (
    "app=a-service-with-a-rather-long-name,env=production,team=platform-engineering,tier=frontend"
)
AUDIT = '[defaults]\nmode = "audit"\n'


def end_of(end):
    return (
        ",".join(f"{key}={value}" for key, value in end["labels"].items())
        if "labels" in end
        else end["entity"]
    )


class Operator(HostCase):
    def setUp(self):
        super().setUp()
        self.host.explicit_reload("")

    def json(self, *arguments):
        return json.loads(self.host.must([TRIRECTL, *arguments, "--json"]))

    def lines(self, *arguments):
        return [
            json.loads(line)
            for line in self.host.must([TRIRECTL, *arguments, "--json"]).splitlines()
        ]

    def flows(self, *arguments):
        return self.lines("flows", *arguments)

    def served(self, labels, port):
        server = self.host.labelled(labels)
        server.serve("tcp", "0.0.0.0", port)
        return server

    def await_flow(self, *filters):
        return waiting.until(lambda: self.flows(*filters), f"flows {' '.join(filters)}")

    # --- flows ---

    def test_filters(self):
        self.served("app=db", 7100)
        web = self.host.labelled("app=web")
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7100))
        self.assert_refused(self.host.plain().exchange("tcp", LOCAL4, 7100))
        self.await_flow("--port", "7100", "--from", "@host")
        mine = ("--port", "tcp/7100")
        self.assertEqual(
            [flow["source"]["labels"] for flow in self.flows(*mine, "--from", "app=web")],
            [{"app": "web"}],
        )
        self.assertEqual(len(self.flows(*mine)), 2)
        for yes in (
            ["--with", "app in (db)"],
            ["--to", "app=db", "--verdict", "deny"],
            ["--protocol", "tcp"],
            ["--since", "5m"],
            ["--verdict", "audit,deny"],
        ):
            self.assertEqual(len(self.flows(*mine, *yes)), 2, yes)
        self.assertEqual(len(self.flows(*mine, "--from", "10.99.0.0/24")), 1)
        for no in (
            ["--verdict", "allow"],
            ["--from", "app=db"],
            ["--to", "@host"],
            ["--protocol", "udp"],
        ):
            self.assertEqual(self.flows(*mine, *no), [], no)
        # In each form of a port. The daemon knows no names of services.
        for port in ("font-service", "tcp/font-service", "7100/tcp", "7100-7100/tcp"):
            self.assertEqual(len(self.flows("--port", port)), 2, port)
        self.assertEqual(self.flows("--port", "udp/7100,https"), [])
        for command, wrong in (
            ("flows", ["--verdict", "denied"]),
            ("flows", ["--from", "@nowhere"]),
            ("flows", ["--summary", "--to", "app=(x"]),
            ("flows", ["--live", "--with", "@nowhere"]),
            ("flows", ["--port", "no-such-service"]),
            ("flows", ["--protocol", "sctp"]),
            ("flows", ["--since", "yesterday"]),
            ("policy suggest", ["--from", "@nowhere"]),
            ("policy explain", ["--from", "@host", "--to", "nobody", "--port", "80"]),
            ("policy explain", ["--from", "@host", "--to", "a=b", "--port", "80-81"]),
        ):
            done = self.host.trirectl(*command.split(), *wrong)
            self.assertEqual(done.returncode, 2, wrong)
            self.assertIn("trirectl: hint:", done.stderr)
        done = self.host.trirectl("flows", "--from", "@nowhere", "--json")
        self.assertEqual(json.loads(done.stdout)["error"]["kind"], "usage")

    def test_summary_counts_alike_ones_together(self):
        self.served("app=db", 7101)
        for _ in range(2):
            self.assert_refused(self.host.labelled("app=web").exchange("tcp", "127.0.0.1", 7101))
            self.host.agents.pop().end()
        tally = waiting.until(
            lambda: [
                each for each in self.flows("--summary", "--port", "7101") if each["count"] == 2
            ],
            "both are counted",
            15,
        )[0]
        self.assertEqual((tally["source"]["labels"], tally["verdict"]), ({"app": "web"}, "deny"))

    def test_summary_says_how_many_kinds_it_leaves_out(self):
        web = self.host.labelled("app=web")
        for port in ("7117", "7118", "7119"):
            self.served("app=db", int(port))
            self.assert_refused(web.exchange("tcp", "127.0.0.1", int(port)))
            self.await_flow("--port", port)
        mine = ("flows", "--summary", "--port", "7117-7119", "--limit")
        self.assertEqual(
            self.host.must([TRIRECTL, *mine, "1"]).splitlines()[-1],
            "and 2 more kinds of flow: -n shows more",
        )
        self.assertNotIn("more", self.host.must([TRIRECTL, *mine, "3"]))
        done = self.host.trirectl(*mine, "2", "--json")
        listed = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([each.get("left_out") for each in listed], [None, 1])
        self.assertEqual(done.stderr, "and 1 more kind of flow: -n shows more\n")

    def test_live_connections(self):
        self.served("app=web", 7102)
        client = self.host.labelled("app=web")
        for name in ("one", "two"):
            client.open(name, "tcp", "127.0.0.1")
            self.assert_allowed(client.connect(name, "127.0.0.1", 7102))
        live = self.flows("--live", "--port", "7102")
        self.assertEqual(
            [(each["count"], each["verdict"], each["source"]["labels"]) for each in live],
            [(2, "allow", {"app": "web"})],
        )
        self.assertEqual(
            [(each["local"], each["guess"]) for each in live], [(True, False)], "it listens"
        )
        self.assertEqual(self.flows("--live", "--port", "7102", "--from", "@host"), [])
        client.close("one")
        waiting.until(
            lambda: [each["count"] for each in self.flows("--live", "--port", "7102")] == [1],
            "a connection that both ends closed is not listed",
        )
        client.close("two", reset=True)
        waiting.until(
            lambda: self.flows("--live", "--port", "7102") == [], "nor is one that was reset"
        )

    def test_live_connections_that_audit_mode_let_pass_have_their_ends(self):
        """The endpoints are kept in the flow itself, so a restarted daemon with an empty log shows
        them."""
        self.host.explicit_reload(AUDIT)
        self.served("app=db", 7112)
        self.host.plain().serve("tcp", "0.0.0.0", 7113)
        web, plain = self.host.labelled("app=web"), self.host.plain()
        for name, client, port in (("a", web, 7112), ("b", plain, 7112), ("c", web, 7113)):
            client.open(name, "tcp", "127.0.0.1")
            self.assert_allowed(client.connect(name, "127.0.0.1", port))
            client.send_text(name, "ping")
            self.assertEqual(client.receive(name), {"text": "ping"})
        db = self.host.agents[0]
        db.open("u", "udp", "127.0.0.1", 7114)
        self.assert_allowed(web.open("u", "udp", "127.0.0.1"))
        web.send_to("u", "ping", "127.0.0.1", 7114)
        self.assertEqual(db.receive("u"), {"text": "ping"})
        self.host.restart()
        live = [self.flows("--live", "--port", port) for port in ("7112", "7113", "7114")]
        reported = sorted(
            (each["port"], each["verdict"], end_of(each["source"]), end_of(each["destination"]))
            for each in sum(live, [])
        )
        self.assertEqual(
            reported,
            [
                (7112, "audit", "@host", "app=db"),
                (7112, "audit", "app=web", "app=db"),
                (7113, "audit", "app=web", "@host"),
                (7114, "audit", "app=web", "app=db"),
            ],
        )

    def test_a_flow_that_audit_mode_lets_go_on_is_told_whoever_speaks_first(self):
        """It was allowed when it began, but no longer is."""
        self.host.explicit_reload('[[allow]]\nfrom = "app=web"\nto = "app=db"\n')
        db, web = self.host.labelled("app=db"), self.host.labelled("app=web")
        for name, port in (("question", 7115), ("answer", 7116)):
            db.open(name, "tcp", "127.0.0.1", port, listen=1)
            web.open(name, "tcp", "127.0.0.1")
            self.assert_allowed(web.connect(name, "127.0.0.1", port))
            self.assertEqual(db.accept(name, name + " taken"), "ok")
        self.host.explicit_reload(AUDIT)
        self.assertEqual(web.send_text("question", "ping"), "ok")
        self.assertEqual(db.receive("question taken"), {"text": "ping"})
        self.assertEqual(db.send_text("answer taken", "ping"), "ok")
        self.assertEqual(web.receive("answer"), {"text": "ping"})
        for port in ("7115", "7116"):
            reported = self.await_flow("--port", port)
            self.assertEqual(
                [
                    (each["verdict"], end_of(each["source"]), end_of(each["destination"]))
                    for each in reported
                ],
                [("audit", "app=web", "app=db")],
                port,
            )
            live = self.flows("--live", "--port", port)
            self.assertEqual(
                [
                    (each["verdict"], end_of(each["source"]), end_of(each["destination"]))
                    for each in live
                ],
                [("audit", "app=web", "app=db")],
                port,
            )

    def test_follow_is_one_line_for_each_flow_and_ends_with_the_daemon(self):
        self.served("app=db", 7103)
        follower = self.host.popen(
            [TRIRECTL, "flows", "--follow", "--limit", "0", "--port", "7103"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        tail = self.host.popen(
            [
                TRIRECTL,
                "flows",
                "--follow",
                "--json",
                "--limit",
                "0",
                "--verdict",
                "deny",
                "--port",
                "7103",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self._reap, follower, tail)
        web = self.host.labelled("app=web")

        def attempt():  # repeated until the daemon has registered the followers
            web.exchange("tcp", "127.0.0.1", 7103)
            return select.select([follower.stdout], [], [], 0.2)[0]

        waiting.until(attempt, "a line comes at once", 20)
        line = follower.stdout.readline()
        self.assertRegex(
            line,
            r"^\d\d:\d\d:\d\d\.\d{3} deny  app=web -> app=db tcp/7103  no rule allows it\n$",
        )
        self.assertEqual(json.loads(tail.stdout.readline())["port"], 7103)
        self.host.restart()
        self.assertEqual(follower.wait(10), 1)
        self.assertIn("connection to triremed lost", follower.stderr.read())

    def test_a_flow_has_both_verdicts_and_the_policy(self):
        self.served("app=db", 7120)
        web = self.host.labelled("app=web")
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7120))
        (flow,) = self.await_flow("--port", "7120")
        self.assertEqual(flow["verdicts"], {"source": "deny", "destination": "deny"})
        self.assertEqual(flow["policy"], self.host.status()["policy"]["digest"][:16])
        self.assert_refused(self.host.plain().exchange("tcp", "127.0.0.1", 7120))
        self.await_flow("--port", "7120", "--from", "@host")
        (flow,) = self.flows("--port", "7120", "--from", "@host")
        self.assertEqual(
            flow["verdicts"],
            {"source": None, "destination": "deny"},
            "an unlabeled process does not decide",
        )
        full = self.host.must([TRIRECTL, "flows", "--verbose", "--port", "7120"])
        self.assertRegex(
            full,
            r"(?m)^\d{4}-\d\d-\d\dT[0-9:.]+Z deny  \S+ app=web \[127\.0\.0\.1\] -> \S+ app=db "
            r"\[127\.0\.0\.1\] tcp/7120  no rule allows it; deny at the source, deny at the "
            rf"destination; policy {flow['policy']}$",
        )

    def test_nothing_to_show_is_said(self):
        for options in ([], ["--summary"]):
            done = self.host.trirectl("flows", "--port", "1", *options)
            self.assertEqual((done.returncode, done.stdout), (0, ""), options)
            self.assertRegex(done.stderr, r"^no matching flows since \d\d:\d\d:\d\d", options)
        self.assertRegex(self.host.trirectl("flows", "--since", "0s").stderr, r"^no flows since ")
        live = self.host.trirectl("flows", "--live", "--port", "1")
        self.assertEqual(live.stderr, "no matching open connections of workloads\n")

    def test_the_same_columns_on_a_terminal_and_in_a_pipe(self):
        self.served("app=db,env=prod", 7121)
        web = self.host.labelled("app=web,env=prod")
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7121))
        self.await_flow("--port", "7121")
        for options in ([], ["--summary"]):
            argv = [TRIRECTL, "flows", "--port", "7121", *options]
            piped = self.host.must(argv)
            self.assertIn("app=web,…", piped)
            self.assertIn("app=db,…", piped)
            _, _, lines = terminal.show(self.host.popen, argv)
            self.assertEqual(lines, piped.splitlines(), options)

    def test_follow_ends_when_nobody_reads(self):
        self.served("app=db", 7104)
        script = f"{TRIRECTL} flows --follow --limit 0 --port 7104; echo code $? >&2"
        follower = self.host.popen(
            ["bash", "-c", f"({script}) | head -n 1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self._reap, follower)
        deadline = time.monotonic() + 20
        while follower.poll() is None and time.monotonic() < deadline:
            self.host.labelled("app=web").exchange("tcp", "127.0.0.1", 7104)
            self.host.agents.pop().end()
        self.assertEqual(follower.communicate(timeout=10)[1], "code 0\n")

    def _reap(self, *processes):
        for process in processes:
            process.kill()
            process.communicate()

    # --- suggest, diff ---

    def test_from_audit_to_enforcement(self):
        """Audit, suggest, check, diff, save, enforce: every flow that was seen is allowed, all
        others are denied."""
        self.host.explicit_reload(AUDIT)
        self.served("app=db", 7105)
        resolver = self.host.plain()
        resolver.serve("udp", "127.0.0.53", 53)
        web = self.host.labelled("app=web")
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", 7105))
        self.assert_allowed(web.exchange("udp", "127.0.0.53", 53))
        self.await_flow("--verdict", "audit", "--port", "tcp/7105")
        self.await_flow("--verdict", "audit", "--port", "udp/53")
        web.open("live", "tcp", "127.0.0.1")
        self.assert_allowed(web.connect("live", "127.0.0.1", 7105))

        suggested = self.host.must([TRIRECTL, "policy", "suggest", "--port", "tcp/7105,udp/53"])
        directory = self.enterContext(tempfile.TemporaryDirectory())
        os.mkdir(directory + "/policy.d")
        for name, text in (("policy.toml", ""), ("policy.d/suggested.toml", suggested)):
            with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        checked = self.host.trirectl("policy", "check", directory)
        self.assertEqual(checked.returncode, 0, checked.stdout + suggested)
        self.assertIn("2 rules", checked.stdout)

        # Without the suggestion the open connection would end; with it, it continues.
        empty = self.enterContext(tempfile.TemporaryDirectory())
        open(empty + "/policy.toml", "w", encoding="utf-8").close()
        bare = self.host.trirectl("policy", "diff", empty, "--json")
        self.assertEqual(bare.returncode, 1)
        self.assertEqual(json.loads(bare.stdout)["settings"], ["mode: audit -> enforce"])
        self.assertGreaterEqual(json.loads(bare.stdout)["live_flows_cut"], 1)
        found = json.loads(self.host.trirectl("policy", "diff", directory, "--json").stdout)
        self.assertEqual(found["live_flows_cut"], 0)
        for to, ports in (("app=db", "tcp/7105"), ("@dns", "udp/53")):
            gained = [
                change["gained"]
                for change in found["access"]
                if "app=web" in change["from"] and to in change["to"]
            ]
            self.assertEqual(gained, [ports], found["access"])
        self.assertFalse([change for change in found["access"] if change["lost"]])
        text = self.host.trirectl("policy", "diff", directory).stdout
        self.assertRegex(text, r"0 of \d+ open connections? would end")

        self.host.write("policy.d/suggested.toml", suggested)
        self.addCleanup(lambda: os.unlink(self.host.config + "/policy.d/suggested.toml"))
        self.host.explicit_reload("")
        self.assertEqual(self.host.trirectl("policy", "diff", self.host.config).returncode, 0)
        self.assert_allowed(web.send_text("live", "ping"))
        self.assertEqual(web.receive("live"), {"text": "ping"})
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", 7105))
        self.assert_allowed(web.exchange("udp", "127.0.0.53", 53))
        self.assert_refused(self.host.labelled("app=other").exchange("tcp", "127.0.0.1", 7105))

    def test_refused_flows_are_suggested_when_asked_for(self):
        self.served("app=db", 7106)
        self.assert_refused(self.host.labelled("app=web").exchange("tcp", "127.0.0.1", 7106))
        self.await_flow("--port", "7106")
        asked = ("policy", "suggest", "--port", "7106")
        self.assertEqual(self.json(*asked)["rules"], [])
        rules = self.json(*asked, "--denied")["rules"]
        self.assertEqual(
            [(each["from"], each["to"], each["ports"]) for each in rules],
            [(["app=web"], ["app=db"], ["tcp/7106"])],
        )

    def test_diff_names_who_gains_and_who_loses(self):
        self.host.explicit_reload(
            '[[allow]]\nname = "old"\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/7107"]\n'
        )
        self.served("app=db", 7107)
        web = self.host.labelled("app=web")
        web.open("live", "tcp", "127.0.0.1")
        self.assert_allowed(web.connect("live", "127.0.0.1", 7107))
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
            file.write(
                '[[allow]]\nname = "new"\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/7108"]\n'
            )
        done = self.host.trirectl("policy", "diff", directory)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"app=web +app=db +tcp/7108 +tcp/7107\n")
        self.assertIn("was: allow 'old' (policy.toml:1:1)", done.stdout)
        self.assertRegex(
            done.stdout,
            r"1 of \d+ open connections? would end:\nCOUNT +FROM +TO +PORT +WHY\n1 +app=web +app=db +tcp/7107 +no rule allows it",
        )
        # A repository of policy contains no keys.
        with open(directory + "/identity.toml", "w", encoding="utf-8") as file:
            file.write('[trust]\ncertificate = "host.pem"\nkey = "host.key"\nca = "ca.pem"\n')
        keyless = self.host.trirectl("policy", "diff", directory)
        self.assertEqual(keyless.returncode, 1)
        self.assertIn("[trust] certificate: none -> host.pem\n", keyless.stdout)
        self.assertTrue(keyless.stdout.endswith("\n\n" + done.stdout), keyless.stdout)
        self.assertIn("identity.toml:3:7: warning: cannot read", keyless.stderr)
        question = ("--from", "app=web", "--to", "app=db", "--port", "7108")
        explained = self.host.trirectl("policy", "explain", *question, "--config-dir", directory)
        self.assertEqual(explained.returncode, 0, explained.stdout + explained.stderr)
        checked = self.host.trirectl("policy", "check", directory)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        self.assertIn("identity.toml:3:7: warning: cannot read", checked.stdout)
        # The daemon's own directory must have them.
        self.host.write("identity.d/trust.toml", '[trust]\npsk_file = "none"\n')
        self.addCleanup(self.host.explicit_reload, "")
        self.addCleanup(os.unlink, self.host.config + "/identity.d/trust.toml")
        for arguments in ((), (self.host.config + "/.",)):
            needed = self.host.trirectl("policy", "check", *arguments)
            self.assertEqual(needed.returncode, 1, needed.stdout)
            self.assertIn("identity.d/trust.toml:2:12: error: cannot read", needed.stdout)
        with open(directory + "/policy.toml", "a", encoding="utf-8") as file:
            file.write("[[allow]]\nform = 1\n")
        wrong = self.host.trirectl("policy", "diff", directory)
        self.assertEqual((wrong.returncode, wrong.stdout), (1, ""))
        self.assertIn(
            "policy.toml:7:1: error: unknown key 'form' in [[allow]]; did you mean 'from'?",
            wrong.stderr,
        )

    def test_anybody_checks_a_directory_of_their_own(self):
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        for name, content in (
            ("policy.toml", '[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["tcp:80"]\n'),
            ("identity.toml", '[trust]\npsk_file = "psk"\n'),
        ):
            with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
                file.write(content)
            os.chown(f"{directory}/{name}", 65534, 65534)
        os.chown(directory, 65534, 65534)

        def check(*arguments):
            nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            return self.host.run([*nobody, TRIRECTL, "policy", "check", directory, *arguments])

        done = check("--format", "github")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(
            done.stdout.splitlines()[0],
            f"::error file={directory}/policy.toml,line=4,col=11::unknown protocol in 'tcp:80'; "
            "did you mean 'tcp/80'?",
        )
        self.assertTrue(done.stdout.splitlines()[1].startswith("::warning file="), done.stdout)
        self.assertEqual(len(done.stdout.splitlines()), 2)
        answer = json.loads(check("--format", "json").stdout)
        self.assertFalse(answer["valid"])
        self.assertEqual(
            [(each["file"], each["severity"]) for each in answer["diagnostics"]],
            [("policy.toml", "error"), ("identity.toml", "warning")],
        )
        self.assertEqual(json.loads(check("--json").stdout), answer)
        with open(f"{directory}/policy.toml", "w", encoding="utf-8") as file:
            file.write("")
        self.assertEqual(check().returncode, 0)

    # --- capabilities ---

    def test_capabilities_are_counted_and_acknowledged(self):
        self.host.labelled("app=cap")
        (workload,) = self.host.workloads()
        self.assertIn("CAP_NET_ADMIN", workload["capabilities"])  # the agent runs as root
        self.assertEqual(workload["acknowledged"], [])
        line = "1 workload can bypass policy by its capabilities: CAP_NET_ADMIN (1)"
        for command in ("workloads", "status"):
            short = self.host.trirectl(command).stdout
            self.assertIn(line, short)
            self.assertNotIn("can remove the rules", short)
            self.assertIn(
                "CAP_NET_ADMIN: can remove the rules", self.host.trirectl(command, "-v").stdout
            )
        counted = self.host.status()["capabilities"]
        self.assertEqual(counted["workloads"], 1)
        self.assertEqual(counted["by_capability"]["CAP_NET_ADMIN"], 1)
        known = json.dumps(workload["capabilities"])
        self.host.write("identity.d/known.toml", f"[host]\nacknowledge = {known}\n")
        self.addCleanup(self.host.explicit_reload, "")
        self.addCleanup(os.unlink, self.host.config + "/identity.d/known.toml")
        self.host.explicit_reload("")
        (workload,) = self.host.workloads()
        self.assertEqual(workload["capabilities"], [])
        self.assertFalse([each for each in workload["warnings"] if "CAP_" in each])
        self.assertTrue([each for each in workload["acknowledged"] if "CAP_NET_ADMIN" in each])
        self.assertEqual(self.host.status()["capabilities"]["workloads"], 0)
        for command in ("workloads", "status"):
            self.assertNotIn("capabilities", self.host.trirectl(command).stdout)
        self.assertIn("acknowledged: CAP_NET_ADMIN", self.host.trirectl("workloads", "-v").stdout)

    # --- lint ---

    def test_lint_knows_who_is_present(self):
        directory = tempfile.mkdtemp(dir=self.host.undo.directory)
        with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
            file.write(
                '[[network]]\nname = "unused"\ncidrs = ["192.0.2.0/24"]\n'
                '[[allow]]\nname = "web"\nfrom = "lint-web"\nto = "10.0.0.0/8"\nports = ["tcp/80-80"]\n'
            )

        def findings():
            done = self.host.trirectl("policy", "lint", directory, "--json")
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            answer = json.loads(done.stdout)
            self.assertTrue(answer["workloads_known"])
            return {each["kind"]: each["text"] for each in answer["findings"]}

        self.assertEqual(set(findings()), {"network", "selector", "ports"})
        self.assertIn("'10.0.0.0/8' in 'to' is read as a label key", findings()["selector"])
        self.host.labelled("app=lint-web")
        done = self.host.trirectl("policy", "lint", directory)
        self.assertEqual(done.returncode, 1)
        self.assertIn("did you mean 'app=lint-web'?", done.stdout)
        self.assertIn(f"{directory}: 4 findings", done.stdout)
        self.host.labelled("lint-web=1")
        done = self.host.trirectl("policy", "lint", directory)
        self.assertNotIn("app=lint-web", done.stdout)

        github = self.host.trirectl("policy", "lint", directory, "--format", "github")
        self.assertIn(
            f"::warning file={directory}/policy.toml,line=1,col=1::no rule", github.stdout
        )
        self.assertEqual(
            len(github.stdout.splitlines()), github.stdout.count("::warning file="), github.stdout
        )
        self.assertEqual(
            self.host.trirectl("policy", "lint", directory, "--format", "xml").returncode, 2
        )
        # What the first three kinds say is in the log and in status after a load, too.
        self.host.explicit_reload('[[allow]]\nfrom = "app=web"\nto = "10.0.0.0/8"\n')
        warnings = self.host.status()["policy"]["warnings"]
        self.assertTrue(any("'10.0.0.0/8' in 'to'" in each for each in warnings), warnings)
        self.assertIn("'10.0.0.0/8' in 'to' is read as a label key", self.host.log_text())
        self.host.explicit_reload("")
        self.assertEqual(self.host.trirectl("policy", "lint").returncode, 0)

    # --- graph ---

    def test_the_directory_is_the_daemons(self):
        """Without --config-dir trirectl uses the daemon's directory, which is not /etc/trireme
        here."""
        self.addCleanup(self.host.policy, "")
        self.host.write("policy.toml", '[[allow]]\nform = "app=a"\n')
        check = self.host.trirectl("policy", "check")
        self.assertEqual(check.returncode, 1)
        self.assertIn("policy.toml:2:1: error: unknown key 'form'", check.stdout)
        self.assertIn(f"{self.host.config}: invalid", check.stdout)
        self.assertEqual(self.host.trirectl("policy", "test").returncode, 1)
        nowhere = tempfile.mkdtemp(dir=self.host.undo.directory)
        os.symlink("nowhere.toml", nowhere + "/policy.toml")
        dangling = self.host.trirectl("policy", "test", "--config-dir", nowhere)
        self.assertEqual(
            (dangling.returncode, dangling.stdout),
            (
                1,
                "policy.toml: error: cannot read the file: No such file or directory\n"
                "0 tests, 1 error\n",
            ),
        )
        diff = self.host.trirectl("policy", "diff")
        self.assertEqual(
            (diff.returncode, diff.stderr.splitlines()[-1]),
            (1, f"trirectl: {self.host.config} is invalid: not compared"),
        )
        elsewhere = tempfile.mkdtemp(dir=self.host.undo.directory)
        with open(elsewhere + "/policy.toml", "w", encoding="utf-8"):
            pass
        for arguments in ((elsewhere,), ("--config-dir", elsewhere)):
            self.assertIn(
                f"{elsewhere}: valid", self.host.trirectl("policy", "check", *arguments).stdout
            )
        # Without a daemon, or one that this user may not ask, it is /etc/trireme.
        nobody = self.host.run([TRIRECTL, "policy", "check", "--runtime-dir", elsewhere])
        self.assertRegex(nobody.stdout, "(?m)^/etc/trireme: ")
        user = self.host.run(
            [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                TRIRECTL,
                "policy",
                "check",
            ]
        )
        self.assertRegex(user.stdout, "(?m)^/etc/trireme: ")

    def test_graph(self):
        self.host.explicit_reload(
            '[[allow]]\nname = "x</script>y"\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/7109"]\n'
        )
        self.served("app=db", 7109)
        web = self.host.labelled("app=web")
        web.open("live", "tcp", "127.0.0.1")
        self.assert_allowed(web.connect("live", "127.0.0.1", 7109))
        drawn = self.json("policy", "graph")
        texts = [node["text"] for node in drawn["nodes"]]
        edge = next(
            each
            for each in drawn["edges"]
            if (texts[each["from"]], texts[each["to"]]) == ("app=web", "app=db")
        )
        self.assertEqual(edge["may"], "tcp/7109")
        self.assertIn(
            ("allow", "tcp/7109"), [(use["verdict"], use["ports"]) for use in edge["did"]]
        )
        dot = self.host.must([TRIRECTL, "policy", "graph"])
        self.assertRegex(dot, r'label="tcp/7109\n(?:.*\n)*?allow tcp/7109 x\d')
        self.assertIn("<svg", self.host.must([TRIRECTL, "policy", "graph", "--format", "svg"]))
        none = self.host.run(
            ["env", "PATH=/nowhere", TRIRECTL, "policy", "graph", "--format", "svg"]
        )
        self.assertEqual(none.returncode, 1)
        self.assertIn("apt-get install graphviz", none.stderr)
        page = self.host.must([TRIRECTL, "policy", "graph", "--format", "html"])
        self.assertEqual(page.count("</script>"), 2, "a name of a rule must not end the script")
        self.assertEqual(
            re.findall(r"<(?:script|link|img|iframe|object)\b[^>]*(?:src|href)\s*=", page), []
        )
        self.assertIn("content=\"default-src 'none'; script-src 'sha256-", page)
        self.assert_page_is_searched(page)

    def test_a_graph_shows_what_the_policy_in_force_decides(self):
        """Not what an earlier policy decided when the flow was seen."""
        self.host.explicit_reload(AUDIT)
        self.served("app=db", 7122)
        web = self.host.labelled("app=web")
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", 7122))
        self.await_flow("--port", "7122", "--verdict", "audit")

        def verdicts():
            return {
                use["verdict"]
                for edge in self.json("policy", "graph")["edges"]
                for use in edge["did"]
                if use["ports"] == "tcp/7122"
            }

        self.assertEqual(verdicts(), {"audit"})
        self.host.explicit_reload(
            AUDIT + '[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/7122"]\n'
        )
        self.assertEqual(verdicts(), {"allow"})

    def test_allowed_flows_that_were_seen_are_drawn_and_replayed(self):
        """No connection is open, and no rule logs them."""
        self.host.explicit_reload(
            '[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/7123"]\n'
        )
        self.served("app=db", 7123)
        web = self.host.labelled("app=web")
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", 7123))
        waiting.until(lambda: self.flows("--all", "--port", "7123"), "the sample")
        waiting.until(lambda: not self.flows("--live", "--port", "7123"), "it is closed")
        drawn = [
            use["verdict"]
            for edge in self.json("policy", "graph")["edges"]
            for use in edge["did"]
            if use["ports"] == "tcp/7123"
        ]
        self.assertEqual(drawn, ["allow"])
        directory = self.enterContext(tempfile.TemporaryDirectory())
        open(directory + "/policy.toml", "w", encoding="utf-8").close()
        done = self.host.trirectl("policy", "diff", directory, "--seen", "1h", "--json")
        found = json.loads(done.stdout)
        self.assertEqual(found["live_flows_cut"], 0)
        self.assertEqual(
            [
                (cut["from"]["text"], cut["to"]["text"], cut["reason"])
                for cut in found["seen"]["cuts"]
                if cut["port"] == "tcp/7123"
            ],
            [("app=web", "app=db", "no rule allows it")],
        )

    def assert_page_is_searched(self, page):
        """In a browser, from disk: a search shows only what matches."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with open(directory + "/graph.html", "w", encoding="utf-8") as file:
            file.write(page)

        def shown(search):
            document = subprocess.run(
                [
                    "chromium",
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    f"--user-data-dir={directory}/profile",
                    "--dump-dom",
                    f"file://{directory}/graph.html#{search}",
                ],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            groups = re.findall(r"<g [^>]*>", document)
            nodes = [group for group in groups if 'class="node ' in group]
            edges = [group for group in groups if 'class="edge ' in group]
            return sorted(re.search('aria-label="([^"\n]*)', node)[1] for node in nodes), len(edges)

        self.assertEqual(shown("7109"), (["app=db", "app=web"], 1))
        self.assertEqual(shown("no-such-word"), ([], 0))

    # --- explain ---

    def test_explain_by_name_labels_and_address(self):
        self.host.explicit_reload(
            '[[network]]\nname = "dns"\ncidrs = ["192.0.2.53"]\n'
            '[[allow]]\nname = "names"\nfrom = "app=web"\nto = "@dns"\nports = ["udp/53"]\n'
        )
        self.host.labelled("app=web", "--unit", "web-one")
        name = self.host.workloads()[0]["name"]
        for end in (name, "app=web"):
            for to in ("@dns", "192.0.2.53"):
                done = self.host.trirectl(
                    "policy", "explain", "--from", end, "--to", to, "--port", "udp/53"
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("allow 'names' (policy.toml:4:1)", done.stdout)
        missed = self.host.trirectl(
            "policy", "explain", "--from", name, "--to", "@dns", "--port", "tcp/53"
        )
        self.assertEqual(missed.returncode, 1)
        self.assertIn(
            "closest rule: allow 'names' (policy.toml:4:1)\n                covers only udp/53, not tcp/53",
            missed.stdout,
        )

    def test_explain_names_the_parts_of_a_network(self):
        self.host.explicit_reload(
            '[[network]]\nname = "corp"\ncidrs = ["10.0.0.0/8", "192.0.2.0/24"]\n'
            '[[network]]\nname = "lab"\ncidrs = ["10.1.0.0/16"]\n'
            '[[allow]]\nfrom = "app=web"\nto = "@corp"\n'
            '[[deny]]\nfrom = "app=web"\nto = "@lab"\n'
        )
        question = ("--from", "app=web", "--to", "@corp", "--port", "80")
        done = self.host.trirectl("policy", "explain", *question)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(
            done.stdout, r"\Aapp=web -> 10\.1\.0\.0 \(@world, @corp, @lab\) .*denied\n"
        )
        self.assertIn(
            f"  other part:   allowed at 10.0.0.0 (@world, @corp), {LOCAL4} (@host, @corp): "
            "a rule allows it: allow (policy.toml:7:1)\n",
            done.stdout,
        )
        parts = json.loads(self.host.trirectl("policy", "explain", *question, "--json").stdout)
        self.assertEqual(
            [(part["verdict"], part["count"]) for part in parts["other_parts"]], [("allow", 2)]
        )

    # --- a terminal of 80 columns ---

    def test_nothing_wraps_in_80_columns(self):
        self.host.explicit_reload(
            '[[allow]]\nname = "a rule with a name that is longer than anybody would like to read in a table"\n'
            f'from = "{LONG_LABELS}"\nto = "app=db"\nports = ["tcp/1-5"]\n'
        )
        self.served(LONG_LABELS, 7110)
        client = self.host.labelled("app=other-service,env=production,team=a-team-with-a-long-name")
        self.assert_refused(client.exchange("tcp", LOCAL4, 7110))
        # Labels of 60 characters, which differ at their ends only.
        ends = [f"app={'x' * 55}{number}" for number in (1, 2)]
        self.served(ends[0], 7111)
        self.assert_refused(self.host.labelled(ends[1]).exchange("tcp", LOCAL4, 7111))
        self.await_flow("--port", "7111")
        client.open("udp", "udp", "0.0.0.0")
        self.await_flow("--port", "7110")
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
            file.write(
                f'[defaults]\nbaseline = "none"\n[[allow]]\nfrom = "{LONG_LABELS}"\nto = ["app=db", "@host", "*"]\nports = ["tcp/80", "tcp/443", "udp/443", "udp/8000-8999"]\n'
            )
        for argv in (
            ["status"],
            ["workloads"],
            ["flows"],
            ["flows", "--summary"],
            ["flows", "--live"],
            ["flows", "--verbose"],
            ["flows", "--summary", "--verbose"],
            ["policy", "explain", "--from", ends[1], "--to", ends[0], "--port", "tcp/7111"],
            ["policy", "diff", directory],
            ["policy", "diff", directory, "--seen", "1h"],
            ["policy", "history"],
            ["policy", "lint", directory],
            ["rules"],
            [
                "policy",
                "explain",
                "--from",
                LONG_LABELS,
                "--to",
                "app=other-service,env=production,team=a-team-with-a-long-name",
                "--port",
                "tcp/443",
            ],
            ["policy", "check", directory],
            ["reload"],
            ["--help"],
            ["flows", "--help"],
            ["policy", "--help"],
            ["policy", "diff", "--help"],
            ["policy", "suggest", "--help"],
            ["policy", "graph", "--help"],
            ["policy", "explain", "--help"],
            ["pki", "issue", "--help"],
        ):
            _, shown, lines = terminal.show(self.host.popen, [TRIRECTL, *argv])
            self.assertTrue(lines, argv)
            for line in lines:
                self.assertLessEqual(terminal.width(line), terminal.COLUMNS, f"{argv}: {line}")
            packed = "".join(lines).replace(" ", "")
            if argv[0] == "flows" and "--live" not in argv and "--help" not in argv:
                self.assert_nothing_is_cut(argv, lines, ends)
            if argv == ["workloads"]:
                for label in (*ends, *LONG_LABELS.split(",")):
                    self.assertIn(label, self.column(lines, "LABELS"), argv)
            if argv == ["flows"]:
                self.assertIn("\x1b[31mdeny", shown)
                self.assertRegex(
                    packed,
                    r"deny app=other-service,team=a-team-with-a-long-name,… ->".replace(" ", ""),
                )
                self.assertIn("tcp/7110noruleallowsit", packed)
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn(
                "\x1b",
                terminal.show(self.host.popen, [TRIRECTL, "flows"], environment)[1],
                environment,
            )
        self.assertNotIn("\x1b", self.host.must([TRIRECTL, "flows"]))

    @staticmethod
    def column(lines, name):
        """The text of a column of a table, with cells that are wrapped put together."""
        head = next(line for line in lines if name in line)
        start = head.index(name)
        after = re.compile(r"  +(\S)").search(head, start)
        return "".join(line[start : after.start(1) if after else None].strip() for line in lines)

    def assert_nothing_is_cut(self, argv, lines, ends):
        """The labels that differ are whole, although their lines are wrapped."""
        if "--summary" in argv:
            shown = self.column(lines, "FROM") + self.column(lines, "TO")
        else:
            shown = "".join(line.strip() for line in lines)
        for label in (*ends, "app=other-service", "team=a-team-with-a-long-name"):
            self.assertIn(label, shown, argv)
        self.assertNotRegex(shown, r"[^,]…", f"{argv}: only whole labels are left out")

    # --- usage ---

    def test_usage_errors_say_what_was_meant(self):
        for argv, meant in (
            (["statu"], "unknown command 'statu'; did you mean 'status'?"),
            (
                ["policy", "chek"],
                "unknown command 'chek'; did you mean 'check'?",
            ),
            (
                ["flows", "--folow"],
                "unknown option '--folow' of 'trirectl flows'; did you mean '--follow'?",
            ),
            (["policy"], "missing command: one of check, lint, test, explain"),
            (["policy", "graph", "--format", "png"], "png"),
            (
                ["explain", "--from", "app=web"],
                "unknown command 'explain'; the command is 'trirectl policy explain'",
            ),
            (["help", "polici"], "unknown command 'polici'; did you mean 'policy'?"),
            (["flows", "--from=", "--to", "app=db"], "option '--from' needs a value"),
            (["-o", "yaml", "status"], "use table, wide or json"),
            (["policy", "explain", "--from", "app=web"], "--to is required"),
            (["reload", "now"], "unexpected argument 'now'"),
            (["--folow", "flows"], "unknown option '--folow' of 'trirectl flows'; did you mean"),
            (["--follow", "flows"], "option '--follow' must come after 'trirectl flows'"),
            (
                ["--config-dir", "/nowhere", "pki", "psk", "/nowhere/psk"],
                "'trirectl pki psk' has no option '--config-dir'",
            ),
            (["--config-dir"], "option '--config-dir' needs a value"),
            ([], "missing command: one of status, "),
        ):
            done = self.host.trirectl(*argv)
            self.assertEqual((done.returncode, done.stdout), (2, ""), argv)
            self.assertIn(meant, done.stderr)
            self.assertIn("--help'", done.stderr)
        done = self.host.trirectl("--json")
        error = json.loads(done.stdout)["error"]
        self.assertEqual((done.returncode, error["kind"]), (2, "usage"))
        self.assertIn("missing command: one of status, ", error["message"])

    def test_help_and_version(self):
        for words in ([], ["policy"], ["policy", "diff"], ["help"]):
            self.assertEqual(
                self.host.must([TRIRECTL, "help", *words]),
                self.host.must([TRIRECTL, *words, "--help"]),
            )
        self.assertEqual(
            self.host.must([TRIRECTL, "version"]), self.host.must([TRIRECTL, "--version"])
        )
        version = json.loads(self.host.must([TRIRECTL, "version", "-o", "json"]))["version"]
        self.assertEqual(version, self.host.status()["version"])

    def test_output_formats(self):
        self.host.labelled("app=web")
        listed = self.host.must([TRIRECTL, "workloads", "-o", "json"])
        self.assertEqual(listed, self.host.must([TRIRECTL, "--json", "workloads"]))
        cgroup = json.loads(listed)[0]["cgroup"]
        self.assertIn(cgroup, self.host.must([TRIRECTL, "-o", "wide", "workloads"]).split())
        table = self.host.must([TRIRECTL, "workloads", "-o", "table"])
        self.assertNotIn(cgroup, table)
        self.assertEqual(table, self.host.must([TRIRECTL, "workloads"]))

    def test_status_check(self):
        done = self.host.trirectl("status", "--check")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        # Warnings do not count.
        self.host.explicit_reload('[[network]]\nname = "unused"\ncidrs = ["192.0.2.1"]\n')
        self.assertEqual(self.host.trirectl("status", "--check").returncode, 0)
        self.host.write("policy.toml", '[[allow]]\nfrom = 7\nto = "*"\n')
        self.addCleanup(self.host.explicit_reload, "")

        def problems():
            done = self.host.trirectl("status", "--check")
            return done.returncode == 1 and done.stdout.splitlines()

        # At once, also before the daemon has read the file.
        first = problems()
        self.assertTrue(first)
        waiting.until(lambda: self.host.status()["policy"]["errors"], "the daemon has read it")
        for lines in first, problems():
            self.assertRegex(lines[0], r"^not in force: policy\.toml:2:8: error: ")
        checked = json.loads(self.host.trirectl("status", "--check", "--json").stdout)
        self.assertEqual((checked["ok"], checked["problems"]), (False, problems()))
        nobody = self.host.run([TRIRECTL, "--runtime-dir", "/nowhere", "status", "--check"])
        self.assertEqual((nobody.returncode, nobody.stdout), (1, ""))
        self.assertIn("cannot reach trireme", nobody.stderr)
        # Valid files that the daemon has not read yet, the identity's too.
        self.host.explicit_reload("")
        self.addCleanup(self.host.write, "identity.toml", "")
        lines = []
        for number in range(20):  # the daemon reads a file 0.2 s after it was saved
            self.host.write("identity.toml", f'[host]\nlabels = {{ zone = "z{number}" }}\n')
            lines = problems()
            if lines:
                break
        self.assertTrue(lines)
        self.assertRegex(lines[0], r"^not in force: the identity in \S+ differs from the one")
        self.host.must([TRIRECTL, "reload"])
        self.assertEqual(self.host.trirectl("status", "--check").returncode, 0)

    def test_options_may_come_before_the_subcommand(self):
        status = json.loads(self.host.must([TRIRECTL, "--json", "status"]))
        self.assertEqual(status["mode"], "enforce")
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
            file.write('[[allow]]\nfrom = "app=web"\nto = "app=db"\n')
        question = ("explain", "--from", "app=web", "--to", "app=db", "--port", "80")
        for argv in (
            ["--config-dir", directory, "policy", "check"],
            ["policy", f"--config-dir={directory}", "check"],
            ["--config-dir", "/nowhere", "policy", "check", "--config-dir", directory],
        ):
            done = self.host.trirectl(*argv)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn(f"{directory}: valid, 1 rule, 0 tests passed", done.stdout)
        done = self.host.trirectl("--config-dir", directory, "policy", "--json", *question)
        self.assertTrue(json.loads(done.stdout)["passes"])
        # Without a daemon, --json still takes effect.
        done = self.host.run([TRIRECTL, "--runtime-dir", directory, "--json", "status"])
        self.assertEqual(done.returncode, 1)
        self.assertIn(directory, json.loads(done.stdout)["error"]["message"])

    def test_status_tells_the_token_path(self):
        text = self.host.must([TRIRECTL, "status"])
        self.assertRegex(text, r"credential +this host only\n")
        self.assertRegex(text, r"peers +none configured; 0 remote identities cached\n")
        self.assertRegex(
            text, r"handshakes +NFQUEUE \((xtables target|nf_tables)\), \d threads?, 1 namespace\n"
        )


class FirstStart(HostCase):
    def test_nothing_to_cut_is_no_news(self):
        """The table exists, so --check reports nothing about a first start."""
        done = self.host.run([TRIREMED, "--check", "--config-dir", self.host.config])
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_another_directory_says_what_it_would_cut(self):
        self.host.explicit_reload('[[allow]]\nfrom = "app=web"\nto = "app=db"\n')
        self.addCleanup(self.host.explicit_reload, "")
        db, web = self.host.labelled("app=db"), self.host.labelled("app=web")
        db.serve("tcp", "127.0.0.1", 7120)
        web.open("live", "tcp", "127.0.0.1")
        self.assert_allowed(web.connect("live", "127.0.0.1", 7120))
        self.assertEqual(web.ask("live", "ping"), "ping")
        directory = self.enterContext(tempfile.TemporaryDirectory())
        check = [TRIREMED, "--check", "--config-dir", directory]
        for policy, lines in (
            ("", ["Of 1 connection open now, 1 would be cut:", "(app=db) tcp/7120: no rule"]),
            (AUDIT, []),
            ('[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/7120"]\n', []),
            # Answers go on if their direction is allowed.
            ('[[allow]]\nfrom = "app=db"\nto = "app=web"\n', []),
        ):
            with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
                file.write(policy)
            done = self.host.run(check)
            self.assertEqual(done.returncode, 0, done.stderr)
            for line in lines:
                self.assertIn(line, done.stderr)
            self.assertEqual(bool(done.stderr), bool(lines), done.stderr)
            found = json.loads(self.host.trirectl("policy", "diff", directory, "--json").stdout)
            self.assertEqual(found["live_flows_cut"], 1 if lines else 0, policy)
        self.host.explicit_reload('[[allow]]\nfrom = "app=db"\nto = "app=web"\n')
        self.assertEqual(web.ask("live", "ping"), "ping", "as both said")


if __name__ == "__main__":
    unittest.main()
