"""The local path on Debian's own kernel, with the cgroupfs driver."""

import shutil
import unittest

from tests.system import undo, vm
from tests.system.host import LONG, ROOT

MODULES = ("local", "rules", "takeover", "restart") if LONG else ("local",)


class DebianKernel(unittest.TestCase):
    def test_the_local_path(self):
        for program in ("qemu-system-x86_64", "cpio", "apt-get", "depmod"):
            self.assertIsNotNone(shutil.which(program), f"{program} is missing: tests/install-deps.sh installs it")
        scratch = undo.Undo()
        self.addCleanup(scratch.run)
        kernel = vm.fetch_kernel(ROOT + "/build/debian-kernel")
        archive = vm.make_initramfs(kernel, scratch.directory, [f"tests.system.test_{name}" for name in MODULES])
        code, text = vm.boot(kernel, archive, scratch.directory + "/console", 3600 if LONG else 550)
        print(text[-30000:], flush=True)
        self.assertEqual(code, 0)
        self.assertRegex(text, r"\b6\.1\.\d+")


if __name__ == "__main__":
    unittest.main()
