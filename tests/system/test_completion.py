# SPDX-License-Identifier: Apache-2.0
"""Completion in bash, zsh and fish themselves, on a pseudo-terminal: every command and option, fixed
values, and the names and labels of a running daemon."""

import contextlib
import fcntl
import os
import re
import select
import struct
import termios
import time
import unittest

from tests.system.host import PRODUCTS, TRIRECTL, TRIRUN, HostCase

SCRIPTS = PRODUCTS + "/etc/completions"
# Control-X p prints the command line, control-X k empties it.
SETUP = {
    "bash": """
        PS1= PS2= PROMPT_COMMAND=
        . /usr/share/bash-completion/bash_completion
        . {scripts}/bash/trirectl
        . {scripts}/bash/trirun
        bind 'set bell-style none'
        bind 'set enable-bracketed-paste off'
        bind 'set page-completions off'
        bind 'set completion-query-items 0'
        __show() {{ printf '\\n<<%s>>\\n' "$READLINE_LINE"; }}
        __empty() {{ READLINE_LINE= READLINE_POINT=0; }}
        bind -x '"\\C-xp": __show'
        bind -x '"\\C-xk": __empty'
    """,
    "zsh": """
        PS1= PS2= RPS1=
        mkdir -p {home}/functions
        cp {scripts}/zsh/trirectl {home}/functions/_trirectl
        cp {scripts}/zsh/trirun {home}/functions/_trirun
        fpath=({home}/functions $fpath)
        autoload -Uz compinit && compinit -u -d {home}/zcompdump
        setopt no_beep no_list_beep no_prompt_cr
        LISTMAX=10000
        zle_bracketed_paste=()
        __show() {{ printf '\\n<<%s>>\\n' "$BUFFER"; zle redisplay }}
        __empty() {{ BUFFER= }}
        zle -N __show
        zle -N __empty
        bindkey -e
        bindkey '^Xp' __show
        bindkey '^Xk' __empty
    """,
    "fish": """
        function fish_prompt; end
        function fish_greeting; end
        source {scripts}/fish/trirectl
        source {scripts}/fish/trirun
        function __show; printf '\\n<<%s>>\\n' (commandline | string collect); end
        bind \\cxp __show
        bind \\cxk 'commandline ""'
    """,
}
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


class Shell:
    """A shell that reads from a terminal."""

    def __init__(self, host, name):
        self.name = name
        home = f"{host.undo.directory}/home-{name}"
        os.makedirs(home, exist_ok=True)
        setup = home + "/setup"
        with open(setup, "w", encoding="utf-8") as file:
            file.write(SETUP[name].format(scripts=SCRIPTS, home=home))
        self.terminal, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
        self.process = host.popen(
            [
                "setsid",
                "--ctty",
                "env",
                "-u",
                "HISTFILE",
                f"HOME={home}",
                f"XDG_CONFIG_HOME={home}",
                f"XDG_DATA_HOME={home}",
                f"PATH={os.path.dirname(TRIRECTL)}:{os.path.dirname(TRIRUN)}:{os.environ['PATH']}",
                "TERM=xterm",
                "LC_ALL=C.UTF-8",
                *START[name],
            ],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=home,
        )
        os.close(inner)
        self.text = ""
        self.spaced = False  # the last line has a space at its end
        self.send(
            f". {setup}; echo re''ady\r" if name != "fish" else f"source {setup}; echo re''ady\r"
        )
        self.read_until("ready", 30)

    def close(self):
        os.close(self.terminal)
        self.process.kill()
        self.process.wait()

    def send(self, keys):
        os.write(self.terminal, keys.encode())

    def read_until(self, pattern, seconds=10):
        """Reads until the output since the last match has the pattern; returns the match."""
        deadline = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end() :]
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: {pattern} is not in {self.text!r}")
            if select.select([self.terminal], [], [], 0.1)[0]:
                chunk = os.read(self.terminal, 65536).decode("utf-8", "replace")
                self.text += chunk.replace("\r", "")

    def completed(self, line):
        """The command line after the tab key, without the space that a whole word gets."""
        self.send("\x18k" + line + "\t\x18p")
        found = self.read_until(r"<<(.*?)>>")[1]
        self.spaced = found.endswith(" ")
        return found.removesuffix(" ")


