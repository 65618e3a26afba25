#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy over the compile database of build/tidy, in parallel, and caches clean results.

The database has one file for each room, which includes the files of that room. Most of clang-tidy's
time goes into headers of libraries, so neighboring rooms, and programs with the room that they are
made of, are analyzed as one file too: a cold run takes two thirds of the time.

A clean result is kept in $XDG_CACHE_HOME/trireme-tidy under a hash of everything it depends on: the
version of clang-tidy, .clang-tidy, the command, and the preprocessed source with its comments (for
NOLINT) and macros.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / 'build' / 'tidy'
TIDY = 'clang-tidy-16'
OPTIONS = ['--quiet', '--warnings-as-errors=*']
KEPT_SECONDS = 30 * 24 * 3600
# Targets that are analyzed together.
TOGETHER = [
    [
        'trireme_base',
        'trireme_abi',
        'trireme_wire',
        'trireme_names',
        'trireme_kernel',
        'trireme_gate',
    ],
    ['trireme_credentials', 'trireme_handshake', 'trireme_datapath', 'trireme_verifier'],
    ['trireme_workload', 'trireme_docker', 'trireme_systemd'],
    ['trireme_enforcer', 'trireme_points', 'trireme_control'],
    ['trireme_daemon', 'triremed'],
    ['trireme_cli', 'trirun'],
    ['trireme_commands', 'trirectl'],
]


def run(command, cwd):
    return subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
    )


def preprocessed(entry):
    command = shlex.split(entry['command'])
    output = command.index('-o')
    del command[output : output + 2]
    command[command.index('-c')] = '-E'
    done = run([*command, '-C', '-dD'], entry['directory'])
    # A file that does not compile has no key: clang-tidy then reports the error.
    return done.stdout if done.returncode == 0 else None


def key(entry, common):
    source = preprocessed(entry)
    if source is None:
        return None
    digest = hashlib.sha256()
    for part in (common, entry['command'], source):
        # Results stay valid if the work tree is moved.
        digest.update(part.replace(f'{ROOT}/', '').encode())
        digest.update(b'\0')
    return digest.hexdigest()


def tidy(entry, common, cache):
    began = time.monotonic()
    name = os.path.relpath(entry['file'], ROOT)
    digest = key(entry, common)
    clean = cache / digest if digest else None
    if clean and clean.exists():
        clean.touch()
        return name, 'unchanged', 0, ''
    done = run([TIDY, '-p', str(BUILD / 'together'), *OPTIONS, entry['file']], ROOT)
    seconds = time.monotonic() - began
    # stderr has errors of clang-tidy itself, and counts of warnings in foreign headers.
    output = done.stdout + re.sub(r'^\d+ warnings?.*\n', '', done.stderr, flags=re.M)
    if done.returncode == 0 and not done.stdout.strip():
        if clean:
            clean.touch()
        return name, 'clean', seconds, ''
    return name, 'findings', seconds, output.replace(f'{ROOT}/', '')


def target_of(entry):
    found = re.search(r'/CMakeFiles/([^/]+)\.dir/Unity/', entry['file'])
    return found[1] if found else None


def together(entries):
    """The entries, with those of TOGETHER as one file that includes the others."""
    by_target = {target_of(entry): entry for entry in entries}
    for targets in TOGETHER:
        missing = [target for target in targets if target not in by_target]
        if missing:
            sys.exit(
                f'tidy: build/tidy has no target {missing[0]}; update TOGETHER in tests/tidy.py'
            )
    merged = [entry for entry in entries if not any(target_of(entry) in each for each in TOGETHER)]
    for targets in TOGETHER:
        parts = [by_target[target] for target in targets]
        file = BUILD / 'together' / f'{targets[0]}.cpp'
        file.parent.mkdir(exist_ok=True)
        text = ''.join(Path(part['file']).read_text() for part in parts)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
        # What tells the commands apart: where headers are, and macros.
        command = shlex.split(parts[0]['command'])
        command[command.index('-c') + 1] = str(file)
        for part in parts[1:]:
            words = shlex.split(part['command'])
            for at, word in enumerate(words):
                if word == '-isystem' and words[at + 1] not in command:
                    command[1:1] = words[at : at + 2]
                elif word.startswith(('-I', '-D')) and word not in command:
                    command.insert(1, word)
        merged.append({**parts[0], 'file': str(file), 'command': shlex.join(command)})
    return merged


def main():
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'trireme-tidy'
    cache.mkdir(parents=True, exist_ok=True)
    for path in cache.iterdir():
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)

    entries = together(json.loads((BUILD / 'compile_commands.json').read_text()))
    (BUILD / 'together' / 'compile_commands.json').write_text(json.dumps(entries))
    version = run([TIDY, '--version'], ROOT).stdout
    common = '\n'.join([version, (ROOT / '.clang-tidy').read_text(), *OPTIONS])

    # The largest rooms first, so that all processors finish at about the same time.
    def size(entry):
        source = Path(entry['file'])
        parts = re.findall(r'#include "(/[^"]+\.cpp)"', source.read_text())
        return sum(os.path.getsize(part) for part in parts) or source.stat().st_size

    entries.sort(key=size, reverse=True)
    blocks, counts = {}, {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, state, seconds, output in pool.map(lambda e: tidy(e, common, cache), entries):
            counts[state] = counts.get(state, 0) + 1
            if state != 'unchanged':
                print(f'tidy: {name}: {state}, {seconds:.0f} s', flush=True)
            # Every room that includes a header reports its findings; print each once.
            for block in re.split(r'^(?=\S+:\d+:\d+: (?:warning|error))', output, flags=re.M):
                if block.strip() and block not in blocks:
                    blocks[block] = None
                    print(block, end='', flush=True)
    print('tidy:', ', '.join(f'{count} {state}' for state, count in sorted(counts.items())))
    return 0 if entries and not counts.get('findings') else 1


if __name__ == '__main__':
    sys.exit(main())
