# SPDX-License-Identifier: Apache-2.0
"""`trirectl ui` with a browser, for the tests of the page."""

import subprocess
import tempfile

from tests.system.browser import Browser
from tests.system.host import TRIRECTL, HostCase, kill_quietly

POLICY = """
[[allow]]
name = "web to db"
from = "app=web"
to = "app=db"
ports = ["tcp/7300"]
"""
# The first lines of what the nodes of the map say.
SHOWN = "[...document.querySelectorAll('.node')].map((node) => node.getAttribute('aria-label').split('\\n')[0])"


class UiCase(HostCase):
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

    def opened(self):
        url = self.ui()
        self.browser.open(url)
        self.browser.until("known.map_time !== ''", "the map is drawn")
        return url

    def served(self, labels, port):
        server = self.host.labelled(labels)
        server.serve("tcp", "0.0.0.0", port)
        return server
