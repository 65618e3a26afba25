# SPDX-License-Identifier: Apache-2.0
"""The page of `policy graph --format html` in a browser: what it shows, from 6 identities to 200, and
what text of others can do in it."""

import json
import re
import tempfile
import unittest

from tests.system import waiting
from tests.system.host import TRIRECTL
from tests.system.uicase import UiCase

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
  const numbers = seen(".count rect");
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
    if (!each.textContent) continue;
    const box = getComputedStyle(each.parentElement.querySelector(each.classList.contains("badge") ? "circle" : "rect")).fill;
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


class UiFile(UiCase):
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

    def test_a_line_leads_around_what_is_between_its_ends(self):
        """Behind a box, it would seem to begin or end there."""
        self.host.labelled("app=web")

        def change(data):
            data = self.crowd(3, 3)(data)
            ends = ((0, 1), (1, 2), (0, 2))
            for edge, (source, target) in zip(data["map"]["edges"], ends):
                edge.update({"from": source, "to": target, "state": "allow"})
            for node in data["map"]["nodes"]:
                node["labels"] = {"app": node["labels"]["app"]}
            return data

        self.from_disk(change)
        found = self.browser.value(
            """
picture.links.map((link) => {
  const line = [...document.querySelectorAll(".edge path.line")].find((path) => d3.select(path.parentElement).datum() === link);
  const other = [...picture.layout.boxes.values()].find((box) => box !== link.a && box !== link.b);
  const length = line.getTotalLength();
  return d3.range(0, 1, 0.01).filter((t) => {
    const {x, y} = line.getPointAtLength(length * t);
    return x > other.x && x < other.x + other.width && y > other.y && y < other.y + other.height;
  }).length;
})
"""
        )
        self.assertEqual(found, [0, 0, 0])

    def test_a_line_between_groups_has_the_color_of_most_and_counts_the_denied(self):
        self.host.labelled("app=web")

        def change(data):
            data = self.crowd(60, 180)(data)
            for edge in data["map"]["edges"]:
                edge["state"] = "allow"
            data["map"]["edges"][0]["state"] = "deny"
            return data

        self.from_disk(change)
        browser = self.browser
        browser.value(
            "(() => { const list = document.getElementById('detail'); list.value = 'groups'; list.dispatchEvent(new Event('change')); })()"
        )
        self.assertEqual(
            browser.value("document.querySelectorAll('.bundles .edge:not(.allow)').length"), 0
        )
        # Between groups or inside of one; and one badge at the node that it did not reach.
        self.assertEqual(browser.value("document.querySelectorAll('tspan.deny').length"), 1)
        self.assertEqual(
            browser.value(
                "[...document.querySelectorAll('.badge')].map((each) => each.textContent).filter(Boolean).join()"
            ),
            "1",
        )

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
