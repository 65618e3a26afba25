# SPDX-License-Identifier: Apache-2.0
"""Waits for conditions, never for a fixed time."""

import os
import time

# Under software emulation, time-outs for what should happen are longer. What should not happen is
# watched for the normal time.
PATIENCE = 10 if os.environ.get("TRIREME_SLOW") == "1" else 1


class TimedOut(AssertionError):
    pass


def until(condition, what, seconds=10.0, every=0.01):
    """Returns the first true value of the condition. After `seconds`, fails with `what` in the
    message."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimedOut(f"after {seconds} s not yet: {what} (last: {value!r})")
        time.sleep(every)


def stays(condition, what, seconds):
    """For what should not happen: the condition must hold until `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if not value:
            raise AssertionError(f"no longer: {what} (last: {value!r})")
        time.sleep(0.05)
