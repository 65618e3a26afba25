"""Commands of README, docs and man pages that are marked to be run are run, line by line, on a host like the one they are about.

A code block is marked by the line before it: <!-- run --> in Markdown, ; run in a man page's source. Its lines are commands, or those that
begin with "$ " are where there are any. Each must exit with 0, or with N where its comment says "exits N". What follows ends when it has
shown a line.
"""

import glob
import os
import re
import subprocess
import tempfile
import unittest

from tests.system import waiting
from tests.system.host import ROOT, TRIRECTL, TRIREMED, Host

MARKED = re.compile(r"^(?:<!-- run -->|; run)\n+```[a-z]*\n(.*?)^```", re.M | re.S)
PAGES = ["README.md", *sorted(os.path.relpath(path, ROOT) for pattern in ("docs/*.md", "docs/man/*.scd") for path in glob.glob(f"{ROOT}/{pattern}"))]


def blocks():
    """(page, commands) of every marked block."""
    for page in PAGES:
        with open(f"{ROOT}/{page}", encoding="utf-8") as file:
            for block in MARKED.findall(file.read()):
                lines = [line for line in block.splitlines() if line and not line.startswith("#")]
                prompted = [line[2:] for line in lines if line.startswith("$ ")]
                yield page, prompted or lines


class Commands(unittest.TestCase):
    def scene(self):
        """Audit mode; app=web talked to app=db and to a name server."""
        host = Host('[defaults]\nmode = "audit"\n')
        self.addCleanup(host.close)
        os.mkdir(host.config + "/policy.d")
        host.labelled("app=db").serve("tcp", "0.0.0.0", 5432)
        host.plain().serve("udp", "127.0.0.53", 53)
        self.web = host.labelled("app=web")
        self.talk()
        waiting.until(lambda: {5432, 53} <= {flow["port"] for flow in host.flows()}, "both are told")
        return host

    def talk(self):
        self.assertEqual(self.web.exchange("tcp", "127.0.0.1", 5432), "ok")
        self.assertEqual(self.web.exchange("udp", "127.0.0.53", 53), "ok")

    def run_command(self, host, directory, line):
        expected = int((re.search(r"#.*\bexits (\d+)", line) or [0, "0"])[1])
        line = line.replace("/etc/trireme", host.config).replace("triremed --check", f"triremed --check --config-dir {host.config}")
        programs = ":".join((os.path.dirname(TRIRECTL), os.path.dirname(TRIREMED), os.environ["PATH"]))
        script = 'sudo() { "$@"; }\n' + line
        if "--follow" in line:
            script = f"sudo() {{ stdbuf -oL \"$@\"; }}\n{line.split('#')[0]} | head -n 1 | grep ."
        done = host.run(["env", f"PATH={programs}", "bash", "-c", script], cwd=directory, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, expected, f"{line}\n{done.stdout}{done.stderr}")

    def test_marked_commands_run(self):
        found = list(blocks())
        self.assertGreaterEqual(len(found), 4)
        for page in sorted({page for page, _ in found}):
            with self.subTest(page):
                host = self.scene()
                directory = self.enterContext(tempfile.TemporaryDirectory())
                for commands in (commands for where, commands in found if where == page):
                    for line in commands:
                        self.run_command(host, directory, line)
                host.close()


if __name__ == "__main__":
    unittest.main()
