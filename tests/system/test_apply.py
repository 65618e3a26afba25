# SPDX-License-Identifier: Apache-2.0
"""policy apply, confirm, history and rollback: files are replaced as a whole, and an operator who is
cut off by a change gets in again."""

import json
import os
import random
import re
import select
import shutil
import signal
import stat
import subprocess
import time
import unittest

from tests.system import terminal, waiting
from tests.system.host import LONG, TRIRECTL, Host, HostCase
from tests.system.lab import LabCase

OPEN = '[[allow]]\nfrom = "app=ops"\nto = "app=ssh"\n'
CLOSED = '[[allow]]\nfrom = "app=other"\nto = "app=ssh"\n'
TIMES = 20 if LONG else 2


class ApplyCase(HostCase):
    POLICY = OPEN

    def setUp(self):
        super().setUp()
        self.reset()
        self.old = self.digest()

    def reset(self):
        """The files of POLICY, in force, and nothing that waits."""
        if self.host.status()["pending"]:
            self.host.must([TRIRECTL, "policy", "rollback"])
        for name in ("policy.d", "identity.d"):
            shutil.rmtree(f"{self.host.config}/{name}", ignore_errors=True)
        self.host.write("identity.toml", "")
        self.host.explicit_reload(OPEN)

    def directory(self, policy=CLOSED, identity="", **drop_ins):
        """A new directory with these files; `drop_ins` by name without .toml, in policy.d."""
        path = f"{self.host.undo.directory}/{self.host.undo.name('n')}"
        os.makedirs(path + "/policy.d")
        files = {"policy.toml": policy, "identity.toml": identity}
        files.update({f"policy.d/{name}.toml": text for name, text in drop_ins.items()})
        for name, text in files.items():
            with open(f"{path}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        return path

    def apply(self, directory, *options):
        return self.host.trirectl("policy", "apply", directory, "--yes", *options)

    def must_apply(self, directory, *options):
        done = self.apply(directory, "--json", *options)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def digest(self):
        return self.host.status()["policy"]["digest"]

    def history(self):
        return json.loads(self.host.must([TRIRECTL, "policy", "history", "--json"]))

    def content(self, name="policy.toml"):
        with open(f"{self.host.config}/{name}", encoding="utf-8") as file:
            return file.read()

    def assert_old(self):
        """The old files are on disk and in force, and nothing waits."""
        status = self.host.status()
        self.assertEqual(status["policy"]["digest"], self.old)
        self.assertEqual(self.content(), OPEN)
        self.assertIsNone(status["pending"])
        self.assertEqual(status["problems"], [])
        self.assertFalse(os.path.exists(self.host.state + "/pending.json"))


class Apply(ApplyCase):
    def test_the_whole_set_in_one_reload(self):
        self.host.write("policy.d/10-old.toml", "# old\n")
        self.host.must([TRIRECTL, "reload"])
        before = self.host.generation()
        directory = self.directory(
            identity='[host]\nlabels = { zone = "eu" }\n', **{"20-new": "# new\n"}
        )
        outcome = self.must_apply(directory)
        self.assertEqual(outcome["generation"], before + 1)
        self.assertIsNone(outcome["confirm_until"])
        self.assertEqual(outcome["digest"], self.digest())
        self.assertEqual(self.content(), CLOSED)
        self.assertEqual(os.listdir(self.host.config + "/policy.d"), ["20-new.toml"])
        self.assertIn("zone", self.content("identity.toml"))
        waiting.stays(
            lambda: self.host.generation() == before + 1,
            "its own writes do not cause another reload",
            1.5,
        )
        self.assertEqual(os.listdir(self.host.state + "/history").count("index.json"), 1)
        self.assertFalse(os.path.exists(self.host.state + "/staged"))
        self.assertEqual(self.host.status()["policy"]["errors"], [])

    def test_keys_are_not_touched(self):
        secret = self.host.config + "/psk"
        self.host.must([TRIRECTL, "pki", "psk", secret])
        self.addCleanup(os.unlink, secret)
        before = os.stat(secret)
        directory = self.directory(identity='[trust]\npsk_file = "psk"\n')
        self.must_apply(directory)
        self.assertIn("secret", self.host.status()["tokens"]["credential"])
        after = os.stat(secret)
        self.assertEqual(
            (before.st_ino, before.st_mtime_ns, before.st_mode),
            (after.st_ino, after.st_mtime_ns, after.st_mode),
        )
        self.host.must([TRIRECTL, "policy", "rollback"])
        self.assertTrue(os.path.exists(secret))
        self.assert_old()

    def test_what_is_refused(self):
        cases = (
            (self.directory("form = 1\n"), "policy.toml:1:1"),
            (self.directory(identity='[trust]\npsk_file = "missing"\n'), "missing"),
            (self.host.config, "is the directory that the daemon reads"),
            (self.host.config + "/../etc", "is the directory that the daemon reads"),
            (self.host.undo.directory + "/nowhere", "nowhere"),
        )
        for directory, reason in cases:
            with self.subTest(directory, reason=reason):
                done = self.apply(directory)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(reason, done.stdout + done.stderr)
                self.assert_old()
        repository = self.directory()
        os.unlink(repository + "/identity.toml")
        done = self.apply(repository)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no identity.toml", done.stderr)
        self.assert_old()
        for options in (["--confirm", "soon"], ["--confirm", "0s"], ["--confirm", "25h"]):
            done = self.apply(self.directory(), *options)
            self.assertEqual(done.returncode, 2, done.stderr)
        done = self.host.trirectl("policy", "apply", self.directory())
        self.assertEqual(done.returncode, 2, "no terminal and no --yes")
        self.assertIn("--yes", done.stderr)
        self.assert_old()
        self.assertEqual(
            self.host.run(
                ["setpriv", "--reuid", "65534", "--clear-groups", TRIRECTL]
                + ["policy", "apply", self.directory(), "--yes"]
            ).returncode,
            1,
        )
        self.assert_old()

    def test_links_are_refused_with_the_reason(self):
        for name in ("policy.d", "policy.toml"):
            with self.subTest(name):
                path = f"{self.host.config}/{name}"
                target = f"{self.host.undo.directory}/managed-{name}"
                if name == "policy.d":
                    os.makedirs(target)
                else:
                    os.rename(path, target)
                os.symlink(target, path)
                done = self.apply(self.directory())
                os.unlink(path)
                if name == "policy.toml":
                    os.rename(target, path)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"{name}' is a symbolic link", done.stderr)
                self.host.must([TRIRECTL, "reload"])
                self.assert_old()

    def test_a_save_that_is_not_in_force_is_not_overwritten(self):
        self.host.write("policy.toml", "form = 1\n")
        waiting.until(lambda: self.host.status()["policy"]["errors"], "the daemon has read it")
        done = self.apply(self.directory())
        self.assertEqual(done.returncode, 1)
        self.assertIn("not the ones in force", done.stderr)
        self.assertEqual(self.content(), "form = 1\n")
        self.host.must([TRIRECTL, "policy", "rollback", self.old[:16]])
        self.assert_old()
        with open(self.host.state + "/replaced/policy.toml", encoding="utf-8") as file:
            self.assertEqual(file.read(), "form = 1\n")

    def test_what_is_in_force_is_no_change(self):
        before = self.host.generation()
        done = self.apply(self.directory(OPEN))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("in force", done.stdout + done.stderr)
        self.assertEqual(self.host.generation(), before)
        self.assert_old()

    def test_counters(self):
        def changes(what):
            text = self.host.must([TRIRECTL, "metrics"])
            return int(
                re.search(rf'^trireme_policy_changes_total{{change="{what}"}} (\d+)', text, re.M)[1]
            )

        before = {what: changes(what) for what in ("applied", "confirmed", "rolled_back")}
        self.must_apply(self.directory(), "--confirm", "5m")
        self.assertIn("trireme_policy_unconfirmed 1", self.host.must([TRIRECTL, "metrics"]))
        self.host.must([TRIRECTL, "policy", "confirm"])
        self.assertIn("trireme_policy_unconfirmed 0", self.host.must([TRIRECTL, "metrics"]))
        self.host.must([TRIRECTL, "policy", "rollback"])
        for what, count in before.items():
            self.assertEqual(changes(what), count + 1, what)


