# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of README, docs and man pages line by line, on hosts like those that the pages
describe.

If a page shows text beneath a command, the command must print it. Otherwise it must exit with 0, or
with N if its comment says "exits N". A command that follows events is ended when it has shown a
line.
"""

import os
import re
import subprocess
import tempfile
import unittest

from tests.system import api, documents, waiting
from tests.system.host import TRIRECTL, TRIREMED, Host
from tests.system.test_documents import MORE, ORIGINAL

# test_second_host.py, test_typed.py and this file.
SCENES = {"run", "run: original", "run: slip", "run: lab", "run: two labs", "policy"}
NOT_RUN = {
    "sudo examples/quickstart.sh": "test_words.py runs the first",
    "sudo tests/install-deps.sh --build-only": "builds",
    "sudo tests/run.sh": "this is the suite itself",
    "cmake --preset asan": "builds",
    "cmake --build --preset release": "builds",
    "meta skuid root tcp option 253 exists accept": "a fragment of a firewall's own chain",
    "14:26:26.174 audit @host -> app=nginx tcp/80": "the flows of a host differ",
    "import json, socket": "test_documents.py runs it",
    "trirectl quarantine shop.service --reason 'beacons to 203.0.113.9'": "test_incident.py does it",
    "sudo systemctl disable --now trireme": "ends the enforcement that other blocks need",
    "trirectl policy diff next": "test_operator.py compares",
    "triremed --check": "test_first_start.py runs it",
}


def run(host, directory, line):
    """Runs a line as typed, with the files of this host and the programs of this build."""
    line = line.replace("/etc/trireme", host.config).replace(
        "triremed --check", f"triremed --check --config-dir {host.config}"
    )
    programs = ":".join((os.path.dirname(TRIRECTL), os.path.dirname(TRIREMED), os.environ["PATH"]))
    script = 'sudo() { "$@"; }\n' + line
    if "--follow" in line:
        script = f"sudo() {{ stdbuf -oL \"$@\"; }}\n{line.split('#')[0]} | head -n 1 | grep ."
    return host.run(
        ["env", f"PATH={programs}", "bash", "-c", script], cwd=directory, stdin=subprocess.DEVNULL
    )


class Commands(unittest.TestCase):
    def scene(self):
        """Audit mode, in which app=web has talked to app=db and to a name server."""
        host = Host('[defaults]\nmode = "audit"\n')
        self.addCleanup(host.close)
        os.mkdir(host.config + "/policy.d")
        host.labelled("app=db").serve("tcp", "0.0.0.0", 5432)
        host.plain().serve("udp", "127.0.0.53", 53)
        self.web = host.labelled("app=web")
        self.talk()
        waiting.until(
            lambda: {5432, 53} <= {flow["port"] for flow in host.flows()}, "both flows are logged"
        )
        return host

    def talk(self):
        self.assertEqual(self.web.exchange("tcp", "127.0.0.1", 5432), "ok")
        self.assertEqual(self.web.exchange("udp", "127.0.0.53", 53), "ok")

    def must(self, host, directory, line):
        done = run(host, directory, line)
        self.assertEqual(
            done.returncode, documents.expected_exit(line), f"{line}\n{done.stdout}{done.stderr}"
        )

    def test_every_block_is_run_or_says_why_not(self):
        left = {}
        for block in documents.blocks():
            if (block.page, block.how) == ("docs/api.md", f"not run: {api.WHY}"):
                continue  # test_documents.py compares these with methods.hpp
            if block.how.startswith("not run: "):
                left[block.commands()[0][1].split("  ")[0]] = block.how.removeprefix("not run: ")
            elif not block.how:
                self.assertIn(
                    block.language, ("toml", "toml identity", "json"), f"{block.page}: {block.text}"
                )
            else:
                self.assertIn(block.how, SCENES, block.page)
        self.assertEqual(left.keys(), NOT_RUN.keys())
        for command, why in NOT_RUN.items():
            self.assertIn(why, left[command])

    def test_marked_commands_run(self):
        found = documents.blocks("run")
        self.assertGreaterEqual(len(found), 4)
        for page in sorted({block.page for block in found}):
            with self.subTest(page):
                host = self.scene()
                directory = self.enterContext(tempfile.TemporaryDirectory())
                for block in found:
                    for _, line, _ in block.commands() if block.page == page else ():
                        self.must(host, directory, line)
                host.close()

    def test_a_slip_is_placed(self):
        """The README's policy with a typo in its third line, then without it."""
        policy = documents.files("toml")[0]
        self.assertEqual(policy[0], "README.md")
        host = Host(policy[1])
        self.addCleanup(host.close)
        (block,) = documents.blocks("run: slip")
        entries = block.commands()
        self.assertEqual(len(entries), 2)
        for text, (_, line, printed) in zip(
            (re.sub("(?m)^from  =", "form  =", policy[1], count=1), policy[1]), entries
        ):
            host.write("policy.toml", text)
            done = run(host, host.config, line)
            self.assertEqual(
                documents.normalized(done.stdout + done.stderr),
                documents.normalized("\n".join(printed)),
                line,
            )

    def test_the_originals_policy_is_converted(self):
        host = Host("", start=False)
        self.addCleanup(host.close)
        (block,) = documents.blocks("run: original")
        for more in ("", MORE):
            directory = self.enterContext(tempfile.TemporaryDirectory())
            with open(directory + "/policy.json", "w", encoding="utf-8") as file:
                file.write(ORIGINAL % more)
            codes = [run(host, directory, line).returncode for _, line, _ in block.commands()]
            self.assertEqual(codes, [1 if more else 0, 0])


if __name__ == "__main__":
    unittest.main()
