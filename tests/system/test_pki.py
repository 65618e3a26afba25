# SPDX-License-Identifier: Apache-2.0
"""trirectl pki, and [trust] as the daemon reads it."""

import json
import os
import signal
import stat
import subprocess
import tempfile
import unittest

from tests.system import waiting
from tests.system.host import TRIRECTL, HostCase


def trirectl(*arguments):
    return subprocess.run(
        [TRIRECTL, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


class Pki(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="trireme-pki-")
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name
        self.authority = self.directory + "/authority"
        self.out = self.directory + "/web-1"

    def must(self, *arguments):
        done = trirectl(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def content(self):
        found = {}
        for where, _, names in os.walk(self.directory):
            for name in names:
                with open(f"{where}/{name}", "rb") as file:
                    found[f"{where}/{name}"] = file.read()
        return found

    def mode(self, path):
        return stat.S_IMODE(os.stat(path).st_mode)

    def check(self, identity):
        with open(self.out + "/identity.toml", "w", encoding="utf-8") as file:
            file.write(identity)
        return trirectl("policy", "check", self.out)

    def test_from_nothing_to_a_valid_trust(self):
        self.must("pki", "init", self.authority, "--name", "fleet.example.org")
        listed = json.loads(
            self.must(
                "pki",
                "issue",
                self.authority,
                "--host",
                "web-1",
                "--labels",
                "app=web*, env=dev",
                "--out",
                self.out,
                "--json",
            )
        )
        self.assertEqual(
            listed,
            {"written": [f"{self.out}/{name}" for name in ("host.pem", "host.key", "ca.pem")]},
        )
        for secret in (self.authority + "/ca.key", self.out + "/host.key"):
            self.assertEqual(self.mode(secret), 0o600)
        trust = '[trust]\ncertificate = "host.pem"\nkey = "host.key"\nca = ["ca.pem"]\n'
        checked = self.check(trust)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        self.assertIn(
            "does not vouch for the labels of [host]: zone=eu",
            self.check('[host]\nlabels = { zone = "eu" }\n' + trust).stdout,
        )
        os.chmod(self.out + "/host.key", 0o640)
        self.assertIn(
            f"can access (mode 0640); run 'chmod 600 {self.out}/host.key'", self.check(trust).stdout
        )

    def test_a_secret(self):
        os.mkdir(self.out)
        self.must("pki", "psk", self.out + "/psk")
        self.assertEqual(self.mode(self.out + "/psk"), 0o600)
        checked = self.check('[trust]\npsk_file = "psk"\n')
        self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_what_exists_is_never_overwritten(self):
        self.must("pki", "init", self.authority, "--name", "fleet")
        self.must("pki", "issue", self.authority, "--host", "web-1", "--out", self.out)
        os.unlink(self.out + "/host.pem")
        os.unlink(self.authority + "/ca.pem")
        os.symlink("nowhere", self.authority + "/ca.pem")
        before = {}
        for path, links in ((self.authority, "ca.key"), (self.out, "host.key")):
            with open(f"{path}/{links}", "rb") as file:
                before[path] = file.read()
        for arguments in (
            ("init", self.authority, "--name", "fleet"),
            ("psk", self.out + "/host.key"),
            ("psk", self.authority + "/ca.pem"),
        ):
            done = trirectl("pki", *arguments)
            self.assertEqual(done.returncode, 1)
            self.assertIn("already exists; not overwritten", done.stderr)
        os.unlink(self.authority + "/ca.pem")
        os.link(self.out + "/ca.pem", self.authority + "/ca.pem")
        done = trirectl("pki", "issue", self.authority, "--host", "web-1", "--out", self.out)
        self.assertIn("host.key' already exists", done.stderr)
        self.assertFalse(os.path.exists(self.out + "/host.pem"))
        for path, name in ((self.authority, "ca.key"), (self.out, "host.key")):
            with open(f"{path}/{name}", "rb") as file:
                self.assertEqual(file.read(), before[path])

    def test_wrong_words(self):
        self.assertEqual(trirectl("pki").returncode, 2)
        self.assertEqual(trirectl("pki", "init", self.authority).returncode, 2)
        self.assertEqual(
            trirectl(
                "pki", "issue", self.authority, "--host", "a", "--days", "0", "--out", self.out
            ).returncode,
            2,
        )
        missing = trirectl("pki", "issue", self.authority, "--host", "a", "--out", self.out)
        self.assertEqual(missing.returncode, 1)
        self.assertIn("'trirectl pki init' creates a CA", missing.stderr)
        self.must("pki", "init", self.authority, "--name", "fleet")
        for labels in ("app", "app=w*b", "app=web,", "*"):
            self.assertEqual(
                trirectl(
                    "pki",
                    "issue",
                    self.authority,
                    "--host",
                    "a",
                    "--labels",
                    labels,
                    "--out",
                    self.out,
                ).returncode,
                2,
                labels,
            )
        self.assertEqual(trirectl("pki", "init", self.out, "--name", "a b").returncode, 2)
        self.assertFalse(os.path.exists(self.out))


class TrustReload(HostCase):
    def errors(self):
        return "\n".join(self.host.status()["policy"]["errors"])

    def test_bad_keys_change_nothing(self):
        secret = self.host.config + "/psk"
        self.host.must([TRIRECTL, "pki", "psk", secret])
        before = self.host.generation()
        self.host.write(
            "identity.toml", '[host]\npeers = ["10.0.0.0/8"]\n[trust]\npsk_file = "psk"\n'
        )
        waiting.until(lambda: self.host.generation() > before, "the secret is in force")
        with open(self.host.runtime + "/last-good.json", encoding="utf-8") as kept, open(
            secret, encoding="utf-8"
        ) as file:
            self.assertNotIn(file.read().strip(), kept.read())

        # A changed secret causes a reload.
        before = self.host.generation()
        os.rename(secret, secret + ".old")
        self.host.must([TRIRECTL, "pki", "psk", secret])
        waiting.until(lambda: self.host.generation() > before, "the new secret is in force")
        before = self.host.generation()
        with open(secret, "w", encoding="utf-8") as file:
            file.write("short\n")
        waiting.until(
            lambda: "identity.toml:4:12: error" in self.errors(), "the daemon has loaded it"
        )
        self.assertEqual(self.host.generation(), before)

        # After a crash at this point, the last valid files name a secret that is not valid.
        self.host.restart(signal.SIGKILL)
        self.assertIn("remote hosts stay unlabeled", self.errors())
        os.rename(secret + ".old", secret)
        waiting.until(lambda: not self.errors(), "there is no problem any more")
        # The files are invalid but the secret is valid: it is used.
        self.host.write("policy.toml", "form = 1\n")
        waiting.until(self.errors, "the daemon has loaded it")
        self.host.restart(signal.SIGKILL)
        self.assertIn("policy.toml:1:1: error", self.errors())
        self.assertNotIn("unlabeled", self.errors())


if __name__ == "__main__":
    unittest.main()
