#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that rooms include only from lower floors.

A room may include headers of a room that is on a lower floor of the table "Rooms" in
docs/architecture.md, provided that CMake links that room into it. The column "links" of that table
has to agree with CMake.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
TABLE = 'docs/architecture.md'


def read_rooms():
    """The floor of each room and what it links, from the table under "## Rooms"."""
    floors, links = {}, {}
    inside = False
    for line in (ROOT / TABLE).read_text().splitlines():
        if line.startswith('## '):
            inside = line == '## Rooms'
        row = re.match(r'\| *(\d+) *\| *([a-z_]+) *\| *([a-z_, ]*?) *\|', line)
        if inside and row:
            floors[row[2]] = int(row[1])
            links[row[2]] = set(re.split(r', *', row[3])) - {''}
    return floors, links


def commands(path):
    """The CMake commands of a file without comments, as (line, name, arguments)."""
    text = re.sub(r'#.*', '', path.read_text())
    for match in re.finditer(r'\b(\w+)\s*\(([^()]*)\)', text):
        yield text.count('\n', 0, match.start()) + 1, match[1], match[2].split()


def read_links(rooms):
    """The rooms that each room links directly: {room: {other: 'file:line'}}."""
    links = {room: {} for room in rooms}

    def add(room, where, arguments):
        for argument in arguments:
            other = argument.removeprefix('trireme_')
            if argument.startswith('trireme_') and other in rooms and other != room:
                links[room].setdefault(other, where)

    for line, name, arguments in commands(ROOT / 'CMakeLists.txt'):
        if name == 'trireme_room' and arguments and arguments[0] in links:
            add(arguments[0], f'CMakeLists.txt:{line}', arguments[1:])
    for path in sorted((ROOT / 'src').glob('*/CMakeLists.txt')):
        room = path.parent.name
        for line, name, arguments in commands(path):
            if name == 'target_link_libraries' and room in links:
                add(room, f'{path.relative_to(ROOT)}:{line}', arguments)
    return links


def reachable(links, room):
    found, pending = set(), [room]
    while pending:
        for other in links[pending.pop()]:
            if other not in found:
                found.add(other)
                pending.append(other)
    return found


def sources(room):
    for top in ROOT / 'src' / room, ROOT / 'include' / 'trireme' / room:
        for path in sorted(top.rglob('*')):
            if path.suffix in ('.c', '.cpp', '.h', '.hpp'):
                yield path


def included_room(path, name):
    """The room of an included file; None if the file is not in src or include/trireme."""
    beside = os.path.relpath(os.path.normpath(path.parent / name), ROOT)
    for candidate in (beside, f'include/{name}', name):
        match = re.match(r'(?:include/trireme|src)/([^/]+)/', candidate)
        if match and (candidate != beside or (ROOT / beside).exists()):
            return match[1]
    return None


def main():
    findings = []
    floors, documented = read_rooms()
    rooms = {
        path.name
        for top in ('src', 'include/trireme')
        for path in (ROOT / top).iterdir()
        if path.is_dir()
    }
    for room in sorted(rooms - floors.keys()):
        findings.append(f'{TABLE}:1: room {room} is missing from the table of rooms')
    for room in sorted(floors.keys() - rooms):
        findings.append(f'{TABLE}:1: the table of rooms lists {room}, which does not exist')
    known = rooms & floors.keys()

    links = read_links(known)
    for room in sorted(known):
        if documented[room] != links[room].keys():
            findings.append(
                f'{TABLE}:1: {room} links {", ".join(sorted(links[room])) or "nothing"} in CMake,'
                f' not {", ".join(sorted(documented[room])) or "nothing"}'
            )
    for room in sorted(known):
        for other, where in links[room].items():
            if floors[other] >= floors[room]:
                findings.append(
                    f'{where}: {room} (floor {floors[room]}) links {other} (floor {floors[other]})'
                )

    arrows = set()
    for room in sorted(known):
        linked = reachable(links, room)
        for path in sources(room):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                other = included_room(path, match[1]) if match else None
                if other is None or other == room:
                    continue
                where = f'{path.relative_to(ROOT)}:{number}'
                arrows.add((room, other))
                if other not in known:
                    findings.append(f'{where}: {room} includes {other}, which is not a known room')
                elif floors[other] >= floors[room]:
                    findings.append(
                        f'{where}: {room} (floor {floors[room]}) includes {match[1]}'
                        f' of {other} (floor {floors[other]})'
                    )
                elif other not in linked:
                    findings.append(
                        f'{where}: {room} includes {match[1]}, but CMake does not link {other} into it'
                    )
    for finding in findings:
        print(finding)
    if not arrows:  # without this, a broken parser would pass everything
        print(
            'floors: found no include between rooms; INCLUDE in tests/floors.py no longer matches'
        )
        return 1
    print(f'floors: {len(known)} rooms, {len(arrows)} arrows, {len(findings)} findings')
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main())
