# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions, never for time to pass."""

import os
import time

# Under software emulation everything that should happen may take longer; what should not happen is
# watched for as long as ever.
PATIENCE = 10 if os.environ.get("TRIREME_SLOW") == "1" else 1


class TimedOut(AssertionError):
    pass


def until(condition, what, seconds=10.0, every=0.01):
    """Returns the condition's first true value; an error that names `what` after `seconds`."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimedOut(f"after {seconds} s not yet: {what} (last: {value!r})")
        time.sleep(every)
