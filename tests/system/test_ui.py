# SPDX-License-Identifier: Apache-2.0
"""The page of `trirectl ui` and of `policy graph --format html`, in a browser: what it shows, who
gets it, and what text of others can do in it."""

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

from tests.system import waiting
from tests.system.browser import Browser
from tests.system.host import TRIRECTL, HostCase, kill_quietly
from tests.system.relay import Relay

POLICY = """
[[allow]]
name = "web to db"
from = "app=web"
to = "app=db"
ports = ["tcp/7300"]
"""
# How many nodes are drawn, and what overlaps what must not: nodes, frames of groups, titles with
# nodes or other titles, numbers of lines between groups with each other, frames and titles.
OVERLAPS = """
(() => {
  const seen = (selector) => [...document.querySelectorAll(selector)].map((element) => ({element, at: element.getBoundingClientRect()}))
    .filter(({at}) => at.width > 0);
  const apart = 1;  // pixel: bounds of text are not exact
  const meet = (a, b) => a.left < b.right - apart && b.left < a.right - apart && a.top < b.bottom - apart && b.top < a.bottom - apart;
  const found = [];
  const compare = (name, some, others) => some.forEach((a, i) => (others === some ? some.slice(i + 1) : others).forEach((b) => {
    if (meet(a.at, b.at)) found.push([name, a.element.textContent || a.element.parentElement.textContent, b.element.textContent || b.element.parentElement.textContent]);
  }));
  const nodes = seen(".node rect");
  const groups = seen(".group > rect");
  const titles = seen(".title text");
  const numbers = seen(".edge rect");
  compare("nodes", nodes, nodes);
  compare("groups", groups, groups);
  compare("titles", titles, titles);
  compare("title and node", titles, nodes);
  compare("numbers", numbers, numbers);
  compare("number and group", numbers, groups);
  compare("number and title", numbers, titles);
  return {nodes: nodes.length, overlaps: found};
})()
"""
# Nodes whose label is not whole in their box.
OUTSIDE = """
[...document.querySelectorAll(".node")].filter((node) => {
  const box = node.querySelector("rect").getBoundingClientRect();
  return [...node.querySelectorAll("tspan, .more")].some((text) => {
    const at = text.getBoundingClientRect();
    return at.width && (at.left < box.left - 1 || at.right > box.right + 1 || at.bottom > box.bottom + 1);
  });
}).map((node) => node.getAttribute("aria-label"))
"""
# The lowest contrast of text and of lines, as WCAG 2 computes it, with what has it.
CONTRAST = """
(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const shown = (color) => color && color !== "none" && !/, 0\\)$/.test(color);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      if (shown(getComputedStyle(each).backgroundColor)) return getComputedStyle(each).backgroundColor;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  let text = [99, ""];
  const least = (known, ratio, what) => (ratio < known[0] ? [ratio, what] : known);
  for (const each of document.querySelectorAll("h1, h2, label, button, select, input, p, span, time, td, th, a, pre, strong")) {
    if (!each.offsetParent || !each.textContent.trim()) continue;
    text = least(text, contrast(getComputedStyle(each).color, behind(each)), each.outerHTML.slice(0, 80));
  }
  for (const each of document.querySelectorAll(".node text")) {
    const box = getComputedStyle(each.parentElement.querySelector("rect")).fill;
    text = least(text, contrast(getComputedStyle(each).fill, box), each.textContent);
  }
  const group = document.querySelector(".group rect");
  const papers = [getComputedStyle(document.body).backgroundColor, ...(group ? [getComputedStyle(group).fill] : [])];
  for (const each of document.querySelectorAll(".title text")) {
    for (const paper of papers) text = least(text, contrast(getComputedStyle(each).fill, paper), each.textContent);
  }
  let lines = [99, ""];
  for (const each of document.querySelectorAll("path.line, .node rect, .group rect")) {
    for (const paper of papers) lines = least(lines, contrast(getComputedStyle(each).stroke, paper), each.parentElement.getAttribute("class"));
  }
  return {text, lines};
})()
"""
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