def words_of(page, title):
    """The words at the beginnings of lines of a part of a help page."""
    part = re.search(rf"(?ms)^{title}:\n(.*?)(?:^\n|\Z)", page)
    return re.findall(r"(?m)^  ([a-z-]+)\b", part[1]) if part else []


def options_of(page):
    return sorted(set(re.findall(r"(?m)^  (?:-[a-zA-Z],)?(--[a-z][a-z-]+)", page)))


def shortest(word, others):
    """The beginning of the word that no other word has. Of an option, three characters at least, since
    "-" also begins short ones."""
    for length in range(3 if word.startswith("-") else 1, len(word)):
        if not any(other.startswith(word[:length]) for other in others if other != word):
            return word[:length]
    return word


class Completion(HostCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.commands = {}
        cls.add_command([])

    @classmethod
    def add_command(cls, words):
        """Reads the pages of `trirectl WORDS --help` and of the commands below."""
        page = cls.host.must([TRIRECTL, *words, "--help"])
        below = words_of(page, "Subcommands")
        cls.commands[tuple(words)] = (below, options_of(page))
        for word in below:
            cls.add_command([*words, word])

    @contextlib.contextmanager
    def shell(self, name):
        shell = Shell(self.host, name)
        try:
            yield shell
        finally:
            shell.close()

    def test_every_command_and_option(self):
        self.assertGreater(len(self.commands), 18, self.commands)
        self.assertGreater(sum(len(options) for _, options in self.commands.values()), 90)
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                for words, (below, options) in self.commands.items():
                    line = " ".join(["trirectl", *words])
                    for known in (below, options):
                        for word in known:
                            begun = shortest(word, known)
                            self.assertEqual(
                                shell.completed(f"{line} {begun}"),
                                f"{line} {word}",
                                (name, begun),
                            )

    def test_options_before_a_command(self):
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                for line, end in (
                    ("trirectl --json policy gr", "aph"),
                    ("trirectl --config-dir /etc stat", "us"),
                    ("trirectl --config-dir=/etc -o json stat", "us"),
                    ("trirectl help policy gr", "aph"),
                    ("trirectl -o js", "on"),
                ):
                    self.assertEqual(shell.completed(line), line + end, name)

    def test_fixed_values(self):
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                for line, end in (
                    ("trirectl flows --verdict de", "ny"),
                    ("trirectl flows --verdict=de", "ny"),
                    ("trirectl flows --verdict audit,de", "ny"),
                    ("trirectl flows --port ud", "p/"),
                    ("trirectl flows --since 15", "m"),
                    ("trirectl policy graph --format ht", "ml"),
                    ("trirun -l a=b -p MemoryM", "ax="),
                    ("trirun --uid daemo", "n"),
                    ("trirun --gid=daemo", "n"),
                ):
                    self.assertEqual(shell.completed(line), line + end, name)
                    self.assertEqual(shell.spaced, end[-1] not in "/=", (name, line))

    def test_names_labels_and_networks(self):
        self.host.explicit_reload('[[network]]\nname = "corp-dns"\ncidrs = ["192.0.2.53"]\n')
        self.host.labelled(
            "zapp=webshop,zenv=prod,zimage=registry:5000/shop,zesc=a\\x2db", "--unit", "zshop-one"
        )
        self.assertEqual(self.host.workloads()[0]["name"], "zshop-one.scope")
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                for option in (
                    "flows --from",
                    "flows --to",
                    "flows --with",
                    "policy suggest --from",
                    "policy explain --to",
                ):
                    for begun, end in (
                        ("zshop-o", "ne.scope"),
                        ("zapp", "=webshop"),
                        ("zapp=", "webshop"),
                        ("zapp=we", "bshop"),
                        ("zenv=prod,zapp=w", "ebshop"),
                        ("zimage=registry:5", "000/shop"),
                        ("zes", r"c=a\\x2db"),  # quoted for the shell
                        (r"zesc=a\\x", "2db"),
                        ("@ho", "st"),
                        ("@corp", "-dns"),
                    ):
                        line = f"trirectl {option} {begun}"
                        self.assertEqual(shell.completed(line), line + end, name)
                line = "trirectl flows --from=zapp=we"
                self.assertEqual(shell.completed(line), line + "bshop", name)
                line = "trirun --label zapp=we"
                self.assertEqual(shell.completed(line), line + "bshop", name)

    def test_labels_of_others_run_no_commands(self):
        """bash inserts words as they are: return would run `...` as the operator."""
        proof = self.host.undo.directory + "/ran"
        self.host.labelled(f"zvil=`touch${{IFS}}{proof}`", "--unit", "zvil")
        self.host.labelled(f"zvil2=x;touch${{IFS}}{proof}", "--unit", "zvil2")
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                for begun in ("zvil=", "zvil2=", "zvil2=x"):
                    line = f"trirectl flows --from {begun}"
                    self.assertEqual(shell.completed(line), line, name)
                    shell.send("\r")
                shell.send("echo do''ne\r")
                shell.read_until("done")
                self.assertFalse(os.path.exists(proof), name)

    def test_files_and_directories(self):
        directory = self.host.undo.directory + "/places"
        os.makedirs(directory + "/policies")
        with open(directory + "/polite.toml", "w", encoding="utf-8"):
            pass
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                for command, end in (
                    ("policy check ", "icies/"),
                    ("policy diff ", "icies/"),
                    ("pki init ", "icies/"),
                    ("--config-dir ", "icies/"),
                    ("status --config-dir=", "icies/"),
                    ("pki issue ca --out ", "icies/"),
                    ("policy test ", "i"),  # of both names
                ):
                    line = f"trirectl {command}{directory}/pol"
                    self.assertEqual(shell.completed(line), line + end, name)
                for command in ("policy test", "policy convert", "pki psk"):
                    line = f"trirectl {command} {directory}/polit"
                    self.assertEqual(shell.completed(line), line + "e.toml", name)

    def test_trirun_completes_its_command(self):
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                for line, end in (
                    ("trirun --unit x -l app=web trirect", "l"),
                    ("trirun -l app=web -- trirect", "l"),
                    ("trirun -l app=web -- trirectl stat", "us"),
                    ("trirun -lapp=web trirectl flows --verdict=de", "ny"),
                ):
                    self.assertEqual(shell.completed(line), line + end, name)
                options = options_of(self.host.must([TRIRUN, "--help"]))
                self.assertIn("--label", options)
                for option in options:
                    begun = shortest(option, options)
                    self.assertEqual(shell.completed(f"trirun {begun}"), f"trirun {option}", name)

    def test_without_a_daemon_there_are_no_errors(self):
        directory = self.host.undo.directory
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                line = f"trirectl --runtime-dir {directory} flows --from @wor"
                self.assertEqual(shell.completed(line), line + "ld", name)

    def test_the_instance_of_the_command_line_is_asked(self):
        self.host.labelled("app=other-instance", "--unit", "only-here")
        environment = self.host.environment
        self.addCleanup(setattr, self.host, "environment", environment)
        self.host.environment = {"TRIREME_RUNTIME_DIR": self.host.undo.directory}
        for name in START:
            with self.subTest(name), self.shell(name) as shell:
                line = f"trirectl --runtime-dir {self.host.runtime} flows --from only"
                self.assertEqual(shell.completed(line), line + "-here.scope", name)


if __name__ == "__main__":
    unittest.main()
