# SPDX-License-Identifier: Apache-2.0
"""A control socket in front of the daemon's, which notes what a command asks and when."""

import contextlib
import json
import socket
import threading
import time


class Relay:
    """`directory`: the --runtime-dir of the command."""

    def __init__(self, host, directory):
        self.asked = []  # (time in seconds, what), see times()
        self._target = host.runtime + "/trireme.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(directory + "/trireme.sock")
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()

    def times(self, what):
        """When a method was called. Calls of `flows` that follow are "follow"."""
        return [time for time, each in list(self.asked) if each == what]

    def gaps(self):
        """The shortest time between two calls of each method."""
        found = {}
        for what in {each for _, each in list(self.asked)}:
            times = self.times(what)
            found[what] = min((b - a for a, b in zip(times, times[1:])), default=float("inf"))
        return found

    def _accept(self):
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self._target)
            for way in ((client, daemon, self._note), (daemon, client, lambda line: None)):
                threading.Thread(target=self._copy, args=way, daemon=True).start()

    def _note(self, line):
        request = json.loads(line)
        follows = request["params"].get("follow")
        self.asked.append((time.monotonic(), "follow" if follows else request["method"]))

    @staticmethod
    def _copy(source, sink, note):
        rest = b""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    note(line)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
