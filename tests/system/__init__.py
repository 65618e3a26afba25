# SPDX-License-Identifier: Apache-2.0
"""System tests: the real programs against the real kernel, each in namespaces and cgroups of its
own."""
