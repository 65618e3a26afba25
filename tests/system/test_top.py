# SPDX-License-Identifier: Apache-2.0
"""`trirectl top` on a terminal of tmux, as a table, and the control method behind it."""

import json
import re
import shlex
import signal
import subprocess
import tempfile

from tests.system import waiting
from tests.system.host import TRIRECTL, HostCase
from tests.system.relay import Relay

RULES = """
[[allow]]
from = "app=web"
to = "app=db"
ports = ["tcp/7500"]
"""
PAIR = re.compile(r"^app=web +app=db +(?P<conns>\d+) +(?P<bytes>\S+) +(?P<denied>\S+)", re.M)
IDENTITY = re.compile(r"^app=db +1 +\d+ ", re.M)


def number(text):
    """12.3k as a number; None for "-"."""
    if text == "-":
        return None
    return float(text.rstrip("kMGTP")) * 1000 ** " kMGTP".find(
        text[-1] if text[-1].isalpha() else " "
    )


class Terminal:
    """A command on a terminal of tmux. The shell behind it stays when the command has ended."""

    def __init__(self, test, host, command, columns=110, lines=20, environment=()):
        self.tmux = ["tmux", "-S", host.undo.directory + "/tmux", "-f", "/dev/null"]
        inner = shlex.join(["env", *environment, *command])
        script = f"trap : INT; echo before; {inner}; echo ended $?; stty -a; exec sleep 600"
        words = host.inside(
            ["env", f"TRIREME_RUNTIME_DIR={host.runtime}", "LC_ALL=C.UTF-8", "sh", "-c", script]
        )
        size = ["-x", str(columns), "-y", str(lines)]
        self.must("-u", "new-session", "-d", "-s", "top", *size, shlex.join(words))
        self.pid, self.tty = self.must(
            "display-message", "-p", "-t", "top", "#{pane_pid} #{pane_tty}"
        ).split()
        test.addCleanup(self.close)

    def must(self, *words):
        done = subprocess.run(
            [*self.tmux, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def keys(self, *names):
        self.must("send-keys", "-t", "top", *names)

    def text(self):
        return self.must("capture-pane", "-p", "-t", "top")

    def resize(self, columns, lines):
        self.must("resize-window", "-t", "top", "-x", str(columns), "-y", str(lines))

    def shows(self, what, seconds=15):
        """Waits until a function of the text is true, or until it contains a text."""
        found = what if callable(what) else lambda text: what in text
        return waiting.until(lambda: found(self.text()), f"{what} in\n{self.text()}", seconds, 0.05)

    def close(self):
        subprocess.run([*self.tmux, "kill-server"], stderr=subprocess.DEVNULL)
        waiting.until(lambda: not self._lives(), "the terminal's processes are gone")

    def _lives(self):
        return subprocess.run(["kill", "-0", self.pid], stderr=subprocess.DEVNULL).returncode == 0


class Top(HostCase):
    POLICY = RULES

    def setUp(self):
        super().setUp()
        self.web = self.host.labelled("app=web")
        self.db = self.host.labelled("app=db")
        self.db.serve("tcp", "127.0.0.1", 7500)
        self.db.serve_ports("127.0.0.1", 7600, 100)
        self.refusals = 0

    def connect(self):
        self.assert_allowed(self.web.open("c", "tcp", "127.0.0.1"))
        self.assert_allowed(self.web.connect("c", "127.0.0.1", 7500))

    def talk(self):
        self.assert_allowed(self.web.send_text("c", "x" * 1000))
        self.assertIn("text", self.web.receive("c"))

    def be_refused(self):
        """Each time on another port: the same one is reported once in five seconds."""
        self.assert_refused(self.web.exchange("udp", "127.0.0.1", 7600 + self.refusals % 100))
        self.refusals += 1

    def top(self, *options, **more):
        return Terminal(self, self.host, [TRIRECTL, "top", *options], **more)

    def shell(self, terminal):
        """The terminal is as it was before."""
        terminal.shows("ended ")
        text = terminal.shows(lambda text: text if "icanon" in text else "")
        self.assertIn("before", text)
        self.assertNotRegex(text, r"-icanon|-echo |-isig")
        return text

    # --- the method ---

    def pairs(self):
        answer = json.loads(self.host.must([TRIRECTL, "top", "--json"]))
        return {(pair["from"], pair["to"]): pair for pair in answer["pairs"]}, answer

    def test_the_method_counts_connections_bytes_and_verdicts(self):
        self.connect()

        def seen():
            self.talk()
            pair = self.pairs()[0].get(("app=web", "app=db"), {})
            return pair.get("connections") == 1 and pair.get("bytes", 0) >= 2000 and pair

        waiting.until(seen, "the connection with its bytes", 20, 0.2)
        denied = self.pairs()[0]["app=web", "app=db"]["denied"]
        self.be_refused()
        waiting.until(
            lambda: self.pairs()[0]["app=web", "app=db"]["denied"] == denied + 1, "the denial", 20
        )
        self.web.close("c")
        waiting.until(
            lambda: self.pairs()[0]["app=web", "app=db"]["connections"] == 0, "no connection", 20
        )
        pairs, answer = self.pairs()
        self.assertGreaterEqual(pairs["app=web", "app=db"]["bytes"], 2000, "they stay counted")
        self.assertIn({"labels": "app=db", "workloads": 1}, answer["identities"])
        self.assertEqual(answer["left_out"], {"identities": 0, "pairs": 0})

    def test_an_answer_is_shared_for_a_second(self):
        answers = [self.pairs()[1] for _ in range(10)]
        times = sorted({answer["at"] for answer in answers})
        for one, other in zip(times, times[1:]):
            self.assertGreaterEqual(other - one, 0.9)

    def test_another_user_gets_nothing(self):
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        done = self.host.run([*user, TRIRECTL, "top", "--json"])
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertNotIn("app=", done.stdout + done.stderr)

    # --- a table ---

    def test_a_pipe_gets_one_table(self):
        self.connect()
        text = self.host.must([TRIRECTL, "top"])
        self.assertRegex(text, r"^FROM +TO +CONNS +BYTES/S +DENIED/S")
        self.assertEqual(PAIR.search(text)["conns"], "1", text)
        self.assertNotIn("\x1b", text)
        text = self.host.must([TRIRECTL, "top", "--once", "--identities", "--filter", "APP=DB"])
        self.assertRegex(text, IDENTITY)
        self.assertNotIn("app=web", text)

    def test_wrong_values_are_wrong_usage(self):
        for value in ("0", "0s", "soon", "-1"):
            self.assertEqual(
                self.host.run([TRIRECTL, "top", f"--interval={value}"]).returncode, 2, value
            )

    # --- the screen ---

    def test_a_pair_that_talks_and_a_denial(self):
        terminal = self.top()
        self.connect()

        def talks(text):
            self.talk()
            found = PAIR.search(text)
            return found and found["conns"] == "1" and (number(found["bytes"]) or 0) > 0

        terminal.shows(talks)

        def denies(text):
            self.be_refused()
            found = PAIR.search(text)
            return found and (number(found["denied"]) or 0) > 0

        terminal.shows(denies)
        terminal.shows(lambda text: (found := PAIR.search(text)) and number(found["denied"]) == 0)

    def test_the_daemon_is_asked_once_a_second_at_most(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        relay = Relay(self.host, directory)
        self.addCleanup(relay.close)
        terminal = self.top("--runtime-dir", directory)
        terminal.shows("CONNS")
        waiting.until(lambda: len(relay.times("traffic")) >= 6, "six refreshes", 20)
        times = relay.times("traffic")
        self.assertGreaterEqual(relay.gaps()["traffic"], 0.95, times)
        self.assertLess(times[5] - times[0], 5 + 2 * waiting.PATIENCE, "nor much less often")

    def test_views_sort_filter_and_help(self):
        self.connect()
        other = self.host.labelled("app=zoo")
        self.assert_refused(other.exchange("udp", "127.0.0.1", 7600))
        terminal = self.top()
        terminal.shows(lambda text: PAIR.search(text) and "app=zoo" in text)
        terminal.shows("sort: CONNS")
        terminal.keys("<", "<")
        terminal.shows("sort: FROM")

        def rows(text):
            return re.findall(r"^(app=\w+) +app=db ", text, re.M)

        terminal.shows(lambda text: rows(text) == sorted(rows(text)) and "app=web" in rows(text))
        terminal.keys("r")
        terminal.shows(
            lambda text: rows(text) == sorted(rows(text), reverse=True)
            and rows(text)[0] == "app=zoo"
        )
        terminal.keys("/", "ZOO", "Enter")
        terminal.shows(lambda text: rows(text) == ["app=zoo"] and "filter: ZOO" in text)
        terminal.keys("Escape")
        terminal.shows(lambda text: "app=web" in rows(text))
        terminal.keys("Tab")
        terminal.shows(lambda text: "WORKLOADS" in text and IDENTITY.search(text))
        terminal.keys("h")
        terminal.shows("Any key goes back.")
        terminal.keys("x")
        terminal.shows("WORKLOADS")

    def test_the_selected_row_is_shown_in_full(self):
        """Two identities whose labels are longer than the screen is wide, and differ in the middle."""
        texts = []
        for middle in ("aaa", "bbb"):
            labels = f"app=long,k1={'x' * 50}-{middle},k2={'y' * 50}"
            end = self.host.labelled(labels)
            self.assert_refused(end.exchange("udp", "127.0.0.1", 7600))
            texts.append(labels)
        terminal = self.top("--filter", "app=long", columns=80)

        def foot(text):
            return text.replace("\n", "")

        terminal.shows(lambda text: any(labels in foot(text) for labels in texts))
        first = next(labels for labels in texts if labels in foot(terminal.text()))
        terminal.keys("j")
        second = texts[1 - texts.index(first)]
        terminal.shows(lambda text: second in foot(text) and first not in foot(text))
        terminal.resize(80, 6)
        terminal.shows(lambda text: "…" in text and "q quit" in text)

    def test_the_size_follows_the_terminal(self):
        self.connect()
        terminal = self.top()
        terminal.shows(lambda text: PAIR.search(text) and "LAST" in text)
        terminal.resize(50, 8)
        terminal.shows(lambda text: PAIR.search(text) and "LAST" not in text)
        terminal.resize(20, 3)
        terminal.shows("trireme ")
        terminal.resize(110, 20)
        terminal.shows(lambda text: PAIR.search(text) and "LAST" in text and "q quit" in text)

    def test_q_and_signals_restore_the_terminal(self):
        for keys, ended in ((["q"], "ended 0"), (["C-c"], "ended 0")):
            with self.subTest(keys):
                terminal = self.top()
                terminal.shows("CONNS")
                terminal.keys(*keys)
                self.assertIn(ended, self.shell(terminal))
                terminal.close()
        terminal = self.top()
        terminal.shows("CONNS")
        tty = terminal.tty.removeprefix("/dev/")
        subprocess.run(["pkill", "-TERM", "-t", tty, "trirectl"], check=True)
        self.assertIn("ended 143", self.shell(terminal))

    def test_without_colors(self):
        for environment in (["NO_COLOR=1"], ["TERM=vt100"]):
            with self.subTest(environment):
                terminal = self.top(environment=environment)
                terminal.shows("CONNS")
                colored = terminal.must("capture-pane", "-p", "-e", "-t", "top")
                self.assertNotRegex(colored, r"\x1b\[[\d;]*3[0-7]m")
                terminal.close()

    def test_an_unknown_terminal_is_an_error(self):
        terminal = self.top(environment=["TERM=unheard-of"])
        terminal.shows("ended 1")
        self.assertIn("cannot use the terminal 'unheard-of'", terminal.text())

    def test_a_daemon_that_stops_and_starts_again(self):
        self.connect()
        terminal = self.top()
        terminal.shows(PAIR.search)
        self.host.stop()
        try:
            text = terminal.shows(lambda text: text if "daemon does not answer" in text else "", 20)
            self.assertNotRegex(text, PAIR)
        finally:
            self.host.start()
        terminal.shows(PAIR.search, 20)
        self.assertNotIn("does not answer", terminal.text())

    def test_a_daemon_that_hangs(self):
        self.connect()
        terminal = self.top()
        terminal.shows(PAIR.search)
        self.host.daemon.send_signal(signal.SIGSTOP)
        try:
            terminal.shows("daemon does not answer", 20)
            terminal.keys("q")
            self.assertIn("ended 0", self.shell(terminal))
        finally:
            self.host.daemon.send_signal(signal.SIGCONT)
