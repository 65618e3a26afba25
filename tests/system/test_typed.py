# SPDX-License-Identifier: Apache-2.0
"""Types what README, docs and man pages say for a whole machine, with systemd, Docker and the
journal. What the pages show must be printed."""

import re
import unittest

from tests.system import documents, terminal, waiting
from tests.system.lab import LabCase

# Values for the words in capitals, and for what running text leaves out.
MEANING = {
    "COMMAND": "true",
    "CMD": "true",
    "COPY": "/etc/trireme",
    "DIR": "/etc/trireme",
    "UNIT": "trireme",
    "LABELS": "app=nginx",
    "NAME": "example.org",
    " A ": " app=nginx ",
    " B ": " app=nginx ",
    "trirun --label …": "trirun --label app=nginx -- true",
    "--net=host …": "--net=host -d nginx",
    "app=shop …": "app=shop --rm busybox true",
}
COMPLETED = {
    "docker run --cgroup-parent=trireme-docker.slice": " --rm busybox true",
    "docker run --cap-drop NET_RAW": " --rm busybox true",
    "docker run -l app=shop": " --rm busybox true",
}
# Names of commands that are not command lines.
MENTIONED = {
    "docker exec",
    "docker network create",
    "docker run",
    "journalctl -x",
    "systemctl stop",
    "trirectl explain",
    "trirectl help [COMMAND]",
    "trirectl pki issue",
    "trirectl policy apply",
    "trirectl policy confirm",
    "trirectl policy explain",
    "trirectl policy rollback",
    "trirectl quarantine",
    "trirectl release",
    "trirectl unit-gate",
    "triremed --state-dir",
}
ELSEWHERE = {
    "trirectl policy apply DIR [--confirm 60s]": "test_apply.py",
    "cmake --install build/release && systemctl daemon-reload": "how a lab is made",
    "apt-get purge trireme": "test_package.py",
    "apt-get remove trireme": "test_package.py",
    "trirectl help [COMMAND]": "test_operator.py",
    "trirectl policy apply DIR [--confirm 60s]": "test_apply.py",
    "trirectl policy confirm": "test_apply.py",
    "trirectl policy rollback": "test_apply.py",
    "trirectl quarantine NAME": "test_incident.py",
    "trirectl quarantine NAME --reason TEXT": "test_incident.py",
    "trirectl release NAME": "test_incident.py",
    "trirectl top": "test_top.py",
    "trirectl ui": "test_ui.py",
    "trirectl release UNIT": "test_incident.py",
}
NOT_ALLOWED = {
    "trirectl policy explain --from LABELS --to NAME --port tcp/443"
}  # exits 2: no [[network]] has the name
# These come last, in this order.
IN_THE_END = (
    "nft flush ruleset",
    "systemctl stop trireme",
    "trirectl flush",
    "systemctl start trireme",
)

LATE = re.compile(r"deny +\S+ -> @world 172\.17\.")


class Typed(LabCase):
    FILES = (
        ("root/.curlrc", "silent\nshow-error\nmax-time = 5\n"),
        ("root/here/server", "#!/bin/sh\n"),
    )

    def type(self, line):
        """Types a line on a terminal. Returns (exit code, text)."""
        code, _, lines = terminal.show(
            self.lab.popen,
            ["bash", "-c", f'sudo() {{ "$@"; }}; cd /root/here && {{ {line}\n}}'],
            {"PAGER": "cat"},
            60,
            120,
        )
        return code, "\n".join(lines)

    def test_blocks(self):
        self.lab.must("chmod a+rX /root && chmod -R a+rX /root/here && chmod 755 /root/here/server")
        for block in documents.blocks("run: lab"):
            for _, line, printed in block.commands():
                with self.subTest(block.page, line=line):
                    self.one(line, documents.normalized("\n".join(printed)))
                if line.startswith("docker run") and " -d " in line:
                    waiting.until(
                        lambda: self.lab.workloads()
                        and self.lab.workloads()[0]["state"] == "enforced",
                        "the container is enforced",
                    )
                    waiting.until(lambda: ":80 " in self.lab.must("ss -Hltn"), "it listens")

    def one(self, line, printed):
        code, text = self.type(line)
        if printed:
            # Lines about a bridge container that has just ended may come between.
            kept = [each for each in text.splitlines() if not LATE.search(each)]
            self.assertEqual(documents.normalized("\n".join(kept)), printed)
        else:
            self.assertEqual(code, 0, text)
            self.assertNotIn("No entries", text)

    def test_running_text(self):
        found = documents.inline()
        self.assertGreater(len(found), 25)
        for named in (MENTIONED, ELSEWHERE, COMPLETED, NOT_ALLOWED):
            self.assertLessEqual(set(named), set(found), "entries that no page uses")
        rest = [line for line in found if line not in (*MENTIONED, *ELSEWHERE, *IN_THE_END)]
        for line in (*rest, *IN_THE_END):
            with self.subTest(found.get(line), line=line):
                command = line + COMPLETED.get(line, "")
                for word, meaning in MEANING.items():
                    command = command.replace(word, meaning)
                code, text = self.type(command)
                self.assertEqual(code, 2 if line in NOT_ALLOWED else 0, f"{command}\n{text}")
            if line == "nft flush ruleset":
                waiting.until(
                    lambda: self.lab.sh("nft list table inet trireme").returncode == 0,
                    "the table is rewritten",
                    1.5,
                )


if __name__ == "__main__":
    unittest.main()
