# SPDX-License-Identifier: Apache-2.0
"""Tests the documents: the policies of the cookbook pass their own tests, from files and between
real sockets; commands exist; links lead to existing targets."""

import json
import os
import re
import subprocess
import tempfile
import tomllib
import unittest

from tests.system import api, documents
from tests.system.documents import document
from tests.system.host import ROOT, TRIRECTL, TRIREMED, TRIRUN, HostCase

PROGRAMS = {"trirectl": TRIRECTL, "trirun": TRIRUN, "triremed": TRIREMED}

ORIGINAL = """{
  "Shop": {
    "ApplicationACLs": [{"Address": "0.0.0.0/0", "Port": "53", "Protocol": "udp", "Policy": {"Action": 1, "PolicyID": "1", "ServiceID": ""}}],
    "NetworkACLs": [],
    "TagSelectors": [
      {"Clause": [{"Key": "@usr:app", "Operator": "=", "Value": ["web"]}], "Policy": {"Action": 1, "PolicyID": "2", "ServiceID": ""}}%s
    ]
  }
}
"""
MORE = ', {"Clause": [{"Key": "@sys:image", "Operator": "=", "Value": ["x"]}], "Policy": {"Action": 1, "PolicyID": "3", "ServiceID": ""}}'


def recipes():
    """(title, policy) of the recipes in the cookbook."""
    for part in document("docs/cookbook.md").split("\n## ")[1:]:
        for block in re.findall(r"```toml\n(.*?)```", part, re.S):
            yield part.split("\n")[0], block


class Cookbook(HostCase):
    def test_each_recipe_passes_its_own_tests(self):
        self.assertGreater(len(list(recipes())), 8)
        for title, policy in recipes():
            with self.subTest(title), tempfile.TemporaryDirectory() as directory:
                with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
                    file.write(policy)
                done = subprocess.run(
                    [TRIRECTL, "policy", "check", directory],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertRegex(done.stdout, r"[1-9]\d* tests? passed")
                self.assertNotIn("warning", done.stdout)

    def test_each_recipe_holds_between_real_sockets(self):
        tried = 0
        for title, policy in recipes():
            parsed = tomllib.loads(policy)
            if parsed.get("defaults", {}).get("mode") == "audit":
                continue
            self.host.explicit_reload(policy)
            self.assertIn("test", parsed, title)
            for test in parsed["test"]:
                self.assertIn("port", test, title)
                protocol, _, port = test["port"].partition("/")
                if protocol not in ("tcp", "udp") or not all(
                    isinstance(test[end], dict) or test[end] == "@host" for end in ("from", "to")
                ):
                    continue
                with self.subTest(title, test=test):
                    source, destination = (self.end(test[side]) for side in ("from", "to"))
                    destination.serve(protocol, "127.0.0.1", int(port))
                    outcome = source.exchange(protocol, "127.0.0.1", int(port), timeout=5.0)
                    (self.assert_allowed if test["expect"] == "allow" else self.assert_refused)(
                        outcome, title
                    )
                    tried += 1
                self.host.kill_agents()
        self.assertGreater(tried, 12)

    def end(self, end):
        return (
            self.host.plain()
            if end == "@host"
            else self.host.labelled(",".join(f"{key}={value}" for key, value in end.items()))
        )


class Files(unittest.TestCase):
    """Files in the pages are valid and cause no warning."""

    def check(self, policy, identity):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        for name, content in (("policy.toml", policy), ("identity.toml", identity)):
            with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
                file.write(content)
        for command in (
            ["init", "ca", "--name", "fleet"],
            ["issue", "ca", "--host", "web-1", "--out", "."],
        ):
            subprocess.run(
                [TRIRECTL, "pki", *command], cwd=directory, check=True, stdout=subprocess.DEVNULL
            )
        done = subprocess.run(
            [TRIRECTL, "policy", "check", directory], capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout.count("warning")), (0, 0), done.stdout)

    def test_policies(self):
        pages = documents.files("toml")
        self.assertLessEqual(
            {"README.md", "docs/cookbook.md", "docs/man/trireme-policy.toml.5.scd"},
            {page for page, _ in pages},
        )
        for page, text in pages:
            with self.subTest(page, text=text):
                self.check(text, "")

    def test_identities(self):
        pages = documents.files("toml identity")
        self.assertLessEqual({"README.md", "docs/cookbook.md"}, {page for page, _ in pages})
        for page, text in pages:
            with self.subTest(page, text=text):
                self.check("", text)

    def test_json(self):
        for page, text in documents.files("json"):
            with self.subTest(page):
                json.loads(text)


