# SPDX-License-Identifier: Apache-2.0
"""What users read is true: the quickstart works, examples are valid, pages name every command and
option."""

import glob
import os
import re
import subprocess
import tempfile
import unittest

from tests.system.expected import OPERATORS
from tests.system.host import ROOT, TRIRECTL, TRIREMED, TRIRUN, cgroup_mount


def text(path):
    with open(f"{ROOT}/{path}", encoding="utf-8") as file:
        return file.read()


def output(*argv):
    return subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    ).stdout


def options(page):
    return set(re.findall(r"--[a-z][a-z-]+", page))


class Words(unittest.TestCase):
    def subcommands(self):
        return set(
            re.findall(r"^  ([a-z]+)  ", output(TRIRECTL, "--help").split("Subcommands:")[1], re.M)
        )

    def commands(self):
        """The words of each command, such as ["policy", "diff"]."""
        for name in sorted(self.subcommands()):
            yield [name]
            below = output(TRIRECTL, name, "--help").partition("Subcommands:")[2]
            yield from ([name, each] for each in re.findall(r"^  ([a-z]+)  ", below, re.M))

    def test_examples_are_valid(self):
        names = os.listdir(f"{ROOT}/examples/policies")
        self.assertIn("three-tier", names)
        for name in [*(f"examples/policies/{each}" for each in names), "etc"]:
            done = subprocess.run(
                [TRIRECTL, "policy", "check", f"{ROOT}/{name}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertNotIn("warning", done.stdout)
            done = subprocess.run(
                [TRIRECTL, "policy", "lint", f"{ROOT}/{name}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_the_policy_of_the_readme_is_valid(self):
        policy = re.search(r"```toml\n(.*?)```", text("README.md"), re.S)[1]
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
            file.write(policy)
        self.assertIn("1 test passed", output(TRIRECTL, "policy", "check", directory))
        command = re.search(r"trirectl (policy explain .*)", text("README.md"))[1].replace(
            "/etc/trireme", directory
        )
        shown = (
            text("README.md")
            .split(command.replace(directory, "/etc/trireme"))[1]
            .split("```")[0]
            .strip()
            .splitlines()
        )
        self.assertEqual(output(TRIRECTL, *command.split()).splitlines()[: len(shown)], shown)

    def test_man_pages_name_every_option(self):
        for program, page in ((TRIRUN, "trirun.1"), (TRIREMED, "triremed.8")):
            missing = options(output(program, "--help")) - options(text(f"docs/man/{page}.scd"))
            self.assertEqual(missing, set(), page)
        page = text("docs/man/trirectl.1.scd")
        for name in self.subcommands() - {"policy", "pki"}:
            self.assertIn(f"*{name}*", page)
        known = options(page)
        for command in self.commands():
            missing = options(output(TRIRECTL, *command, "--help")) - known
            self.assertEqual(missing, set(), command)
        for name in (
            "policy check",
            "policy test",
            "policy explain",
            "policy diff",
            "policy apply",
            "policy confirm",
            "policy history",
            "policy rollback",
            "policy suggest",
            "policy graph",
            "pki init",
            "pki issue",
            "pki psk",
        ):
            self.assertIn(f"*{name}*", page)

    def test_the_man_page_defines_every_operator_of_selectors(self):
        with tempfile.TemporaryDirectory() as directory:
            with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
                file.write('[[allow]]\nfrom = "app ?"\nto = "*"\n')
            message = output(TRIRECTL, "policy", "check", directory)
        operators = re.findall(r"'([^',]+)'", re.search(r"expected (.*) after key", message)[1])
        self.assertGreater(len(operators), 3)
        section = re.search(
            r"^# SELECTORS\n(.*?)^# ", text("docs/man/trireme-policy.toml.5.scd"), re.S | re.M
        )[1]
        for operator in operators:
            operator = re.escape(operator)
            self.assertRegex(section, rf"\*k{operator}v|\*k {operator} \(")

    def test_the_model_of_selectors_has_every_operator(self):
        enum = re.search(
            r"enum class Operator[^{]*{([^}]*)}", text("include/trireme/policy/selector.hpp")
        )[1]
        self.assertEqual(set(re.findall(r"\w+", enum)), set(OPERATORS))

    def test_quickstart(self):
        done = subprocess.run(
            [ROOT + "/examples/quickstart.sh"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.count("=> refused, as expected"), 2)
        self.assertEqual(done.stdout.count("=> allowed, as expected"), 2)
        # Other tests create network namespaces and cgroups at the same time.
        self.assertNotIn("trireme-quickstart", output("ip", "netns", "list"))
        self.assertEqual(glob.glob(cgroup_mount() + "/trireme-quickstart-*"), [])


if __name__ == "__main__":
    unittest.main()