class Question(ApplyCase):
    """On a terminal, the change is shown and the operator is asked."""

    def asked(self, directory, meanwhile, reply):
        """Runs `policy apply` on a terminal, calls `meanwhile` at its question, and types `reply`.
        Returns (exit code, what was shown)."""
        master, slave = os.openpty()
        process = self.host.popen(
            [TRIRECTL, "policy", "apply", directory], stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        text = b""
        replied = False
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(master, 65536)
            except OSError:  # EIO: the other end is closed
                break
            text += chunk
            if b"[y/N]" in text and not replied:
                meanwhile()
                os.write(master, reply.encode() + b"\n")
                replied = True
        os.close(master)
        self.assertTrue(replied, text)
        return process.wait(10), text.decode()

    def test_yes_and_no(self):
        ops, ssh = self.host.labelled("app=ops"), self.host.labelled("app=ssh")
        port = ssh.serve("tcp", "127.0.0.1")
        for reply in ("", "n", "nonsense"):
            code, shown = self.asked(self.directory(), lambda: None, reply)
            self.assertEqual(code, 1, shown)
            self.assertIn("app=ops", shown, "the change is shown")
            self.assert_old()
        self.assert_allowed(ops.exchange("tcp", "127.0.0.1", port))
        code, shown = self.asked(self.directory(), lambda: None, "y")
        self.assertEqual(code, 0, shown)
        self.assert_refused(ops.exchange("tcp", "127.0.0.1", port))

    def test_what_was_shown_is_what_is_applied(self):
        directory = self.directory()

        def edit():
            with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
                file.write("# another policy\n")

        code, shown = self.asked(directory, edit, "y")
        self.assertEqual(code, 0, shown)
        self.assertEqual(self.content(), CLOSED)

    def test_no_copy_is_left_behind(self):
        def staged():
            place = self.host.state + "/staged"
            return os.listdir(place) if os.path.exists(place) else []

        def look():
            self.assertEqual(staged(), [], "nothing that Ctrl-C could leave")

        for reply in ("n", "y"):
            code, shown = self.asked(self.directory(), look, reply)
            self.assertEqual(code, 1 if reply == "n" else 0, shown)
            self.assertEqual(staged(), [])

    def test_a_comparison_with_another_policy_does_not_count(self):
        code, shown = self.asked(
            self.directory(), lambda: self.must_apply(self.directory("# another\n")), "y"
        )
        self.assertEqual(code, 1, shown)
        self.assertIn("changed since the comparison", shown)
        self.assertEqual(self.content(), "# another\n")

    def test_a_daemon_that_restarts_meanwhile_applies_what_was_shown(self):
        code, shown = self.asked(self.directory(), self.host.restart, "y")
        self.assertEqual(code, 0, shown)
        self.assertEqual(self.content(), CLOSED)


class Confirm(ApplyCase):
    def session(self):
        """The operator's session: a connection of app=ops to app=ssh."""
        self.ops, self.ssh = self.host.labelled("app=ops"), self.host.labelled("app=ssh")
        self.port = self.ssh.serve("tcp", "127.0.0.1")
        self.log_in()

    def log_in(self):
        self.assert_allowed(self.ops.open("s", "tcp", "127.0.0.1"))
        self.assert_allowed(self.ops.connect("s", "127.0.0.1", self.port))
        self.assertEqual(self.ops.ask("s", "hello"), "hello")

    def is_cut(self):
        if self.ops.send_text("s", "hello", timeout=0.3) != "ok":
            return True
        return self.ops.receive("s", timeout=0.3).get("text") != "hello"

    def knock(self):
        return self.ops.exchange("tcp", "127.0.0.1", self.port, timeout=0.5)

    def test_an_operator_who_is_cut_off_gets_in_again(self):
        """TIMES of TIMES."""
        self.session()
        longest = 0.0
        for number in range(TIMES):
            outcome = self.must_apply(self.directory(f"{CLOSED}# {number}\n"), "--confirm", "2s")
            began = time.monotonic()
            self.assertIsNotNone(outcome["confirm_until"])
            waiting.until(self.is_cut, "the session is cut", 2)
            self.assert_refused(self.knock(), "while the change waits")
            waiting.until(lambda: self.knock() == "ok", "the operator can log in again", 5)
            longest = max(longest, time.monotonic() - began)
            self.ops.close("s")
            self.log_in()
            self.assert_old()
        print(f"{TIMES} of {TIMES} sessions restored, the last after {longest:.2f} s", flush=True)
        self.assertEqual(self.history()[0]["how"], "rollback")

    def test_a_confirmed_change_stays(self):
        self.session()
        outcome = self.must_apply(self.directory(), "--confirm", "3s")
        pending = self.host.status()["pending"]
        self.assertEqual(pending["digest"], outcome["digest"])
        self.assertEqual(pending["rollback_digest"], self.old)
        self.assertLessEqual(pending["seconds_left"], 3)
        shown = self.host.trirectl("status").stdout
        self.assertRegex(shown, r"pending +applied by \S+; rolled back to digest [0-9a-f]{16} at")
        self.assertIn("trirectl policy confirm", shown)
        done = self.host.trirectl("policy", "confirm")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIsNone(self.host.status()["pending"])
        waiting.stays(
            lambda: self.digest() == outcome["digest"], "it is in force after its time", 4.5
        )
        self.assert_refused(self.knock())
        self.host.restart()
        self.assertEqual(self.digest(), outcome["digest"])
        done = self.host.trirectl("policy", "confirm")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no change waits", done.stderr)

    def test_a_killed_daemon_rolls_back_at_its_start(self):
        self.session()
        for number in (signal.SIGKILL, signal.SIGTERM):
            self.must_apply(self.directory(), "--confirm", "5m")
            self.assert_refused(self.knock())
            self.host.restart(number)
            self.assert_old()
            self.assertEqual(self.host.generation(), 1, "the new policy was not loaded before")
            self.assert_allowed(self.knock())
            self.assertIn("rolling back to", self.host.log_text())
            self.assertIs(self.history()[1]["rolled_back"], True)

    def test_a_kill_at_any_moment_leaves_old_or_new(self):
        drop_ins = {f"{number}-new": f"# {number}\n" for number in range(10, 30)}
        for number in range(TIMES):
            self.reset()
            directory = self.directory(f"{CLOSED}# {number}\n", **drop_ins)
            with self.host.popen(
                [TRIRECTL, "policy", "apply", directory, "--yes", "--json"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process:
                waiting.until(
                    lambda: os.path.exists(self.host.state + "/pending.json")
                    or process.poll() is not None,
                    "it has begun",
                    10,
                    0.0005,
                )
                time.sleep(random.random() * 0.02)  # a random moment of the change
                self.host.restart(signal.SIGKILL)
                process.communicate(timeout=30)
            status = self.host.status()
            self.assertEqual(status["policy"]["errors"], [])
            self.assertIsNone(status["pending"])
            # The change makes the directory, so it is not there if the kill was before that.
            drop_in_directory = self.host.config + "/policy.d"
            names = (
                sorted(os.listdir(drop_in_directory)) if os.path.isdir(drop_in_directory) else []
            )
            if status["policy"]["digest"] == self.old:
                self.assertEqual(self.content(), OPEN)
                self.assertEqual(names, [])
            else:
                self.assertEqual(self.content(), f"{CLOSED}# {number}\n")
                self.assertEqual(names, sorted(f"{name}.toml" for name in drop_ins))
            self.host.must([TRIRECTL, "policy", "check", self.host.config])
            self.assertEqual(
                self.host.must([TRIRECTL, "reload"]) and self.digest(),
                status["policy"]["digest"],
                "what is on disk is what is in force",
            )

    def test_a_valid_save_ends_the_wait_and_stays(self):
        self.session()
        self.must_apply(self.directory(), "--confirm", "2s")
        self.host.write("policy.toml", OPEN + "# by hand\n")
        waiting.until(lambda: self.host.status()["pending"] is None, "nothing waits any more")
        self.assert_allowed(self.knock())
        waiting.stays(
            lambda: self.content() == OPEN + "# by hand\n", "the save is kept after the time", 3.5
        )
        self.assert_allowed(self.knock())
        self.assertIn("nothing will be rolled back", self.host.log_text())
        self.assertEqual(
            [entry["how"] for entry in self.history()[:2]], ["save", "apply"], self.history()
        )

    def test_an_invalid_save_does_not_end_the_wait(self):
        self.must_apply(self.directory(), "--confirm", "3s")
        self.host.write("policy.toml", "form = 1\n")
        waiting.until(lambda: self.host.status()["policy"]["errors"], "the daemon has read it")
        self.assertIsNotNone(self.host.status()["pending"])
        waiting.until(lambda: self.digest() == self.old, "it is rolled back", 8)
        self.assert_old()
        with open(self.host.state + "/replaced/policy.toml", encoding="utf-8") as file:
            self.assertEqual(file.read(), "form = 1\n")

    def test_two_operators(self):
        self.must_apply(self.directory(), "--confirm", "5m")
        done = self.apply(self.directory("# the other's\n"))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"the change by \S+ to policy digest [0-9a-f]{16} waits")
        self.assertRegex(done.stderr, r"until 20\d\d-")
        done = self.host.trirectl("policy", "rollback", "0123")
        self.assertEqual(done.returncode, 1)
        self.host.must([TRIRECTL, "policy", "rollback"])
        self.assert_old()


class History(ApplyCase):
    def test_every_way_is_listed(self):
        self.must_apply(self.directory("# one\n"))
        self.host.write("policy.toml", "# two\n")
        self.host.must([TRIRECTL, "reload"])
        self.host.must([TRIRECTL, "policy", "rollback"])
        self.assertEqual(self.content(), "# one\n")
        newest, left, old = self.history()[:3]
        self.assertEqual(
            (newest["how"], newest["in_force"], newest["rolled_back"]), ("rollback", True, False)
        )
        self.assertEqual((left["how"], left["user"], left["rolled_back"]), ("save", None, True))
        self.assertEqual(old["digest"], self.old)
        self.assertEqual(newest["digest"], self.digest())
        self.assertIsInstance(newest["user"], str)
        self.assertRegex(newest["time"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.host.must([TRIRECTL, "policy", "rollback"])
        self.assert_old()
        _, _, lines = terminal.show(self.host.popen, [TRIRECTL, "policy", "history"])
        self.assertLessEqual(max(len(line) for line in lines), 80)
        self.assertRegex(lines[0], r"^TIME +DIGEST +IDENTITY +HOW +USER +STATE")
        self.assertIn("in force", lines[1])

    def test_the_one_who_logged_in_is_named(self):
        """As under sudo: the kernel keeps the login's user."""
        done = self.host.run(
            ["sh", "-c", 'echo 65534 >/proc/self/loginuid && exec "$@"', "sh", TRIRECTL]
            + ["policy", "apply", self.directory(), "--yes"]
        )
        if "loginuid" in done.stderr:
            self.skipTest("this kernel or container keeps no login users")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.history()[0]["user"], "nobody")

    def test_a_digest_that_names_none_or_several(self):
        for number in range(17):
            self.must_apply(self.directory(f"# {number}\n"))
        done = self.host.trirectl("policy", "rollback", "nothing")
        self.assertEqual(done.returncode, 1)
        self.assertIn("begins with 'nothing'", done.stderr)
        self.assertIn(self.digest()[:16], done.stderr, "the candidates")
        firsts = [entry["digest"][0] for entry in self.history()]
        several = next(first for first in firsts if firsts.count(first) > 1)
        done = self.host.trirectl("policy", "rollback", several)
        self.assertEqual(done.returncode, 1)
        self.assertIn("ambiguous", done.stderr)
        self.host.must([TRIRECTL, "policy", "rollback", self.old[:20]])
        self.assert_old()

    def test_twenty_for_root_alone_and_after_a_restart(self):
        for number in range(25):
            self.must_apply(self.directory(f"# twenty {number}\n"))
        self.assertEqual(len(self.history()), 20)
        before = self.history()
        self.host.restart()
        self.assertEqual(self.history(), before)
        for place in (self.host.state, self.host.state + "/history"):
            self.assertEqual(stat.S_IMODE(os.stat(place).st_mode), 0o700)
        for name in os.listdir(self.host.state + "/history"):
            mode = stat.S_IMODE(os.stat(f"{self.host.state}/history/{name}").st_mode)
            self.assertEqual(mode, 0o600, name)

    def test_flush_leaves_it(self):
        self.must_apply(self.directory())
        before = self.history()
        self.host.stop()
        self.host.must([TRIRECTL, "flush"])
        self.host.start()
        self.assertEqual(self.history(), before)


class FullDisk(unittest.TestCase):
    """The file system of the configuration directory has no space."""

    def setUp(self):
        self.host = Host(OPEN, start=False)
        self.addCleanup(self.host.close)
        self.host.undo.add("mount", self.host.config)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", self.host.config], check=True
        )
        self.host.write("policy.toml", OPEN)
        self.host.write("identity.toml", "")
        self.host.start()
        self.old = self.host.status()["policy"]["digest"]

    def next(self, policy):
        directory = f"{self.host.undo.directory}/{self.host.undo.name('n')}"
        os.mkdir(directory)
        for name, text in (("policy.toml", policy), ("identity.toml", "")):
            with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        return directory

    def fill(self):
        with open(self.host.config + "/filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def test_a_change_that_does_not_fit_changes_nothing(self):
        done = self.host.trirectl(
            "policy", "apply", self.next(CLOSED + "# long\n" * 50_000), "--yes"
        )
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("No space left", done.stderr)
        status = self.host.status()
        self.assertEqual(status["policy"]["digest"], self.old)
        self.assertIsNone(status["pending"])
        self.assertEqual(sorted(os.listdir(self.host.config)), ["identity.toml", "policy.toml"])

    def test_a_rollback_is_in_force_even_if_the_files_cannot_be_written(self):
        ops, ssh = self.host.labelled("app=ops"), self.host.labelled("app=ssh")
        port = ssh.serve("tcp", "127.0.0.1")
        self.host.must([TRIRECTL, "policy", "apply", self.next(CLOSED), "--yes", "--confirm", "2s"])
        self.fill()
        waiting.until(
            lambda: ops.exchange("tcp", "127.0.0.1", port, timeout=0.5) == "ok",
            "the old policy is in force",
            6,
        )
        status = self.host.status()
        self.assertEqual(status["policy"]["digest"], self.old)
        self.assertIn("No space left", json.dumps(status["problems"]))
        self.host.restart()
        self.assertEqual(self.host.status()["policy"]["digest"], self.old)
        os.unlink(self.host.config + "/filler")
        waiting.until(lambda: not self.host.status()["problems"], "the files are restored", 5)
        with open(self.host.config + "/policy.toml", encoding="utf-8") as file:
            self.assertEqual(file.read(), OPEN)
        self.assertEqual(self.host.status()["policy"]["errors"], [])


class Booted(LabCase):
    """The hardened unit, and reboots."""

    DOCKER = False

    def setUp(self):
        super().setUp()
        self.lab.must("rm -rf /root/next /etc/trireme/policy.d/*.toml && mkdir -p /root/next")
        self.lab.policy(OPEN)
        self.old = self.lab.status()["policy"]["digest"]
        self.lab.write("root/next/policy.toml", CLOSED)
        self.lab.must("cp /etc/trireme/identity.toml /root/next")

    def assert_old(self):
        status = self.lab.status()
        self.assertEqual(status["policy"]["digest"], self.old)
        self.assertIsNone(status["pending"])
        self.assertEqual(status["problems"], [])
        self.assertEqual(self.lab.must("cat /etc/trireme/policy.toml") + "\n", OPEN)

    def apply(self, *options):
        return self.lab.must(f"trirectl policy apply /root/next --yes {' '.join(options)}")

    def test_the_daemon_may_write_what_it_replaces_and_nothing_else(self):
        """ProtectHome= hides DIR from the daemon, and ProtectSystem= the rest of /etc."""
        self.apply()
        self.assertEqual(self.lab.must("cat /etc/trireme/policy.toml") + "\n", CLOSED)
        self.assertEqual(self.lab.must("stat -c '%U %a' /etc/trireme/policy.toml"), "root 644")
        self.assertEqual(self.lab.must("stat -c '%U %a' /var/lib/trireme"), "root 700")
        pid = self.lab.must("systemctl show -P MainPID trireme")
        for path, writable in (("/etc/trireme", True), ("/etc", False), ("/var/lib", False)):
            done = self.lab.sh(f"nsenter -t {pid} -m test -w {path}")
            self.assertEqual(done.returncode == 0, writable, path)
        self.lab.must("trirectl policy rollback")
        self.assert_old()

    def test_a_power_failure_rolls_back_at_the_boot(self):
        self.apply("--confirm 1h")
        self.assertNotEqual(self.lab.status()["policy"]["digest"], self.old)
        self.lab.reboot()
        self.lab.start_trireme()
        self.assert_old()
        self.assertIn("rolling back to", self.lab.must("journalctl -b -u trireme --no-pager"))

    def test_a_killed_daemon_rolls_back_when_systemd_starts_it_again(self):
        self.apply("--confirm 1h")
        self.lab.must("systemctl kill -s KILL trireme")
        waiting.until(
            lambda: self.lab.sh("trirectl status --json").returncode == 0
            and self.lab.status()["policy"]["digest"] == self.old,
            "the new daemon has rolled back",
            10,
        )
        self.assert_old()

    def test_a_confirmed_change_outlives_a_power_failure(self):
        self.apply("--confirm 1h")
        self.lab.must("trirectl policy confirm")
        confirmed = self.lab.status()["policy"]["digest"]
        self.lab.reboot()
        self.lab.start_trireme()
        self.assertEqual(self.lab.status()["policy"]["digest"], confirmed)
        history = json.loads(self.lab.must("trirectl policy history --json"))
        self.assertIn(self.old, [entry["digest"] for entry in history])


if __name__ == "__main__":
    unittest.main()
