# SPDX-License-Identifier: Apache-2.0
"""The page of `trirectl ui` in a browser, while things happen."""

import json
import random
import signal
import tempfile
import threading
import time
import unittest

from tests.system import waiting
from tests.system.host import TRIRECTL
from tests.system.uicase import POLICY, SHOWN, UiCase


class UiLive(UiCase):
    def test_map_search_and_filter(self):
        self.host.stop()  # it forgets the flows of other tests
        self.host.start()
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


if __name__ == "__main__":
    unittest.main()
