#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Plants faults in copies of the working tree, one at a time in each, and verifies that the tests
# catch each of them. There is a copy for each processor. New files count once git knows them
# (git add).
#
#   tests/mutants.sh [--keep] [NAME...]
#
#   NAME    try only this fault: a file of tests/mutants without .patch, or a prefix of its name
#   --keep  keep the copies and their builds in build/mutants
#
# A fault is a patch tests/mutants/ROOM-WHAT.patch that changes files of src/ROOM. Before the
# difference, the patch describes the fault in a sentence and names the test that must fail:
#
#   Caught-by: unit ROOM [GTEST-FILTER]     trireme_unit_ROOM
#   Caught-by: system NAME [CLASS[.TEST]]   tests.system.test_NAME, where no unit test can
#
# Exits 0 only if every test passes without its fault, and each fault applies, builds, and is
# caught. Logs are kept in build/logs/mutants.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

usage() { sed -n '3,/^[^#]/{/^#/s/^# \{0,1\}//p}' tests/mutants.sh; }

# The trees of a run, one for each lane: N lanes try N faults at the same time. A build directory is
# in the same place of its tree as those of the presets, so that ccache finds what they compiled.
trees=$PWD/build/mutants
logs=$PWD/build/logs/mutants
limit=300 # seconds for one test; a fault that makes a test exceed it is caught
lanes=$(nproc)

keep=0 wanted=()
while (($#)); do
  case $1 in
    --keep) keep=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*)
      usage >&2
      exit 2
      ;;
    *) wanted+=("$1") ;;
  esac
  shift
done

