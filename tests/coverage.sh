#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures which lines of each room the tests run, and writes docs/coverage.md.
#
#   sudo tests/coverage.sh
#
# Builds the preset `coverage` in build/coverage. Runs the unit tests, then the system tests that
# start triremed in namespaces. Tests that boot a lab or a virtual machine run other builds and are
# left out. The output of each test is kept in build/logs/coverage. Exits 0 if the figures could be
# computed and every unit test passed; system tests that fail under instrumentation are listed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

products=$PWD/build/coverage
logs=$PWD/build/logs/coverage
jobs=$(nproc)
mkdir -p "$logs" || exit 1
if ((EUID != 0)); then
  echo "coverage.sh: not running as root, so most tests would be skipped; run 'sudo tests/coverage.sh'" >&2
  exit 1
fi
command -v ccache >/dev/null && export TRIREME_COMPILER_LAUNCHER=ccache

# tests/unit/ROOM_*_test.cpp are built into trireme_unit_ROOM.
mapfile -t rooms < <(basename -a tests/unit/*_test.cpp | cut -d_ -f1 | sort -u)
targets=(triremed trirectl trirun "${rooms[@]/#/trireme_unit_}")
if ! { cmake --preset coverage && cmake --build --preset coverage -j "$jobs" --target "${targets[@]}"; } >"$logs/build.log" 2>&1; then
  tail -n 40 "$logs/build.log"
  exit 1
fi
programs=("$products"/src/daemon/triremed "$products"/src/cli/trirectl "$products"/src/cli/trirun)
unit_tests=("${rooms[@]/#/$products/tests/unit/trireme_unit_}")

# A directory that processes of other users and in other mount namespaces can reach too.
profiles=$(mktemp -d "${TMPDIR:-/tmp}/trireme-coverage-XXXXXX") || exit 1
# When interrupted: terminates the current test, which cleans up on SIGTERM.
child=''
finish() {
  if [[ -n $child ]]; then
    kill -TERM "$child" 2>/dev/null
    wait "$child"
  fi
  rm -rf "$profiles"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# measured NAME LIMIT COMMAND...: runs an instrumented unit test. %m gives each program one file
# that all its processes share. %c keeps the counters in that file while the processes run, so that
# a killed process loses none.
measured() {
  local name=$1 limit=$2 rc
  shift 2
  LLVM_PROFILE_FILE=$profiles/unit/%c%m.profraw timeout --foreground --kill-after=60 "$limit" "$@" >"$logs/$name.log" 2>&1 &
  child=$!
  wait "$child"
  rc=$?
  child=''
  printf '%-28s %s\n' "$name" "$( ((rc == 0)) && echo passed || echo "FAILED ($rc)")"
  return "$rc"
}

mkdir -m 755 "$profiles/unit" "$profiles/system" || exit 1
chmod 755 "$profiles"

unit_failed=()
for file in "${unit_tests[@]}"; do
  name=$(basename "$file")
  measured "$name" 1200 "$file" || unit_failed+=("${name#trireme_unit_}")
done

# Create the files of counters now and make them writable: the tests also run the tools as other
# users.
for program in "${programs[@]}"; do
  LLVM_PROFILE_FILE=$profiles/system/%c%m.profraw "$program" --version >/dev/null || exit 1
done
chmod 666 "$profiles"/system/*.profraw || exit 1

# Instrumented programs are slow, so tests get longer time-outs.
export TRIREME_SLOW=1
sweep() { /usr/bin/python3 -B -c 'from tests.system import undo; undo.sweep()'; }
sweep
LLVM_PROFILE_FILE=$profiles/system/%c%m.profraw ctest --test-dir "$products" -R '^system_' -LE 'lab|vm' \
  -j $((jobs + 1)) --timeout 1800 --output-on-failure >"$logs/system.log" 2>&1 &
child=$!
wait "$child"
child=''
sweep
mapfile -t system_ran < <(sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: system_(\w+) .*/\1/p' "$logs/system.log")
mapfile -t system_failed < <(sed -nE '/ Passed +[0-9.]+ sec$/d; s/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: system_(\w+) .*/\1/p' "$logs/system.log")
if ((${#system_ran[@]} == 0)); then
  tail -n 40 "$logs/system.log"
  echo "coverage.sh: no system test ran" >&2
  exit 1
fi

merge() { # OUTPUT DIRECTORY...
  local output=$1 inputs
  shift
  mapfile -t inputs < <(find "$@" -name '*.profraw')
  llvm-profdata-16 merge -sparse -o "$output" "${inputs[@]}"
}
summary() { # PROFILE
  local objects=() file
  for file in "${programs[@]:1}" "${unit_tests[@]}"; do objects+=(-object "$file"); done
  llvm-cov-16 export -summary-only -instr-profile "$1" "${programs[0]}" "${objects[@]}"
}
if ! { merge "$profiles/unit.profdata" "$profiles/unit" &&
  merge "$profiles/all.profdata" "$profiles/unit" "$profiles/system" &&
  summary "$profiles/unit.profdata" >"$profiles/unit.json" &&
  summary "$profiles/all.profdata" >"$profiles/all.json"; }; then
  echo "coverage.sh: no figures: llvm-profdata-16 or llvm-cov-16 failed" >&2
  exit 1
fi

commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[[ -n $(git status --porcelain -- src include tests 2>/dev/null) ]] && commit+=" with changes"
/usr/bin/python3 -B tests/coverage.py "$profiles/unit.json" "$profiles/all.json" \
  --commit "$commit" --ran "${#system_ran[@]}" --failed "${system_failed[*]:-}" >docs/coverage.md || exit 1
cat docs/coverage.md
if ((${#unit_failed[@]})); then
  echo "unit tests failed: ${unit_failed[*]}" >&2
  exit 1
fi