http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SHOWN = "[...document.querySelectorAll('.node')].map((node) => node.getAttribute('aria-label').split('\\n')[0])"


class Ui(HostCase):
    POLICY = POLICY

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.browser = Browser(cls.host, directory.name)
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        super().setUp()
        self.host.explicit_reload(POLICY)
        self.browser.media(prefers_color_scheme="light")

    # --- the server ---

    def ui(self, *options, wrapper=()):
        """Starts `trirectl ui`. Returns its URL."""
        process = self.host.popen(
            [*wrapper, TRIRECTL, "ui", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(kill_quietly, process)
        self.process = process
        url = process.stdout.readline().strip()
        self.assertRegex(url, r"^http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{64}$")
        return url

    def get(self, url, *options, user=None):
        """The status and the body of an answer, as curl on the host gets it; status 0: none."""
        wrapper = (
            ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        )
        done = self.host.run(
            [*wrapper, "curl", "-sS", "-i", "-m", "5", *options, url, "-w", "\n%{http_code}"]
        )
        answer, _, status = done.stdout.rpartition("\n")
        return int(status or 0), answer

    def session(self, url):
        """Uses the token up. Returns the header of the session as an option for curl."""
        status, answer = self.get(url)
        self.assertEqual(status, 200)
        self.assertNotRegex(answer, "(?i)set-cookie")
        secret = re.search('"secret":"([0-9a-f]{64})"', answer)
        return ("-H", "X-Trireme-Session: " + secret[1])

    def opened(self):
        url = self.ui()
        self.browser.open(url)
        self.browser.until("document.querySelectorAll('.node').length > 0", "the map is drawn")
        return url

    def served(self, labels, port):
        server = self.host.labelled(labels)
        server.serve("tcp", "0.0.0.0", port)
        return server

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

    # --- the page ---

    def test_map_search_and_filter(self):
        self.served("app=db", 7300)
        web = self.host.labelled("app=web")
        self.host.labelled("app=alone")
        web.open("live", "tcp", "127.0.0.1")
        self.assert_allowed(web.connect("live", "127.0.0.1", 7300))
        self.opened()
        browser = self.browser
        browser.until(
            "[...document.querySelectorAll('.edge.allow')].length === 1", "the edge that was seen"
        )
        self.assertTrue(
            browser.value(
                "document.querySelector('.edge.allow path.line').getAttribute('marker-end') === 'url(#arrow-allow)'"
            )
        )
        self.assertLessEqual({"app=alone", "app=db", "app=web"}, set(browser.value(SHOWN)))
        self.assertFalse(
            browser.value("known.map.edges.some((edge) => edge.from === edge.to)"),
            "no loop for what the baseline allows to each",
        )
        browser.value("document.getElementById('search').focus()")
        browser.type("7300")
        browser.until(f"{SHOWN}.sort().join() === 'app=db,app=web'", "the search")
        self.assertIn("2 of ", browser.value("document.getElementById('count').textContent"))
        browser.type("zzz")
        browser.until(f"{SHOWN}.length === 0", "the search finds nothing")
        self.assertFalse(browser.value("document.getElementById('empty').hidden"))
        browser.value(
            "(() => { const box = document.getElementById('search'); box.value = ''; box.dispatchEvent(new Event('input')); })()"
        )
        browser.value("document.querySelector('#states input[value=allow]').click()")
        self.assertEqual(browser.value("document.querySelectorAll('.edge.allow').length"), 0)
        self.assertEqual(browser.errors, [])
        # The address has no token any more, and the page can be loaded again.
        self.assertEqual(browser.value("location.search"), "")
        browser.command("Page.reload")
        browser.until("document.querySelectorAll('.node').length > 0", "the map after a reload")
        here = browser.value("location.origin")
        self.assertEqual(
            [url for url in browser.requests if not url.startswith((here + "/", "data:"))], []
        )

    def test_a_denial_appears_within_a_second(self):
        self.served("app=db", 7301)
        web = self.host.labelled("app=web")
        self.opened()
        began = time.monotonic()
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7301))
        refused = time.monotonic()
        self.browser.until(
            "[...document.querySelectorAll('#denials li')].some((item) => item.textContent.includes('tcp/7301'))",
            "the denial",
            seconds=5,
        )
        took = time.monotonic() - refused
        self.assertLess(took, 1.0 * waiting.PATIENCE, f"refused after {refused - began:.2f} s")
        self.assert_denial_explained("7301")
        # It is an edge of the map too, as soon as the map is made again.
        seen = "known.map.edges.some((edge) => edge.state === '{}' && edge.did.some((use) => use.ports === 'tcp/7301' && use.verdict === '{}'))"
        self.browser.until(seen.format("deny", "deny"), "the denied edge")
        self.assertGreater(self.browser.value("document.querySelectorAll('.edge.deny').length"), 0)
        # With a rule that allows it, it is no denied edge any more: the policy in force counts.
        self.host.explicit_reload(POLICY.replace('"tcp/7300"', '"tcp/7300", "tcp/7301"'))
        self.browser.until(
            "known.map.edges.some((edge) => edge.did.some((use) => use.ports === 'tcp/7301' && use.verdict === 'allow'))",
            "the flow is allowed now",
        )

    def test_a_denial_appears_within_a_second_among_others(self):
        """The page asks again and again while there are denials: none may wait for its turn."""
        db = self.host.labelled("app=db")
        db.serve_ports("127.0.0.1", 7600, 200)
        web = self.host.labelled("app=web")
        loud = self.host.labelled("app=loud")
        self.opened()
        ended = threading.Event()
        failures = []

        def be_loud():
            port = 0
            while not ended.wait(0.15):
                try:
                    self.assert_refused(loud.exchange("udp", "127.0.0.1", 7700 + port % 100))
                except AssertionError as failure:
                    failures.append(failure)
                    return
                port += 1

        thread = threading.Thread(target=be_loud)
        thread.start()
        took = []
        try:
            chance = random.Random(7)
            for port in range(7600, 7620):
                ended.wait(chance.uniform(0, 0.7))
                self.assert_refused(web.exchange("udp", "127.0.0.1", port))
                refused = time.monotonic()
                self.browser.until(
                    f"document.getElementById('denials').textContent.includes('udp/{port}')",
                    "the denial",
                    seconds=5,
                )
                took.append(time.monotonic() - refused)
        finally:
            ended.set()
            thread.join()
        self.assertEqual(failures, [])
        self.assertLess(max(took), 1.0 * waiting.PATIENCE, took)

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

    def assert_denial_explained(self, port):
        """'Why' and 'Allow' of the denial; what 'Allow' shows is a valid policy that allows it."""
        browser = self.browser
        item = f"[...document.querySelectorAll('#denials li')].find((item) => item.textContent.includes('tcp/{port}'))"
        before = self.host.status()["policy"]["digest"]
        browser.value(f"{item}.querySelector('button[data-what=why]').click()")
        browser.until(f"{item}.querySelector('pre')", "the explanation")
        self.assertIn(
            "no rule allows it", browser.value(f"{item}.querySelector('pre').textContent")
        )
        browser.value(f"{item}.querySelector('button[data-what=allow]').click()")
        browser.until(f"{item}.querySelector('pre').textContent.includes('[[allow]]')", "the rule")
        toml = browser.value(f"{item}.querySelector('pre').textContent")
        with tempfile.TemporaryDirectory() as directory:
            with open(directory + "/policy.toml", "w", encoding="utf-8") as file:
                file.write(toml)
            done = self.host.trirectl(
                "policy",
                "explain",
                "--config-dir",
                directory,
                "--from",
                "app=web",
                "--to",
                "app=db",
                "--port",
                f"tcp/{port}",
            )
        self.assertEqual(done.returncode, 0, toml + done.stdout + done.stderr)
        self.assertEqual(self.host.status()["policy"]["digest"], before, "the page changes nothing")

    def test_markup_in_names_stays_text(self):
        """Labels with markup, as far as labels can have it; they are texts everywhere."""
        self.served("app=db", 7302)
        web = self.host.labelled("app=<img/src/onerror><i>", "--label", "x=</script><b>")
        self.opened()
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7302))
        browser = self.browser
        browser.until("document.body.textContent.includes('onerror')", "the text of the label")
        browser.until(
            "[...document.querySelectorAll('#denials li')].some((item) => item.textContent.includes('onerror'))",
            "the denial",
        )
        for button in ("why", "allow"):
            browser.value(f"document.querySelector('#denials button[data-what={button}]').click()")
            browser.until("document.querySelector('#denials pre')", button)
        self.assertEqual(browser.value("document.querySelectorAll('img, b, i').length"), 0)
        self.assertEqual(browser.errors, [])
        page = self.host.must([TRIRECTL, "policy", "graph", "--format", "html"])
        self.assertEqual(page.count("</script>"), 2)
        self.assertNotIn("<img", page)

    def test_a_lost_daemon_is_shown(self):
        self.opened()
        self.host.stop()
        self.addCleanup(lambda: self.host.answers() or self.host.start())
        self.browser.until(
            "document.getElementById('problem').textContent !== ''", "the page says it"
        )
        self.host.start()
        self.browser.until(
            "document.getElementById('problem').textContent === ''", "it goes on", seconds=20
        )

    def test_a_daemon_that_hangs(self):
        """The time that a stopped daemon takes is no reason to ask it less often."""
        self.opened()
        self.host.daemon.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            waiting.until(lambda: time.monotonic() > stopped + 8, "eight seconds in silence", 10)
        finally:
            self.host.daemon.send_signal(signal.SIGCONT)
        self.host.labelled("app=late")
        self.browser.until(f"{SHOWN}.includes('app=late')", "the new workload", seconds=20)

    def test_updates_leave_what_the_user_does(self):
        """Zoom, the edges of the node under the pointer, and text that is selected in the table."""
        self.served("app=db", 7311)
        web = self.host.labelled("app=web")
        self.host.labelled("app=more")
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7311))
        self.opened()
        browser = self.browser
        browser.until("document.querySelector('.edge.deny')", "the denied edge", seconds=20)
        browser.value("document.getElementById('in').click()")
        browser.value("document.getElementById('tab-edges').click()")
        browser.value(
            "getSelection().selectAllChildren(document.querySelector('#edges tr td:nth-child(2)'))"
        )
        browser.value(
            "[...document.querySelectorAll('.node')].find((node) => node.getAttribute('aria-label').startsWith('app=web')).dispatchEvent(new MouseEvent('mouseenter'))"
        )
        seen = "[String(getSelection()), document.querySelectorAll('.edge.lit').length, d3.zoomTransform(svg.node()).k]"
        before = browser.value(seen)
        self.assertTrue(before[0])
        self.assertGreater(before[1], 0)
        self.host.labelled("app=more")
        browser.until(
            "known.map.nodes.some((node) => node.text === 'app=more' && node.workloads === 2)",
            "a second workload",
            seconds=20,
        )
        self.assertEqual(browser.value(seen), before)
        self.host.labelled("app=new")
        browser.until(f"{SHOWN}.includes('app=new')", "a new node", seconds=20)
        self.assertEqual(browser.value(seen), before)

    def test_an_explanation_stays_open_through_a_search(self):
        self.served("app=db", 7312)
        web = self.host.labelled("app=web")
        self.opened()
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7312))
        browser = self.browser
        item = "[...document.querySelectorAll('#denials li')].find((item) => item.textContent.includes('tcp/7312'))"
        browser.until(item, "the denial")
        browser.value(f"{item}.querySelector('button[data-what=why]').click()")
        browser.until(f"{item}.querySelector('pre')", "the explanation")
        browser.value("document.getElementById('search').focus()")
        browser.type("zzz")
        browser.until(f"!({item})", "the search")
        browser.value(
            "(() => { const box = document.getElementById('search'); box.value = ''; box.dispatchEvent(new Event('input')); })()"
        )
        browser.until(item, "the denial again")
        self.assertTrue(browser.value(f"{item}.querySelector('pre') !== null"))
        self.assertEqual(
            browser.value(
                f"{item}.querySelector('button[data-what=why]').getAttribute('aria-expanded')"
            ),
            "true",
        )
        browser.value(f"{item}.querySelector('button[data-what=why]').click()")
        self.assertTrue(browser.value(f"{item}.querySelector('pre') === null"), "one click closes")

    def test_the_age_of_the_map_while_nothing_changes(self):
        self.opened()
        browser = self.browser
        browser.until("/\\d:\\d/.test(document.getElementById('age').textContent)", "the age")
        age = browser.value("document.getElementById('age').textContent")
        browser.value("void (window.before = known.map)")
        browser.until(
            f"document.getElementById('age').textContent !== {json.dumps(age)}",
            "a younger map",
            seconds=45,
        )
        self.assertTrue(browser.value("known.map === window.before"), "it is the same map")
        self.assertTrue(browser.value("document.getElementById('empty').hidden"))

    def test_a_stop_ends_the_page(self):
        self.opened()
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

    def test_keyboard_only(self):
        self.served("app=db", 7303)
        self.host.labelled("app=web")
        self.host.labelled("app=cache")
        self.opened()
        browser = self.browser
        visited = []
        for _ in range(40):
            browser.key("Tab")
            place = browser.value(
                "(() => { const at = document.activeElement; return [at.id || at.getAttribute('class') || at.tagName, at.matches(':focus-visible')]; })()"
            )
            visited.append(place[0])
            self.assertTrue(place[1], f"the focus is visible at {place[0]}")
            if place[0].startswith("node"):
                break
        for wanted in ("search", "group", "detail", "theme"):
            self.assertIn(wanted, visited)
        first = browser.value("document.activeElement.getAttribute('aria-label')")
        moved = set()
        for arrow in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            browser.key(arrow)
            moved.add(browser.value("document.activeElement.getAttribute('aria-label')"))
        self.assertGreater(len(moved | {first}), 1, "arrow keys move between nodes")
        width = browser.value(
            "getComputedStyle(document.activeElement.querySelector('rect')).strokeWidth"
        )
        self.assertGreaterEqual(float(width.removesuffix("px")), 3)
        browser.key("Enter")
        self.assertEqual(
            browser.value("document.activeElement.getAttribute('aria-pressed')"), "true"
        )
        self.assertFalse(browser.value("document.getElementById('selected').hidden"))
        browser.key("Escape")
        self.assertTrue(browser.value("document.getElementById('selected').hidden"))
        nodes = browser.value("document.querySelectorAll('.node[tabindex=\"0\"]').length")
        self.assertEqual(nodes, 1, "the map is one stop of the tab key")

    def tab_to(self, selector):
        """Presses Tab until the element has the focus."""
        browser = self.browser
        for _ in range(80):
            if browser.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            browser.key("Tab")
        self.fail(f"Tab does not reach {selector}")

    def test_filters_lists_and_answers_by_keyboard(self):
        self.served("app=db", 7313)
        web = self.host.labelled("app=web")
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7313))
        self.opened()
        browser = self.browser
        browser.until("document.querySelector('.edge.deny')", "the denied edge", seconds=20)
        browser.until("document.querySelector('#denials li')", "the denial")
        self.tab_to("#states input[value=deny]")
        browser.key(" ")
        browser.until("!document.querySelector('.edge.deny')", "the filter")
        browser.key(" ")
        browser.until("document.querySelector('.edge.deny')", "all again")
        self.tab_to("#tab-denials")
        browser.key("ArrowRight")
        self.assertEqual(browser.value("document.activeElement.id"), "tab-edges")
        browser.until("document.querySelector('#panel-edges tbody tr').offsetParent", "the table")
        browser.key("ArrowLeft")
        self.assertEqual(browser.value("document.activeElement.id"), "tab-denials")
        for what, text in (("why", "no rule allows it"), ("allow", "[[allow]]")):
            self.tab_to(f"#denials button[data-what={what}]")
            browser.key("Enter")
            browser.until(
                f"(document.querySelector('#denials pre') || {{textContent: ''}}).textContent.includes({json.dumps(text)})",
                what,
            )

    # --- from disk, with many identities ---

    def from_disk(self, change=None):
        """The page of `policy graph`, with its data changed by `change`, opened from a file."""
        text = self.host.must([TRIRECTL, "policy", "graph", "--format", "html"])
        if change:
            head, data, tail = re.split(r'(?<=id="data">)(.*?)(?=</script>)', text, maxsplit=1)
            data = json.dumps(change(json.loads(data))).replace("<", "\\u003c")
            text = head + data + tail
        directory = self.enterContext(tempfile.TemporaryDirectory())
        path = directory + "/graph.html"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.browser.open("file://" + path)
        self.browser.until("document.querySelectorAll('.node').length > 0", "the map is drawn")

    @staticmethod
    def crowd(nodes, edges):
        """A map of that size. Labels are of different lengths; some do not fit into one line."""

        def change(data):
            names = [
                {
                    "app": f"service-{i}",
                    "team": f"team-{i % 12}",
                    **({"tier": "a-tier-with-a-rather-long-name-" * 2} if i % 7 == 0 else {}),
                }
                for i in range(nodes)
            ]
            texts = [",".join(f"{key}={value}" for key, value in name.items()) for name in names]
            data["map"]["nodes"] = [
                {
                    "id": text,
                    "text": text,
                    "kind": "workload",
                    "labels": name,
                    "members": ["x.scope"],
                    "workloads": 1 + i % 3,
                    "parties": [],
                    "parties_left_out": 0,
                }
                for i, (text, name) in enumerate(zip(texts, names))
            ]
            pairs = [(i * 7 % nodes, (i * 7 + 1 + i // nodes * 3) % nodes) for i in range(edges)]
            data["map"]["edges"] = [
                {
                    "from": source,
                    "to": target,
                    "state": ("allow", "open", "deny", "audit")[i % 4],
                    "may": "tcp/80",
                    "rules": [],
                    "seen": 0,
                    "denied": 0,
                    "did": [],
                    "did_left_out": 0,
                }
                for i, (source, target) in enumerate(pairs)
            ]
            return data

        return change

    def test_many_identities_do_not_overlap(self):
        self.host.labelled("app=web")
        for nodes, edges in ((15, 20), (60, 180), (200, 2000)):
            with self.subTest(nodes=nodes):
                self.from_disk(self.crowd(nodes, edges))
                for detail in ("auto", "all", "groups"):
                    self.browser.value(
                        f"(() => {{ const list = document.getElementById('detail'); list.value = '{detail}'; list.dispatchEvent(new Event('change')); }})()"
                    )
                    found = self.browser.value(OVERLAPS)
                    self.assertEqual(found, {"nodes": nodes, "overlaps": []}, detail)
                    self.assertEqual(self.browser.value(OUTSIDE), [], "labels are whole")
                self.assertEqual(self.browser.errors, [])

    def test_markup_in_every_text_stays_text(self):
        """Names of units, containers and DNS, rules, reasons: whatever the page is given."""
        self.host.labelled("app=web")
        hostile = "<img src=x onerror=alert(1)><b>x</b></script><script>alert(1)</script>"

        def change(data):
            data = self.crowd(6, 6)(data)
            data["title"] = data["map"]["title"] = hostile
            data["map"]["notes"] = [hostile]
            for node in data["map"]["nodes"]:
                node["id"] += hostile
                node["text"] += hostile
                node["labels"] = {hostile: hostile}
                node["members"] = node["parties"] = [hostile]
            for edge in data["map"]["edges"]:
                edge["may"] = hostile
                edge["rules"] = [hostile]
                edge["did"] = [{"ports": hostile, "verdict": "deny", "count": 1, "last": hostile}]
            denial = {"id": 1, "change": 1, "count": 2, "verdict": "deny"}
            texts = ("time", "from", "to", "from_end", "to_end", "port", "rule", "reason")
            denial.update({text: hostile for text in (*texts, "why", "allow")})
            data["denials"] = [denial]
            return data

        self.from_disk(change)
        browser = self.browser
        for button in ("why", "allow"):
            browser.value(f"document.querySelector('#denials button[data-what={button}]').click()")
            browser.until("document.querySelector('#denials pre')", button)
        for tab in ("tab-edges", "tab-denials"):
            browser.value(f"document.getElementById('{tab}').click()")
        browser.value(
            "document.querySelector('.node').dispatchEvent(new MouseEvent('mousemove', {clientX: 5, clientY: 5}))"
        )
        self.assertIn("<img", browser.value("document.getElementById('tip').textContent"))
        self.assertIn("<img", browser.value("document.getElementById('edges').textContent"))
        self.assertEqual(browser.value("document.querySelectorAll('img, b').length"), 0)
        self.assertEqual(browser.value("document.querySelectorAll('script').length"), 2)
        # A handler or a script that the policy of the page has stopped would be one.
        self.assertEqual(browser.errors, [])

    def test_many_groups_do_not_freeze_the_page(self):
        """Each identity a group of its own, with connections between all of them."""
        self.host.labelled("app=web")
        self.from_disk(self.crowd(200, 2000))
        took = self.browser.value(
            """
(() => {
  const list = document.getElementById("group");
  const began = performance.now();
  list.value = "app";
  list.dispatchEvent(new Event("change"));
  return performance.now() - began;
})()
"""
        )
        self.assertLess(took, 3000 * waiting.PATIENCE)
        found = self.browser.value(OVERLAPS)
        self.assertEqual(found, {"nodes": 200, "overlaps": []})
        self.assertEqual(self.browser.errors, [])

    def test_contrast_in_light_and_dark(self):
        self.host.labelled("app=web")
        self.from_disk(self.crowd(24, 40))
        for scheme in ("light", "dark"):
            self.browser.media(prefers_color_scheme=scheme)
            self.browser.until(
                f"document.documentElement.dataset.theme === '{scheme}'", "the system's colors"
            )
            found = self.browser.value(CONTRAST)
            self.assertGreaterEqual(found["text"][0], 4.5, (scheme, found))
            self.assertGreaterEqual(found["lines"][0], 3.0, (scheme, found))
        # The choice on the page is stronger than the system.
        self.browser.value(
            "(() => { const list = document.getElementById('theme'); list.value = 'light'; list.dispatchEvent(new Event('change')); })()"
        )
        self.assertEqual(self.browser.value("document.documentElement.dataset.theme"), "light")

    def test_the_file_needs_nothing_else(self):
        self.served("app=db", 7304)
        web = self.host.labelled("app=web")
        self.assert_refused(web.exchange("tcp", "127.0.0.1", 7304))
        waiting.until(
            lambda: self.host.trirectl("flows", "--port", "7304", "--json").stdout, "the denial"
        )
        self.from_disk()
        browser = self.browser
        self.assertEqual([url for url in browser.requests if not url.startswith("file://")], [])
        self.assertEqual(browser.errors, [])
        browser.until("document.querySelector('#denials button[data-what=why]')", "the denial")
        browser.value("document.querySelector('#denials button[data-what=why]').click()")
        browser.until(
            "document.querySelector('#denials pre').textContent.includes('no rule allows it')",
            "the explanation is in the file",
        )
        self.assertEqual(
            browser.value("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"),
            "refused",
            "the policy of the page",
        )


if __name__ == "__main__":
    unittest.main()
