# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a terminal of 80 columns."""

import fcntl
import os
import re
import select
import struct
import termios
import time
import unicodedata

COLUMNS = 80
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def show(spawn, argv, environment=None, timeout=30, columns=COLUMNS):
    """Runs `argv` through `spawn` (as subprocess.Popen) on a terminal. Returns (exit code, its
    output with escape sequences, its lines without)."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    try:
        words = [
            "env",
            "TERM=xterm",
            *(f"{key}={value}" for key, value in (environment or {}).items()),
            *argv,
        ]
        process = spawn(words, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        slave = -1
        text = b""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(master, 65536)
            except OSError:  # EIO: no process has the other end open
                break
            if not chunk:
                break
            text += chunk
        code = process.wait(10)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
    shown = text.decode("utf-8", "replace").replace("\r\n", "\n")
    return code, shown, _ESCAPES.sub("", shown).splitlines()


def width(line):
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1
        for char in line
    )
