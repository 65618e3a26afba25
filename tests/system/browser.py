# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium on a host of a test, driven by its DevTools protocol over pipes."""

import json
import os
import select
import signal
import time

from tests.system import waiting

# As DOM events name them: key, code, and the number of the key.
KEYS = {
    "Tab": ("Tab", 9),
    "Enter": ("Enter", 13),
    "Escape": ("Escape", 27),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowUp": ("ArrowUp", 38),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40),
    "End": ("End", 35),
    "Home": ("Home", 36),
    " ": ("Space", 32),
}


class Browser:
    def __init__(self, host, directory, *options):
        """`directory`: an empty one for the profile."""
        self.host = host
        to_read, self.to_write = os.pipe()
        self.to_read, to_write = os.pipe()
        environment = {"HOME": directory}
        host_environment = dict(host.environment)
        host.environment.update(environment)
        try:
            self.process = host.popen(
                [
                    "bash",
                    "-c",
                    # DevTools reads from descriptor 3 and writes to 4.
                    f'exec "$@" 3<&{to_read} 4>&{to_write} 2>{directory}/log',
                    "bash",
                    # Its processes end together, and before unshare does.
                    *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    "chromium",
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--no-first-run",
                    "--window-size=1600,1000",
                    f"--user-data-dir={directory}/profile",
                    "--remote-debugging-pipe",
                    *options,
                    "about:blank",
                ],
                pass_fds=(to_read, to_write),
            )
        finally:
            host.environment = host_environment
        os.close(to_read)
        os.close(to_write)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.answers = {}
        self.requests = []  # URLs
        self.errors = []  # what the console and the policy of the page complain about
        self.log = directory + "/log"
        target = self.command("Target.createTarget", {"url": "about:blank"})["targetId"]
        self.session = self.command("Target.attachToTarget", {"targetId": target, "flatten": True})[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.command(domain + ".enable")

    def close(self):
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            for child in file.read().split():
                os.kill(int(child), signal.SIGKILL)
        self.process.wait()
        os.close(self.to_read)
        os.close(self.to_write)

    # --- the protocol ---

    def _read(self, deadline):
        """Takes messages until there is at least one."""
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.to_read], [], [], left)[0]:
                raise waiting.TimedOut("chromium does not answer: " + self._log_text())
            data = os.read(self.to_read, 1 << 20)
            if not data:
                raise AssertionError("chromium has ended: " + self._log_text())
            self.buffer += data
        *messages, self.buffer = self.buffer.split(b"\0")
        for message in map(json.loads, messages):
            self._take(message)

    def _log_text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()[-2000:]
        except OSError:
            return ""

    def _take(self, message):
        method, params = message.get("method"), message.get("params", {})
        if "id" in message:
            self.answers[message["id"]] = message
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))

    def command(self, method, params=None, seconds=30):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params or {}}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds * waiting.PATIENCE
        while self.number not in self.answers:
            self._read(deadline)
        answer = self.answers.pop(self.number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    # --- what a test does ---

    def open(self, url):
        """Returns when the page is complete."""
        # The page before it asks no more, and its errors are not those of this one.
        self.command("Page.navigate", {"url": "about:blank"})
        self.until("document.readyState === 'complete' && location.href === 'about:blank'", url)
        self.requests.clear()
        self.errors.clear()
        failed = self.command("Page.navigate", {"url": url}).get("errorText")
        if failed:
            raise AssertionError(f"{url}: {failed}")
        waiting.until(
            lambda: self.value("document.readyState === 'complete' && location.href")
            not in (False, "about:blank"),
            f"{url} is complete",
        )

    def value(self, expression):
        """The value of a JavaScript expression; of a promise, what it gives."""
        found = self.command(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "awaitPromise": True},
        )
        if "exceptionDetails" in found:
            raise AssertionError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, expression, what, seconds=10.0):
        # An element, which has no value here, is found.
        found = f"(found => found instanceof Node || found)({expression})"
        return waiting.until(lambda: self.value(found), what, seconds, every=0.02)

    def key(self, name, modifiers=0):
        """Presses a key of KEYS, or types one character. `modifiers`: 8 is Shift."""
        code, number = KEYS.get(name, (None, None))
        if code is None:
            self.command("Input.dispatchKeyEvent", {"type": "keyDown", "text": name, "key": name})
            self.command("Input.dispatchKeyEvent", {"type": "keyUp", "key": name})
            return
        event = {
            "key": name,
            "code": code,
            "windowsVirtualKeyCode": number,
            "modifiers": modifiers,
        }
        text = {"text": {"Enter": "\r", " ": " "}[name]} if name in ("Enter", " ") else {}
        self.command("Input.dispatchKeyEvent", {"type": "keyDown", **event, **text})
        self.command("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def type(self, text):
        for character in text:
            self.key(character)

    def media(self, **features):
        """media(prefers_color_scheme="dark")"""
        self.command(
            "Emulation.setEmulatedMedia",
            {
                "features": [
                    {"name": name.replace("_", "-"), "value": value}
                    for name, value in features.items()
                ]
            },
        )
