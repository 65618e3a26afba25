# SPDX-License-Identifier: Apache-2.0
"""Removes what a test has made on this machine: at its end, after a failure, after a signal, and
after a crash.

Each object is written to a journal before it is made. The directory of the journal is named after
the process that made it; the next run undoes the journals of processes that no longer exist.
"""

import atexit
import contextlib
import ctypes
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PREFIX = "trireme-test-"
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def die_with_parent():
    """For Popen's preexec_fn: the process is killed when the process of the test ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _empty_cgroup(path):
    with contextlib.suppress(OSError), open(path + "/cgroup.kill", "w", encoding="ascii") as kill:
        kill.write("1")
    deadline = time.monotonic() + 10
    while "populated 1" in _read(path + "/cgroup.events") and time.monotonic() < deadline:
        time.sleep(0.005)


def _read(path):
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
        return file.read()
    return ""


def remove_cgroup(path):
    if not os.path.isdir(path):
        return
    # Pins of a daemon that managed this cgroup tree.
    shutil.rmtree(f"/sys/fs/bpf/trireme/{os.stat(path).st_ino}", ignore_errors=True)
    _empty_cgroup(path)
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _unmount(path):
    subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False)


def _delete_netns(name):
    subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)


def _remove_tree(path):
    # Never delete below a path that is still mounted.
    if any(
        line.split()[4].startswith(path + "/")
        for line in _read("/proc/self/mountinfo").splitlines()
    ):
        print(f"{path} is not removed: something is mounted below it", file=sys.stderr)
        return
    shutil.rmtree(path, ignore_errors=True)


_ACTIONS = {
    "netns": _delete_netns,
    "cgroup": remove_cgroup,
    "mount": _unmount,
    "directory": _remove_tree,
}


class Undo:
    """A journal and its directory. name() returns names that are unique to this process."""

    _count = 0

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        self._owner = os.getpid()
        self._journal = self.directory + "/journal"
        self._calls = []
        atexit.register(self.run)

    def name(self, what):
        """Short enough for a network interface."""
        Undo._count += 1
        return f"t{self._owner}-{what}{Undo._count}"[:15]

    def add(self, action, target):
        """Adds an object; call it before the object is made."""
        assert action in _ACTIONS
        with open(self._journal, "a", encoding="utf-8") as journal:
            journal.write(json.dumps([action, target]) + "\n")

    def call(self, function):
        """Registers an action that only this process can take; it runs before the journal is
        undone."""
        self._calls.append(function)

    def run(self):
        if os.getpid() != self._owner:  # a forked child inherits this object
            return
        atexit.unregister(self.run)
        while self._calls:
            try:
                self._calls.pop()()
            except Exception as error:  # undo the rest in any case
                print(f"undo: {error}", file=sys.stderr)
        undo_journal(self.directory)


def undo_journal(directory):
    for line in reversed(_read(directory + "/journal").splitlines()):
        with contextlib.suppress(ValueError):
            action, target = json.loads(line)
            _ACTIONS[action](target)
    _remove_tree(directory)


def sweep():
    """Undoes the journals of killed runs."""
    for directory in glob.glob(f"{tempfile.gettempdir()}/{PREFIX}*"):
        owner = re.match(PREFIX + r"(\d+)-", os.path.basename(directory))
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            undo_journal(directory)


def end_on_signals():
    """Lets SIGTERM and the like run atexit handlers."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