class Documents(unittest.TestCase):
    def pages(self):
        return [page for page in documents.PAGES if page.endswith(".md")]

    def test_links_lead_somewhere(self):
        for page in self.pages():
            for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document(page)):
                if not target.startswith("http"):
                    self.assertTrue(
                        os.path.exists(f"{ROOT}/{os.path.dirname(page)}/{target}"),
                        f"{page}: {target}",
                    )

    def test_commands_and_their_options_exist(self):
        seen = set()
        for page in self.pages():
            code = "\n".join(
                documents.spans(page)
                + [block.text for block in documents.blocks() if block.page == page]
            )
            for program, command, rest in re.findall(
                r"\b(trirectl|trirun|triremed)\b((?: (?:policy|pki))? [a-z][a-z-]+)?([^|&;`#\n]*)",
                code,
            ):
                words = [program, *(command.split() if program == "trirectl" else [])]
                options = re.findall(r" (--?[a-z][a-z-]*)", rest.split(" -- ")[0])
                seen.update((*words, option) for option in ("--help", *options))
        self.assertGreater(len({words for words in seen if words[-1] == "--help"}), 12)
        for *words, option in seen:
            done = subprocess.run(
                [PROGRAMS[words[0]], *words[1:], "--help"],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(done.returncode, 0, words)
            self.assertRegex(done.stdout, rf"(?<![\w-]){option}\b", words)

    def test_the_readmes_first_part_is_a_screen(self):
        self.assertLessEqual(
            len(
                re.sub(
                    "<!--.*?-->\n", "", document("README.md").split("## Quick start")[0]
                ).splitlines()
            ),
            24,
        )


class Api(HostCase):
    """docs/api.md describes the control protocol."""

    def test_it_repeats_the_comments_of_the_header(self):
        names = [name for name, _ in api.methods()]
        self.assertGreater(len(names), 10)
        with open(api.HEADER, encoding="utf-8") as file:
            self.assertEqual(len(names), file.read().count("inline constexpr const char*"))
        self.assertEqual(api.written(), api.rendered(), "run: python3 -B -m tests.system.api")

    def test_its_example_works(self):
        (example,) = [block for block in documents.blocks() if block.language == "python"]
        program = example.text.replace("/run/trireme/", self.host.runtime + "/")
        self.assertEqual(self.host.must(["python3", "-c", program]).strip(), "enforce")

    def test_each_method_exists(self):
        program = (
            "import json, socket, sys\n"
            "client = socket.socket(socket.AF_UNIX)\n"
            "client.connect(sys.argv[1])\n"
            "answers = client.makefile()\n"
            "for method in sys.argv[2:]:\n"
            "    client.sendall(json.dumps({'method': method}).encode() + b'\\n')\n"
            "    print(answers.readline(), end='')\n"
        )
        names = [name for name, _ in api.methods() if name != "launch"] + ["none"]
        printed = self.host.must(
            ["python3", "-c", program, self.host.runtime + "/trireme.sock", *names]
        )
        answers = [json.loads(line) for line in printed.splitlines()]
        self.assertEqual({answer["version"] for answer in answers}, {1})
        unknown = [
            name
            for name, answer in zip(names, answers)
            if "unknown method" in answer.get("error", {}).get("message", "")
        ]
        self.assertEqual(unknown, ["none"])


class Convert(unittest.TestCase):
    """Converts the original's policy.json as docs/migration.md describes."""

    def convert(self, text, *options):
        with tempfile.TemporaryDirectory() as directory:
            with open(directory + "/policy.json", "w", encoding="utf-8") as file:
                file.write(text)
            done = subprocess.run(
                [TRIRECTL, "policy", "convert", "policy.json", *options],
                cwd=directory,
                capture_output=True,
                text=True,
                check=False,
            )
            with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
                file.write(done.stdout)
            check = subprocess.run(
                [TRIRECTL, "policy", "check", directory],
                capture_output=True,
                text=True,
                check=False,
            )
        return done, check

    def test_what_comes_out_is_a_policy(self):
        done, check = self.convert(ORIGINAL % "")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("2 rules", check.stdout)
        self.assertEqual(check.returncode, 0)

    def test_what_has_no_words_is_told(self):
        done, check = self.convert(ORIGINAL % MORE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(
            "trirectl: not converted: Shop.TagSelectors[1]: '@sys:image' is a tag", done.stderr
        )
        self.assertIn("# NOT EXPRESSED: Shop.TagSelectors[1]", done.stdout)
        self.assertIn("2 rules", check.stdout)

    def test_mistakes_are_placed(self):
        done, _ = self.convert('{\n  "Shop": {,}\n}')
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("policy.json:2:12: invalid JSON", done.stderr)


if __name__ == "__main__":
    unittest.main()
