# SPDX-License-Identifier: Apache-2.0
"""trireme.service in a booted systemd: start, checks before it, watchdog, hardening, and readable
messages in the journal."""

import json
import os
import re
import time
import unittest

from tests.system import waiting
from tests.system.host import ROOT
from tests.system.lab import LabCase

EXPOSURE_LIMIT = 3.0  # of systemd-analyze security; lower is better


class Service(LabCase):
    DOCKER = False

    def setUp(self):
        self.lab.sh("systemctl reset-failed trireme; systemctl start trireme")

    def show(self, name):
        return self.lab.must(f"systemctl show -P {name} trireme")

    def test_installed_files(self):
        self.assertEqual(
            sorted(os.listdir(self.lab.root + "/etc/trireme")),
            ["identity.d", "identity.toml", "policy.d", "policy.toml"],
        )
        for command in ("trirun", "trirectl", "triremed"):
            self.assertRegex(self.lab.must(f"{command} --version"), rf"^{command} \d")
        self.assertEqual(self.lab.must("triremed --check; echo $?"), "0")

    def test_started_means_enforcing(self):
        self.lab.must("systemctl restart trireme")
        self.assertEqual(self.show("ActiveState"), "active")
        self.assertIn("table inet trireme", self.lab.must("nft list tables"))
        self.assertRegex(self.show("StatusText"), r"0 workloads; policy generation 1, 0 rules")

    def test_stop_leaves_the_protection(self):
        self.lab.must("trirun --label app=kept --unit kept -- busybox httpd -p 9001 -h /srv")
        self.lab.await_served(9001, "app=kept")
        self.lab.must("systemctl stop trireme")
        self.assertEqual(self.lab.ask(9001), "")
        self.assertEqual(self.lab.sh("trirun --label app=kept -- true").returncode, 125)
        self.lab.start_trireme()
        self.lab.await_served(9001, "app=kept")
        self.assertEqual(self.lab.ask(9001), "")
        self.assertEqual([each["name"] for each in self.lab.workloads()], ["kept.scope"])
        self.lab.must("systemctl stop kept.scope")
        waiting.until(lambda: not self.lab.workloads(), "the daemon has ended")

    def test_a_killed_daemon_comes_back_at_once(self):
        before = self.show("MainPID")
        self.lab.must("systemctl kill -s KILL trireme")
        waiting.until(
            lambda: self.show("MainPID") not in (before, "0")
            and self.show("ActiveState") == "active",
            "a new daemon runs",
            10,
        )

    def test_a_hanging_daemon_is_ended_by_the_watchdog(self):
        self.lab.must(
            "mkdir -p /run/systemd/system/trireme.service.d && "
            "printf '[Service]\\nWatchdogSec=3\\n' >/run/systemd/system/trireme.service.d/watchdog.conf && "
            "systemctl daemon-reload && systemctl restart trireme"
        )
        try:
            before = self.show("MainPID")
            self.lab.must(f"kill -STOP {before}")
            waiting.until(
                lambda: self.show("MainPID") not in (before, "0")
                and self.show("ActiveState") == "active",
                "a new daemon runs",
                15,
            )
            self.assertIn("Watchdog timeout", self.lab.must("journalctl -b -u trireme --no-pager"))
        finally:
            self.lab.must(
                "rm -r /run/systemd/system/trireme.service.d && systemctl daemon-reload && systemctl restart trireme"
            )

    def test_a_policy_that_is_not_valid(self):
        """Status line and journal name the error. A reload fails, a restart uses the last valid
        files, a first start fails."""
        self.addCleanup(self.lab.start_trireme)
        self.addCleanup(self.lab.sh, "systemctl reset-failed trireme")
        original = self.lab.must("cat /etc/trireme/policy.toml") + "\n"
        self.addCleanup(self.lab.write, "etc/trireme/policy.toml", original)
        self.lab.write("etc/trireme/policy.toml", '[[allow]]\nform = "app=web"\nto = "app=db"\n')
        waiting.until(
            lambda: "policy.toml:2:1" in self.show("StatusText"), "the status line names the place"
        )
        self.assertIn("policy.toml:2:1", self.lab.sh("systemctl status trireme").stdout)
        self.assertNotEqual(self.lab.sh("systemctl reload trireme").returncode, 0)
        self.assertEqual(self.show("ActiveState"), "active")
        self.assertIn("did you mean 'from'", self.lab.must("journalctl -b -u trireme --no-pager"))
        self.lab.must("systemctl restart trireme")
        waiting.until(
            lambda: "policy.toml:2:1" in self.show("StatusText"),
            "the status line still names the place",
        )
        self.assertEqual(
            self.lab.status()["policy"]["rules"], 0, "the last valid files are in force"
        )
        self.lab.must("systemctl stop trireme && rm /run/trireme/last-good.json")
        self.assertNotEqual(self.lab.sh("systemctl start trireme").returncode, 0)
        self.assertIn("table inet trireme", self.lab.must("nft list tables"))

    def test_a_first_start_with_invalid_files_fails_once(self):
        """With the hint, and not again and again. Corrected files start as usual."""
        self.addCleanup(self.lab.start_trireme)
        self.addCleanup(self.lab.sh, "systemctl reset-failed trireme")
        original = self.lab.must("cat /etc/trireme/policy.toml") + "\n"
        self.addCleanup(self.lab.write, "etc/trireme/policy.toml", original)
        self.lab.must("systemctl stop trireme && rm /run/trireme/last-good.json")
        since = self.lab.must("date +%s")
        self.lab.write("etc/trireme/policy.toml", '[[allow]]\nform = "app=web"\nto = "app=db"\n')
        self.assertNotEqual(self.lab.sh("systemctl start trireme").returncode, 0)
        # A service that is to be started again is "activating" until then.
        self.assertEqual(
            (
                self.show("ActiveState"),
                self.show("Result"),
                self.show("ExecMainStatus"),
                self.show("NRestarts"),
            ),
            ("failed", "exit-code", "78", "0"),
        )
        journal = self.lab.must(f"journalctl -b --since=@{since} -u trireme --no-pager")
        self.assertIn("'triremed --check' shows every error", journal)
        self.assertEqual(journal.count("invalid configuration in /etc/trireme"), 1, journal)
        self.lab.write("etc/trireme/policy.toml", original)
        self.lab.must("systemctl start trireme")
        self.assertEqual(self.show("ActiveState"), "active")

    def test_other_failures_are_retried(self):
        drop_in = "/run/systemd/system/trireme.service.d"
        remove = f"rm -rf {drop_in}; systemctl daemon-reload"
        since = self.lab.must("date +%s")
        self.addCleanup(self.lab.start_trireme)
        self.addCleanup(self.lab.sh, remove + "; systemctl reset-failed trireme")
        self.lab.must(
            f"systemctl stop trireme && mkdir -p {drop_in} && "
            "printf '[Service]\\nExecStart=\\nExecStart=%s --runtime-dir /proc/none\\n' "
            f'"$(command -v triremed)" >{drop_in}/fails.conf && systemctl daemon-reload'
        )
        self.lab.sh("systemctl start --no-block trireme")
        waiting.until(lambda: int(self.show("NRestarts")) > 0, "systemd starts it again", 20, 0.1)
        self.assertIn(
            "status=1/FAILURE",
            self.lab.must(f"journalctl -b --since=@{since} -u trireme --no-pager"),
        )
        self.lab.must(remove)
        waiting.until(lambda: self.show("ActiveState") == "active", "it runs", 20, 0.1)

    def test_a_check_from_a_shell_says_what_the_daemon_would_say(self):
        for place, owner, reason in (
            ("/root/psk", "root", "ProtectHome=yes in trireme.service"),
            ("/tmp/psk", "root", "PrivateTmp=yes in trireme.service"),
            ("/etc/trireme/psk", "nobody", "chown root"),
            ("/etc/trireme/psk", "root", None),
        ):
            self.addCleanup(self.lab.sh, "rm -f /etc/trireme/identity.d/trust.toml " + place)
            self.lab.must(f"rm -f {place}; trirectl pki psk {place} && chown {owner} {place}")
            self.lab.write("etc/trireme/identity.d/trust.toml", f'[trust]\npsk_file = "{place}"\n')
            reload = self.lab.sh("systemctl reload trireme")
            for command in ("triremed --check", "trirectl policy check"):
                checked = self.lab.sh(command)
                said = checked.stdout + checked.stderr
                self.assertEqual(checked.returncode == 0, reload.returncode == 0, (place, said))
                self.assertEqual(checked.returncode == 0, reason is None, (place, said))
                self.assertIn(reason or "", said)

    def test_a_save_is_a_reload(self):
        original = self.lab.must("cat /etc/trireme/policy.toml") + "\n"
        self.addCleanup(self.lab.write, "etc/trireme/policy.toml", original)
        before = self.lab.status()["policy"]["generation"]
        self.lab.write(
            "etc/trireme/policy.toml", original + '[[allow]]\nfrom = "@host"\nto = "app=web"\n'
        )
        waiting.until(
            lambda: self.lab.status()["policy"]["generation"] > before, "a new generation"
        )
        waiting.until(lambda: "1 rule" in self.show("StatusText"), "the status line reports it")
        self.lab.must("systemctl reload trireme")

    def test_a_ruleset_that_was_saved_with_our_table_is_reported(self):
        """nft cannot load it again, so at the next boot the host's own firewall would be
        missing."""
        saved = "/etc/nftables.conf"
        self.addCleanup(self.lab.must, "trirectl reload")
        self.addCleanup(self.lab.must, f"mv {saved}.before {saved}")
        self.lab.must(f"touch {saved}; mv {saved} {saved}.before; nft list ruleset >{saved}")
        self.lab.must("trirectl reload")
        problems = json.dumps(self.lab.status()["problems"])
        self.assertIn(f"{saved}:", problems)
        self.assertIn("trireme's table", problems)
        self.lab.must(f"sed -i '/^table inet trireme/,/^}}/d' {saved} && trirectl reload")
        self.assertNotIn(saved, json.dumps(self.lab.status()["problems"]))

    def test_refusals_are_in_the_journal_with_their_fields(self):
        self.lab.must("trirun --label app=seen --unit seen -- busybox httpd -p 9002 -h /srv")
        self.lab.await_served(9002, "app=seen")
        self.assertEqual(self.lab.ask(9002, "app=looker"), "")

        def entries():
            lines = self.lab.must(
                "journalctl -b -o json TRIREME_VERDICT=deny TRIREME_PORT=9002 || true"
            ).splitlines()
            return [json.loads(line) for line in lines]

        waiting.until(entries, "the refusal is in the journal")
        entry = entries()[0]
        for field, word in (
            ("TRIREME_SOURCE", "app=looker"),
            ("TRIREME_DESTINATION", "app=seen"),
            ("TRIREME_REASON", "no rule allows it"),
            ("TRIREME_PROTOCOL", "tcp"),
            ("TRIREME_POLICY", self.lab.status()["policy"]["digest"][:16]),
        ):
            self.assertIn(word, entry[field])
        self.lab.must("systemctl stop seen.scope")

    def test_the_journal_explains_itself(self):
        """journalctl -x: a denial, a refused reload and a changed table. The other entries are in
        the catalog."""
        self.lab.must("journalctl --update-catalog")
        self.lab.must("trirun --label app=seen --unit seen -- busybox httpd -p 9004 -h /srv")
        self.addCleanup(self.lab.sh, "systemctl stop seen.scope")
        self.lab.await_served(9004, "app=seen")
        self.assertEqual(self.lab.ask(9004, "app=looker"), "")
        original = self.lab.must("cat /etc/trireme/policy.toml") + "\n"
        self.addCleanup(self.lab.write, "etc/trireme/policy.toml", original)
        self.lab.write("etc/trireme/policy.toml", "[[allow]]\nform = 1\n")
        self.assertNotEqual(self.lab.sh("trirectl reload").returncode, 0)
        self.lab.must("nft flush ruleset")

        def explained():
            return self.lab.must("journalctl -b -x -u trireme --no-pager")

        for words in (
            "Subject: trireme denied",
            "Subject: trireme did not load an invalid configuration",
            "Subject: trireme's table was changed by another program",
        ):
            waiting.until(lambda words=words: words in explained(), words, 10)
        for field in ("TRIREME_ERROR", "TRIREME_REPAIRS"):
            self.assertTrue(self.lab.must(f"journalctl -b -F {field}"), field)
        known = self.lab.must("journalctl --list-catalog")
        with open(ROOT + "/include/trireme/base/journal.hpp", encoding="utf-8") as header:
            ids = re.findall(r'"([0-9a-f]{32})"', header.read())
        self.assertEqual(len(ids), 6)
        for each in ids:
            self.assertIn(each, known)

    def test_audited_flows_are_summed_up(self):
        original = self.lab.must("cat /etc/trireme/policy.toml") + "\n"
        self.addCleanup(self.lab.policy, original)
        self.lab.policy('[defaults]\nmode = "audit"\n')
        self.lab.must("trirun --label app=seen --unit seen -- busybox httpd -p 9005 -h /srv")
        self.addCleanup(self.lab.sh, "systemctl stop seen.scope")
        self.lab.await_served(9005)

        def entries():
            lines = self.lab.sh(
                "journalctl -b -o json TRIREME_VERDICT=audit TRIREME_PORT=9005"
            ).stdout.splitlines()
            return [json.loads(line) for line in lines]

        waiting.until(entries, "the first is in the journal")
        for _ in range(3):
            time.sleep(5.5)  # the kernel reports the same flow once in five seconds
            self.assertEqual(self.lab.ask(9005), "served")
        self.assertEqual([each["TRIREME_COUNT"] for each in entries()], ["1"])
        self.lab.must("systemctl restart trireme")
        waiting.until(lambda: len(entries()) > 1, "what was counted is logged at the end")
        self.assertGreater(int(entries()[-1]["TRIREME_COUNT"]), 1)

    def test_hardened(self):
        listing = self.lab.sh("systemd-analyze security --no-pager trireme").stdout
        exposure = float(listing.rstrip().splitlines()[-1].split("trireme.service:")[1].split()[0])
        self.assertLessEqual(exposure, EXPOSURE_LIMIT)
        self.assertEqual(
            self.show("CapabilityBoundingSet"),
            "cap_net_admin cap_net_raw cap_sys_ptrace cap_sys_admin",
        )

    def test_launched_scopes_are_systemds(self):
        self.assertEqual(
            self.lab.must(
                "trirun --label app=x --unit shown -p MemoryMax=64M -p 'Description=the shop' -- "
                "systemctl show -P Slice,MemoryMax,Description shown.scope"
            ).split("\n"),
            ["trireme.slice", "67108864", "the shop"],
        )
        for options in (
            "-p Slice=system.slice",
            "--slice system.slice",
            "-p Nonsense=1",
            "-p ExecStart=/bin/true",
        ):
            self.assertEqual(
                self.lab.sh(f"trirun --label app=x {options} -- true").returncode, 125, options
            )

    def test_the_slices_stay(self):
        for name in ("trireme.slice", "trireme-docker.slice"):
            self.assertEqual(self.lab.must(f"systemctl is-active {name}"), "active")
            self.assertNotEqual(self.lab.sh(f"systemctl stop {name}").returncode, 0)


if __name__ == "__main__":
    unittest.main()
