#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an include points up or sideways.

A room may include what is on a lower floor of docs/architecture.md ("Rooms"), and what CMake links into it.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
TABLE = 'docs/architecture.md'


def read_floors():
    """The floor of each room, from the table under "## Rooms"."""
    floors = {}
    inside = False
    for line in (ROOT / TABLE).read_text().splitlines():
        if line.startswith('## '):
            inside = line == '## Rooms'
        row = re.match(r'\| *(\d+) *\| *([a-z_, ]+?) *\|', line)
        if inside and row:
            for room in re.split(r', *', row[2]):
                floors[room] = int(row[1])
    return floors


def commands(path):
    """CMake commands of a file as (line, name, arguments), comments removed."""
    text = re.sub(r'#.*', '', path.read_text())
    for match in re.finditer(r'\b(\w+)\s*\(([^()]*)\)', text):
        yield text.count('\n', 0, match.start()) + 1, match[1], match[2].split()


def read_links(rooms):
    """What each room links directly: {room: {other: 'file:line'}}."""
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
    """The room an include names, or None if the file is not ours."""
    beside = os.path.relpath(os.path.normpath(path.parent / name), ROOT)
    for candidate in (beside, f'include/{name}', name):
        match = re.match(r'(?:include/trireme|src)/([^/]+)/', candidate)
        if match and (candidate != beside or (ROOT / beside).exists()):
            return match[1]
    return None


def main():
    findings = []
    floors = read_floors()
    rooms = {
        path.name
        for top in ('src', 'include/trireme')
        for path in (ROOT / top).iterdir()
        if path.is_dir()
    }
    for room in sorted(rooms - floors.keys()):
        findings.append(f'{TABLE}:1: the table of rooms lacks {room}')
    for room in sorted(floors.keys() - rooms):
        findings.append(f'{TABLE}:1: the table of rooms lists {room}, which does not exist')
    known = rooms & floors.keys()

    links = read_links(known)
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
                    findings.append(f'{where}: {room} includes {other}, which is no known room')
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
    if not arrows:  # a reader that finds nothing would pass everything
        print('floors: no include between rooms was found')
        return 1
    print(f'floors: {len(known)} rooms, {len(arrows)} arrows, {len(findings)} findings')
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main())
