# SPDX-License-Identifier: Apache-2.0
"""docs/api.md repeats the comments of include/trireme/control/methods.hpp.

python3 -B -m tests.system.api writes them there; test_documents.py compares.
"""

import re

from tests.system.host import ROOT

HEADER = f"{ROOT}/include/trireme/control/methods.hpp"
PAGE = f"{ROOT}/docs/api.md"
WHY = "the interface"
BEGIN = "<!-- written by `python3 -B -m tests.system.api` from methods.hpp -->\n"
METHOD = re.compile(r'((?:^///.*\n)+)inline constexpr const char\* \w+ = "([^"]+)";', re.M)


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def _block(comment):
    text = re.sub(r"^//+ ?", "", comment, flags=re.M)
    return f"<!-- not run: {WHY} -->\n```\n{text}```\n"


def methods():
    """(name, comment) of each method, in the order of the header."""
    return [(name, comment) for comment, name in METHOD.findall(_read(HEADER))]


def rendered():
    objects = re.search(r"^//\n((?:^//.*\n)+)#pragma once", _read(HEADER), re.M)[1]
    parts = ["## Objects\n\n" + _block(objects), "## Methods\n"]
    parts += [f"### {name}\n\n{_block(comment)}" for name, comment in sorted(methods())]
    return BEGIN + "\n" + "\n".join(parts)


def written():
    """The same part of docs/api.md."""
    page = _read(PAGE)
    return page[page.index(BEGIN) :]


def main():
    page = _read(PAGE)
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page[: page.index(BEGIN)] + rendered())


if __name__ == "__main__":
    main()
