# SPDX-License-Identifier: Apache-2.0
"""The server of `trirectl ui`: who gets the page, how it ends, and what it asks the daemon."""

import re
import signal
import sys
import tempfile
import time
import unittest
import urllib.parse

from tests.system import waiting
from tests.system.host import TRIRECTL, kill_quietly
from tests.system.relay import Relay
from tests.system.uicase import UiCase

# Answers everything with a denial.
IMPOSTOR = """
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        denial = {"id": 1, "time": "impostor", "verdict": "deny", "from": "impostor", "to": "x",
                  "from_end": "x", "to_end": "x", "port": "tcp/1", "count": 1, "rule": "", "reason": ""}
        body = json.dumps({"change": 99, "problem": "impostor", "instance": "0" * 64, "denials": [denial],
                           "denial_ids": [1], "denials_left_out": 0}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

# Browsers open connections that they may use later: one at a time would wait for those.
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Ui(UiCase):
    def session(self, url):
        """Uses the token up. Returns the header of the session as an option for curl."""
        status, answer = self.get(url)
        self.assertEqual(status, 200)
        self.assertNotRegex(answer, "(?i)set-cookie")
        secret = re.search('"secret":"([0-9a-f]{64})"', answer)
        return ("-H", "X-Trireme-Session: " + secret[1])

    def test_the_token_works_once(self):
        url = self.ui()
        base = url.split("?")[0]
        status, answer = self.get(base)
        self.assertEqual(status, 200, "the page alone")
        self.assertNotIn('"secret"', answer)
        self.assertEqual(self.get(base + "api/updates?since=0")[0], 401)
        self.assertEqual(self.get(base + "?token=" + "0" * 64)[0], 401)
        session = self.session(url)
        status, answer = self.get(url)
        self.assertEqual(status, 403)
        self.assertIn("start it again", answer)
        self.assertNotIn("<script", answer)
        status, answer = self.get(base + "api/updates?since=0", *session)
        self.assertEqual(status, 200)
        self.assertIn('"nodes"', answer)
        self.assertEqual(self.get(base + "api/updates?since=0", "-H", session[1][:-1])[0], 401)
        cookie = "Cookie: " + session[1].replace(": ", "=")
        self.assertEqual(self.get(base + "api/updates?since=0", "-H", cookie)[0], 401)

    def test_other_names_and_sites_are_refused(self):
        url = self.ui()
        base = url.split("?")[0]
        port = urllib.parse.urlsplit(url).port
        self.assertEqual(self.get(url, "-H", f"Host: evil.example:{port}")[0], 403)
        session = self.session(url)
        for header in (
            f"Host: evil.example:{port}",
            "Origin: http://evil.example",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ):
            status, answer = self.get(base + "api/updates?since=0", *session, "-H", header)
            self.assertEqual(status, 403, header)
            self.assertNotIn("nodes", answer)
        self.assertEqual(self.get(base, *session, "-X", "POST", "-d", "x=1")[0], 405)
        self.assertEqual(self.get(base, *session, "-H", "X: " + "x" * 60_000)[0] // 100, 4)

    def test_another_user_gets_nothing(self):
        """Not even with the token or the session."""
        url = self.ui()
        base = url.split("?")[0]
        self.assertEqual(self.get(url, user=65534)[0], 0)
        session = self.session(url)  # the token was not used up
        for page in (base, base + "api/updates?since=0"):
            self.assertEqual(self.get(page, *session, user=65534)[0], 0)
        self.assertIn("refused a connection of user nobody", self._stderr_line("refused"))
        # Whoever may not ask the daemon gets no page of it either.
        done = self.host.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", TRIRECTL, "ui"]
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""))

    def _stderr_line(self, word):
        while True:
            line = self.process.stderr.readline()
            if word in line or not line:
                return line

    def test_it_listens_on_loopback_only(self):
        port = urllib.parse.urlsplit(self.ui()).port
        listed = self.host.must(["ss", "-Hltn", f"sport = :{port}"])
        addresses = {line.split()[3].rsplit(":", 1)[0] for line in listed.splitlines()}
        self.assertIn("127.0.0.1", addresses)
        self.assertLessEqual(addresses, {"127.0.0.1", "[::1]"})

    def test_a_port_in_use_and_a_stop(self):
        port = urllib.parse.urlsplit(self.ui()).port
        second = self.host.trirectl("ui", "--port", str(port))
        self.assertEqual(second.returncode, 1)
        self.assertIn("Address already in use", second.stderr)
        self.assertIn("--port", second.stderr)
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(timeout=15), 0)
        self.assertEqual(urllib.parse.urlsplit(self.ui("--port", str(port))).port, port)

    def test_a_port_in_use_on_the_other_address(self):
        """A browser may take localhost for either."""
        taken = self.host.labelled("app=web")
        taken.serve("tcp", "::1", 7310)
        done = self.host.trirectl("ui", "--port", "7310")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("Address already in use", done.stderr)
        self.assertIn("--port", done.stderr)

    def test_a_port_that_browsers_do_not_name(self):
        done = self.host.trirectl("ui", "--port", "80")
        self.assertEqual((done.returncode, done.stdout), (2, ""))

    def test_a_stop_while_the_daemon_hangs(self):
        self.opened()
        self.host.daemon.send_signal(signal.SIGSTOP)
        try:
            # A map is due by then, and waits for the daemon.
            stopped = time.monotonic()
            waiting.until(lambda: time.monotonic() > stopped + 3, "three seconds in silence", 5)
            self.process.send_signal(signal.SIGINT)
            self.assertEqual(self.process.wait(timeout=5 * waiting.PATIENCE), 0)
        finally:
            self.host.daemon.send_signal(signal.SIGCONT)

    def test_without_a_daemon(self):
        with tempfile.TemporaryDirectory() as nowhere:
            done = self.host.trirectl("ui", "--runtime-dir", nowhere)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("systemctl start trireme", done.stderr)

    def test_a_stop_ends_the_page(self):
        self.opened()
        # With nothing new, a request of the page waits for something.
        self.browser.value("new Promise((done) => { setTimeout(done, 1000); })")
        self.process.send_signal(signal.SIGTERM)
        self.browser.until(
            "document.getElementById('problem').textContent.includes('was stopped')",
            "the page says it",
        )
        asked = len(self.browser.requests)
        self.assertEqual(self.process.wait(timeout=15), 0)
        # What it asks for later would be in the list: a value comes after all events before it.
        self.browser.value("new Promise((done) => { setTimeout(done, 1500); })")
        self.assertEqual(len(self.browser.requests), asked)

    def test_another_server_at_the_port_is_not_believed(self):
        """A program of anybody can listen there when trirectl has ended."""
        url = self.opened()
        self.process.kill()
        self.process.wait()
        with tempfile.TemporaryDirectory() as directory:
            script = directory + "/impostor.py"
            with open(script, "w", encoding="utf-8") as file:
                file.write(IMPOSTOR)
            port = str(urllib.parse.urlsplit(url).port)
            impostor = self.host.popen([sys.executable, "-B", script, port])
            self.addCleanup(kill_quietly, impostor)
            self.browser.until(
                "document.getElementById('problem').textContent.includes('another program')",
                "the page says it",
                seconds=20,
            )
        self.assertEqual(self.browser.value("document.querySelectorAll('#denials li').length"), 0)
        self.assertNotIn("impostor", self.browser.value("document.body.textContent"))

    def test_a_tab_without_the_session_gets_nothing(self):
        url = self.opened()
        self.browser.value("sessionStorage.clear()")
        self.browser.open(url.split("?")[0])
        self.browser.until(
            "document.getElementById('problem').textContent.includes('no session')",
            "the page says it",
        )
        self.assertEqual(self.browser.value("document.querySelectorAll('.node').length"), 0)

    def test_the_daemon_is_asked_once_a_second_at_most(self):
        """However many denials there are. It lists open connections, in its loop, far less often."""
        db = self.host.labelled("app=db")
        db.serve_ports("127.0.0.1", 7600, 200)
        web = self.host.labelled("app=web")
        directory = self.enterContext(tempfile.TemporaryDirectory())
        relay = Relay(self.host, directory)
        self.addCleanup(relay.close)
        self.browser.open(self.ui("--runtime-dir", directory))
        port = 0
        while len(relay.times("workloads")) < 6:
            self.assert_refused(web.exchange("udp", "127.0.0.1", 7600 + port % 200))
            port += 1
            self.assertLess(port, 100_000, "the map is made again")
        self.assertGreater(port, 6, "there were denials all the time")
        for what, gap in relay.gaps().items():
            self.assertGreaterEqual(gap, 0.95, what)
        self.assertEqual(len(relay.times("connections")), 1)
        self.assertEqual(len(relay.times("follow")), 1)

    def test_a_page_that_nobody_sees_costs_nothing(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        relay = Relay(self.host, directory)
        self.addCleanup(relay.close)
        self.ui("--runtime-dir", directory)
        asked = len(relay.asked)
        started = time.monotonic()
        waiting.until(lambda: time.monotonic() > started + 5, "five seconds without a page", 10)
        self.assertEqual(relay.asked[asked:], [])


if __name__ == "__main__":
    unittest.main()
