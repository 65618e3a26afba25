"""Waiting for conditions, never for time to pass."""

import time


class TimedOut(AssertionError):
    pass


def until(condition, what, seconds=10.0, every=0.01):
    """Returns the condition's first true value; an error that names `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimedOut(f"after {seconds} s not yet: {what} (last: {value!r})")
        time.sleep(every)


def never(condition, what, seconds):
    """Fails as soon as the condition holds, which it must not for `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            raise AssertionError(f"{what}: {value!r}")
        time.sleep(0.01)
