# SPDX-License-Identifier: Apache-2.0
"""Runs the named test modules and cleans up however it ends: python3 -m tests.system
tests.system.test_local"""

import sys
import unittest

from tests.system import undo

undo.end_on_signals()
unittest.main(module=None, argv=[sys.argv[0], *sys.argv[1:]], verbosity=2)