# The names begin with the room, so that in alphabetical order little is rebuilt between faults.
patches=()
if ((${#wanted[@]} == 0)); then
  patches=(tests/mutants/*.patch)
else
  for name in "${wanted[@]}"; do
    found=(tests/mutants/"$name"*.patch)
    if [[ ! -e ${found[0]} ]]; then
      echo "mutants.sh: unknown fault '$name'; faults are the files of tests/mutants" >&2
      exit 2
    fi
    patches+=("${found[@]}")
  done
fi

child=''
# shellcheck disable=SC2317  # the traps call it
end_child() {
  if [[ -n $child ]]; then
    kill -TERM "$child" 2>/dev/null
    wait "$child"
  fi
}

laned=()
# shellcheck disable=SC2317  # the trap calls it
end() {
  end_child
  local pid
  for pid in "${laned[@]}"; do kill -TERM "$pid" 2>/dev/null; done
  for pid in "${laned[@]}"; do wait "$pid"; done
  ((keep)) || rm -rf "$trees"
}

# run LOG COMMAND...: runs COMMAND in the background, so that a trap can run before it ends.
run() {
  local log=$1 rc
  shift
  "$@" >>"$log" 2>&1 &
  child=$!
  wait "$child"
  rc=$?
  child=''
  return "$rc"
}

# enter LANE: selects the tree that the functions below work in.
enter() {
  tree=$trees/$1
  build=$tree/build/mutants
}

# caught_by PATCH: prints kind, name and filter of the test that must fail.
caught_by() { sed -n '/^--- /q; s/^Caught-by: *//p' "$1"; }

targets_of() { # KIND NAME
  if [[ $1 == unit ]]; then
    echo "trireme_unit_$2"
  else
    echo triremed trirun trirectl trireme_schemas trireme_man # what system tests install
  fi
}

compile() { # LOG JOBS TARGET...
  local log=$1 jobs=$2
  shift 2
  run "$log" ninja -C "$build" -j "$jobs" -k 0 "$@" # not cmake --build: ninja also terminates its compilers
}

run_test() { # LOG KIND NAME [FILTER]
  local log=$1 filter=${4:-}
  if [[ $2 == unit ]]; then
    (cd "$tree" && exec timeout --kill-after=10 "$limit" "$build/tests/unit/trireme_unit_$3" \
      --gtest_brief=1 --gtest_filter="${filter:-*}") >>"$log" 2>&1 &
  else
    (cd "$tree" && TRIREME_PRODUCTS=$build exec timeout --kill-after=60 "$limit" /usr/bin/python3 -B \
      -m tests.system --failfast "tests.system.test_$3${filter:+.$filter}") >>"$log" 2>&1 &
  fi
  child=$!
  wait "$child"
  local rc=$?
  child=''
  return "$rc"
}

# True if at least one test ran and none was skipped: a filter that matches nothing also passes.
has_run() { # LOG KIND
  if [[ $2 == unit ]]; then
    grep -qE '^\[=+\] [1-9][0-9]* tests? ' "$1" && ! grep -q '^\[ *SKIPPED' "$1"
  else
    grep -qE '^Ran [1-9]' "$1" && ! grep -q 'skipped=' "$1"
  fi
}

apply() { GIT_CEILING_DIRECTORIES=${tree%/*} git -C "$tree" apply -C1 "$@"; }

# make LANE LOG TARGET...: a copy of the commit, configured and built without a fault.
make() {
  local log=$2
  enter "$1"
  shift 2
  mkdir -p "$tree" || return 1
  git archive "${changed:-HEAD}" | tar -x -C "$tree" || return 1
  export CCACHE_BASEDIR=$tree
  run "$log" cmake -G Ninja -S "$tree" -B "$build" -DCMAKE_BUILD_TYPE=Debug \
    -DCMAKE_CXX_FLAGS_DEBUG='-O0 -g0' -DCMAKE_UNITY_BUILD=OFF -DTRIREME_TESTS=ON "${launcher[@]}" &&
    compile "$log" "$lanes" "$@"
}

failed=0
row() { # NAME ROOM TEST SECONDS RESULT
  printf '%-42s %-12s %-76s %7s  %s\n' "$@"
  [[ $5 =~ ^(caught|passed|result)$ ]] || failed=1
}

# try PATCH: plants the fault in the tree of this lane, runs its test, and removes the fault.
try() {
  local patch=$1 fault test kind name filter began=$SECONDS log result targets
  fault=$(basename "$patch" .patch)
  test=$(caught_by "$patch")
  read -r kind name filter <<<"$test"
  log=$logs/$fault.log
  : >"$log"
  read -ra targets <<<"${tests[$test]}"
  if [[ -z ${passes[$test]:-} ]]; then
    result='NOT TRIED'
  elif ! apply "$PWD/$patch" >>"$log" 2>&1; then
    result='DOES NOT APPLY: update the patch to the current code'
    cat "$log"
  else
    if ! compile "$log" 1 "${targets[@]}"; then
      result='DOES NOT BUILD'
      grep -m 5 'error' "$log"
    elif run_test "$log" "$kind" "$name" "$filter"; then
      result='SURVIVES'
      sed '/^Caught-by:/,$d' "$patch"
    else
      result=caught
    fi
    apply -R "$PWD/$patch" || exit 1
  fi
  row "$fault" "${fault%%-*}" "$test" $((SECONDS - began)) "$result"
}

# try_each LANE PATCH...: exits 0 only if each fault is caught.
try_each() {
  local patch
  trap 'end_child; exit 130' INT TERM HUP
  trap - EXIT
  enter "$1"
  shift
  for patch in "$@"; do try "$patch"; done
  exit "$failed"
}

shopt -s nullglob
rooms=()
for directory in src/*/; do
  rooms+=("$(basename "$directory")")
  if ((${#wanted[@]} == 0)) && [[ -z $(compgen -G "tests/mutants/${rooms[-1]}-*.patch") ]]; then
    echo "src/${rooms[-1]} has no fault in tests/mutants; add one" >&2
    failed=1
  fi
done

declare -A tests=() # the test, which must pass without a fault -> its build targets
for patch in "${patches[@]}"; do
  test=$(caught_by "$patch")
  read -r kind name filter <<<"$test"
  room=$(basename "$patch") && room=${room%%-*}
  if [[ ! $kind =~ ^(unit|system)$ || -z $name || $test == *$'\n'* ]]; then
    echo "$patch: one line 'Caught-by: unit ROOM [FILTER]' or 'Caught-by: system NAME [FILTER]' must precede the difference" >&2
    exit 2
  fi
  if [[ " ${rooms[*]} " != *" $room "* ]]; then
    echo "$patch: the name must begin with a room of src/" >&2
    exit 2
  fi
  tests[$test]=$(targets_of "$kind" "$name")
done

mkdir -p "$logs" || exit 1
exec 9>build/mutants.lock
if ! flock -n 9; then
  echo "mutants.sh: already running in this tree" >&2
  exit 2
fi
trap end EXIT
trap 'exit 130' INT TERM HUP
# A commit of the working tree, which belongs to no branch and changes nothing; empty if nothing has
# changed since HEAD.
changed=$(git stash create) || exit 1
commit=$(git rev-parse --short HEAD)${changed:+ with changes} || exit 1
rm -rf "$trees" || exit 1

# Faults that system tests catch are tried last and one at a time: some of these tests need the
# whole machine.
alone=() together=()
for patch in "${patches[@]}"; do
  if [[ $(caught_by "$patch") == system* ]]; then
    alone+=("$patch")
  else
    together+=("$patch")
  fi
done
((${#together[@]} < lanes)) && lanes=$((${#together[@]} > 0 ? ${#together[@]} : 1))

launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  export CCACHE_NOHASHDIR=1
  # Without these it does not keep what includes a precompiled header.
  export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
fi
log=$logs/unpatched.log
: >"$log"
mapfile -t targets < <(printf '%s\n' "${tests[@]}" | tr ' ' '\n' | sort -u)
mapfile -t units < <(printf '%s\n' "${targets[@]}" | grep '^trireme_unit_')
for ((lane = lanes - 1; lane >= 0; lane--)); do
  # Only the first lane runs system tests; it is built last and entered.
  if ((lane)); then its=("${units[@]}"); else its=("${targets[@]}"); fi
  if ! make "$lane" "$log" "${its[@]}"; then
    tail -n 80 "$log"
    echo "$commit does not build without a fault" >&2
    exit 1
  fi
done
printf '%s built without a fault in %d s\n\n' "$commit" "$SECONDS"

row fault room 'must be caught by' seconds result
mapfile -t unpatched < <(printf '%s\n' "${!tests[@]}" | sort)
declare -A passes=()
for test in "${unpatched[@]}"; do
  read -r kind name filter <<<"$test"
  began=$SECONDS log=$logs/unpatched.log
  : >"$log"
  result=passed
  if ! run_test "$log" "$kind" "$name" "$filter"; then
    result='FAILS WITHOUT A FAULT'
  elif ! has_run "$log" "$kind"; then
    result='RUNS NO TEST'
  else
    passes[$test]=1
  fi
  [[ $result == passed ]] || tail -n 40 "$log"
  row - - "$test" $((SECONDS - began)) "$result"
done

# Neighbors in the alphabet change the same room, so each lane has a part of the list in order.
share=$(((${#together[@]} + lanes - 1) / lanes))
for ((lane = 0; lane < lanes; lane++)); do
  try_each "$lane" "${together[@]:lane*share:share}" &
  laned+=($!)
done
for pid in "${laned[@]}"; do wait "$pid" || failed=1; done
laned=()
enter 0
for patch in "${alone[@]}"; do try "$patch"; done

printf '\n%d faults, %d s: %s\n' "${#patches[@]}" "$SECONDS" "$( ((failed)) && echo FAILED || echo 'all caught')"
exit "$failed"
