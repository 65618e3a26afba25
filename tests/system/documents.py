# SPDX-License-Identifier: Apache-2.0
"""What README, docs and man pages tell a reader to type: blocks, each with a word for how it is
tested, and commands in running text.

A block that begins with ```toml or ```json, or is below "; policy", is a file. All others are
commands. The line before a block says how it is tested: <!-- run --> in Markdown, "; run" in the
source of a man page, with a colon and a scene ("run: lab"), or "not run: WHY".
"""

import glob
import os
import re
from typing import NamedTuple

from tests.system.host import ROOT

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    *sorted(
        os.path.relpath(path, ROOT)
        for pattern in ("docs/*.md", "docs/man/*.scd")
        for path in glob.glob(f"{ROOT}/{pattern}")
    ),
]
FENCED = re.compile(
    r"^(?:(?:<!-- ([^\n]*?) -->|; ([^\n]*))\n+)?```([^\n]*)\n(.*?)^```$", re.M | re.S
)
PROGRAMS = (
    "trirectl",
    "trirun",
    "triremed",
    "systemctl",
    "journalctl",
    "docker",
    "nft",
    "apt",
    "apt-get",
    "cmake",
    "dpkg",
)


class Block(NamedTuple):
    page: str
    how: str  # "run", "run: SCENE", "not run: WHY", or "" for a file
    language: str
    text: str

    def commands(self):
        """(user, command, expected output) of a block of commands; the user is the text before "$
        ". In a block without any "$ " each line is a command."""
        lines = self.text.splitlines()
        if not any(re.match(r"[a-z0-9-]*\$ ", line) for line in lines):
            return [("", line, []) for line in lines if line and not line.startswith("#")]
        entries = []
        for line in lines:
            prompt = re.match(r"([a-z0-9-]*)\$ (.*)", line)
            if prompt:
                entries.append((prompt[1], prompt[2], []))
            else:
                entries[-1][2].append(line)
        return entries


def document(page):
    with open(f"{ROOT}/{page}", encoding="utf-8") as file:
        return file.read()


def blocks(how=None):
    found = [
        Block(page, markdown or manual, language, text)
        for page in PAGES
        for markdown, manual, language, text in FENCED.findall(document(page))
    ]
    return [block for block in found if how is None or block.how == how]


def files(language):
    """(page, text) of the blocks that are files of this kind: "toml" is policy; "toml identity";
    "json"."""
    return [
        (block.page, block.text)
        for block in blocks()
        if ("toml" if block.how == "policy" else block.language) == language
    ]


def expected_exit(command):
    return int((re.search(r"#.*\bexits (\d+)", command) or [0, "0"])[1])


def spans(page):
    """The code in running text of a Markdown page."""
    return [
        " ".join(span.split())
        for span in re.findall(
            r"`([^`]+)`", re.sub(r"^```.*?^```$", "", document(page), flags=re.M | re.S)
        )
    ]


def inline():
    """Command lines in running text: a program and at least one more word. In the order of the
    pages, each once, with the first page that has it."""
    found = {}
    for page in PAGES:
        for line in spans(page) if page.endswith(".md") else ():
            words = line.replace("sudo ", "").split()
            if len(words) > 1 and words[0] in PROGRAMS:
                found.setdefault(" ".join(words), page)
    return found


def normalized(text):
    """Removes what differs between runs: times, names that Docker generates, the widths of
    columns."""
    text = re.sub(r"\bafter \d+ ms\b", "after N ms", text)
    text = re.sub(r"\b\d\d:\d\d:\d\d\.\d+\b", "TIME", text)
    text = re.sub(r"\b[a-z]+_[a-z]+\d?\b", "MADE_UP", text)
    return "\n".join(re.sub(r" {2,}", "  ", line.rstrip()) for line in text.strip().splitlines())
