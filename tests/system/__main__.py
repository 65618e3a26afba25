# SPDX-License-Identifier: Apache-2.0
"""Runs the named test modules and cleans up however it ends: python3 -m tests.system
tests.system.test_local"""

import sys
import time
import unittest

from tests.system import undo


class Timed(unittest.TextTestResult):
    """Prints how long each test took."""

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def stopTest(self, test):
        self.stream.writeln(f"    {time.monotonic() - self.began:.1f} s")
        super().stopTest(test)


undo.end_on_signals()
unittest.main(
    module=None,
    argv=[sys.argv[0], *sys.argv[1:]],
    testRunner=unittest.TextTestRunner(resultclass=Timed, verbosity=2),
)
