# SPDX-License-Identifier: Apache-2.0
"""System tests: run the real programs on the real kernel, in separate namespaces and cgroups."""
