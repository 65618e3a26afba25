#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and runs the tests. Exits 0 only if all of them ran and passed.
#
#   tests/run.sh [--long] [--no-lab] [--only NAME]...
#   tests/run.sh --coverage | --mutants | --packages
#
#   --long       also run the soaks, the floods, long fuzzing, and both commands of README on a
#                fresh Debian 12
#   --no-lab     leave out the tests that boot a systemd with Docker
#   --only NAME  run only this step; may be repeated. Steps: check, unit, tsan, fuzz, and the files
#                of tests/system by name (local for test_local.py)
#   --coverage   measure how many lines of each room the tests run, and write docs/coverage.md
#   --mutants    plant each fault of tests/mutants and verify that a test catches it
#   --packages   build the packages of Debian 12 and 13, try them on fresh systems, and upgrade the
#                last release
#
# Builds in build/asan, build/tsan and build/release. The output of each step is kept in build/logs.
# To repeat one system test when it is built: ctest --preset system -R local
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

usage() { sed -n '3,/^[^#]/{/^#/s/^# \{0,1\}//p}' tests/run.sh; }

long=0 lab=1 only=() other=''
while (($#)); do
  case $1 in
    --long) long=1 ;;
    --no-lab) lab=0 ;;
    --coverage | --mutants | --packages) other=${1#--} ;;
    --only)
      only+=("${2:?--only needs a name}")
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift
done

mapfile -t system < <(basename -s .py -a tests/system/test_*.py | sed 's/^test_//')
steps=(check unit tsan fuzz fresh_machine "${system[@]}")
for name in "${only[@]}"; do
  if [[ " ${steps[*]} " != *" $name "* ]]; then
    echo "run.sh: unknown step '$name'; available: ${steps[*]}" >&2
    exit 2
  fi
done

wanted() {
  ((${#only[@]} == 0)) && return 0
  local name
  for name in "${only[@]}"; do [[ $name == "$1" ]] && return 0; done
  return 1
}

logs=$PWD/build/logs
mkdir -p "$logs" || exit 1
jobs=$(nproc)
names=() results=() seconds=()
child='' beside=''

# When interrupted: terminates the current steps and all their processes. The system tests clean up
# on SIGTERM.
interrupted() {
  local pid
  for pid in $child $beside; do
    kill -TERM -- "-$pid" 2>/dev/null
    wait "$pid"
    kill -KILL -- "-$pid" 2>/dev/null
  done
  exit 130
}
trap interrupted INT TERM HUP

record() { # NAME SECONDS EXIT-CODE LIMIT
  names+=("$1") seconds+=("$2")
  case $3 in
    0) results+=(passed) ;;
    124 | 137) results+=("over $4 s") ;;
    *) results+=("FAILED ($3)") ;;
  esac
  (($3 == 0)) || tail -n 120 "$logs/$1.log"
}

# step NAME LIMIT COMMAND...: runs COMMAND in its own process group for at most LIMIT seconds, with
# its output in a log.
step() {
  local name=$1 limit=$2 began=$SECONDS rc
  launch "$@"
  child=$!
  wait "$child"
  rc=$?
  kill -KILL -- "-$child" 2>/dev/null
  child=''
  record "$name" $((SECONDS - began)) "$rc" "$limit"
  return "$rc"
}

launch() { # NAME LIMIT COMMAND...
  local name=$1 limit=$2
  shift 2
  printf '%s ...\n' "$name"
  set -m
  timeout --foreground --kill-after=60 "$limit" "$@" >"$logs/$name.log" 2>&1 &
  set +m
}

# beside NAME LIMIT COMMAND...: adds a step to those that begin_beside starts.
beside_steps=()
beside() { beside_steps+=("$(printf '%q ' "$@")"); }

# begin_beside, end_beside: runs those steps one after the other in the processor time that the
# system tests leave, because those mostly wait.
begin_beside() {
  ((${#beside_steps[@]})) || return 0
  set -m
  run_beside &
  set +m
  beside=$!
}
run_beside() {
  local words name limit began line
  for line in "${beside_steps[@]}"; do
    eval "words=($line)"
    name=${words[0]} limit=${words[1]} began=$SECONDS
    printf '%s ...\n' "$name"
    rm -f "$logs/$name.result"
    nice -n 19 timeout --foreground --kill-after=60 "$limit" "${words[@]:2}" \
      >"$logs/$name.log" 2>&1
    echo "$((SECONDS - began)) $? $limit" >"$logs/$name.result"
  done
}
end_beside() {
  local line name result
  ((${#beside_steps[@]})) || return 0
  [[ -z $beside ]] || wait "$beside"
  kill -KILL -- "-$beside" 2>/dev/null
  beside=''
  for line in "${beside_steps[@]}"; do
    name=${line%% *}
    read -ra result <"$logs/$name.result" || result=(0 1 0)
    record "$name" "${result[@]}"
  done
  beside_steps=()
}
passed() { # NAME
  local i
  for i in "${!names[@]}"; do
    [[ ${names[i]} != "$1" ]] || [[ ${results[i]} == passed ]] || return 1
  done
}

# not_run NAME WHY: adds a step that was left out on purpose to the table.
not_run() {
  names+=("$1") results+=("not run: $2") seconds+=(0)
}

build() { # PRESET [TARGET...]
  local preset=$1
  shift
  cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}
}

# pure_unit_tests, unit_tests: those of rooms that need nothing of the kernel, and all others.
pure_unit_tests() { # PRESET SECONDS
  ctest --preset "$1" -R '^unit_' -j "$jobs" --timeout "$2" --no-tests=error
}
unit_tests() { # PRESET SECONDS
  # One more than processors: many tests wait.
  ctest --preset "$1" -E '^unit_' -j "$((jobs + 1))" --timeout "$2" --no-tests=error
}

fuzz_one() { # TARGET SECONDS
  local scratch=build/asan/scratch/$1 dictionary=()
  mkdir -p "$scratch" || return 1
  case $1 in
    policy | identity) dictionary=(-dict=tests/fuzz/config.dict) ;;
    selector) dictionary=(-dict=tests/fuzz/selector.dict) ;;
  esac
  "build/asan/tests/fuzz/fuzz_$1" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix=build/asan/scratch/ "${dictionary[@]}" \
    "$scratch" "tests/fuzz/corpus/$1" >"$scratch.log" 2>&1
  local rc=$?
  printf '== %s, %s s\n' "$1" "$2" | cat - "$scratch.log"
  return "$rc"
}

fuzz() { # SECONDS for each target; one target at a time per processor
  basename -s .cpp -a tests/fuzz/fuzz_*.cpp | sed 's/^fuzz_//' |
    xargs -I{} -P "$jobs" bash -c "fuzz_one {} $1"
}
export -f build unit_tests pure_unit_tests fuzz fuzz_one
export jobs
export TRIREME_LONG=$long UBSAN_OPTIONS=print_stacktrace=1

summary() {
  local i failed=0
  printf '\n%-24s %7s  %s\n' step seconds result
  for i in "${!names[@]}"; do
    printf '%-24s %7d  %s\n' "${names[i]}" "${seconds[i]}" "${results[i]}"
    [[ ${results[i]} == passed || ${results[i]} == 'not run'* ]] || failed=1
  done
  printf '%-24s %7d  %s\n' all "$SECONDS" "$([[ $failed == 0 ]] && echo passed || echo FAILED)"
  return "$failed"
}

# Removes what killed runs have left on this machine.
sweep() { /usr/bin/python3 -B -c 'from tests.system import undo; undo.sweep()'; }

# Runs the wanted system tests through ctest, which knows which of them must not run together. On a
# machine where they cannot run they fail: no test is skipped silently. Those with the label `alone`
# begin when nothing runs beside them.
system_tests() {
  local pattern='' name excluded=''
  for name in "${system[@]}"; do
    wanted "$name" && pattern+="|$name"
  done
  [[ -n $pattern ]] || return 0
  if ((!lab)); then
    excluded='|^lab$'
    not_run 'lab tests' --no-lab
  fi
  step is-root 5 test "$EUID" -eq 0 || return
  sweep
  some_system_tests system -LE "^alone\$$excluded"
  end_beside
  some_system_tests system-alone -L '^alone$' -LE "^none\$$excluded"
  sweep
  grep -qE '^ *[0-9]+/[0-9]+ Test' "$logs"/system{,-alone}.log || record system 0 1 0
}
some_system_tests() { # STEP OPTION-OF-CTEST...
  local name=$1
  shift
  step "$name" $((long ? 6000 : 2700)) ctest --preset system -j 3 --timeout $((long ? 3600 : 600)) \
    -R "^system_(${pattern#|})\$" "$@"
  grep -E '^ *[0-9]+/[0-9]+ Test|^No tests' "$logs/$name.log"
}

if ! step install-deps 900 tests/install-deps.sh; then
  summary
  exit 1
fi
command -v ccache >/dev/null && export TRIREME_COMPILER_LAUNCHER=ccache

case $other in
  coverage) exec tests/coverage.sh ;;
  mutants) exec tests/mutants.sh ;;
  packages)
    step packages 9000 tests/packages.sh && step build-release 1200 bash -c 'build release' &&
      step upgrade 900 env TRIREME_PRODUCTS="$PWD/build/release" \
        TRIREME_PREVIOUS="$(echo build/packages/previous/*.deb)" \
        TRIREME_PACKAGE="$(echo build/packages/bookworm/*.deb)" /usr/bin/python3 -B \
        -m tests.system tests.system.test_package.Package.test_an_upgrade_from_the_last_release
    summary
    exit
    ;;
esac

any_system=''
for name in "${system[@]}"; do wanted "$name" && any_system=1; done

if wanted unit || wanted fuzz; then
  beside build-asan $((long ? 6000 : 3000)) bash -c 'build asan trireme_tests'
fi
# Only the verifier is multithreaded.
wanted tsan && beside build-tsan 3000 bash -c 'build tsan trireme_unit_verifier'
wanted unit && beside unit-pure 3600 bash -c "pure_unit_tests asan 3600"
wanted check && beside check 3000 tests/check.sh

[[ -n $any_system ]] && { step build-release 1200 bash -c 'build release' || any_system=''; }
begin_beside
if [[ -n $any_system ]]; then system_tests; fi
end_beside
if passed build-asan; then
  wanted unit &&
    step unit 900 bash -c 'unit_tests asan 300'
  wanted fuzz && step fuzz 3600 bash -c "fuzz $((long ? 30 : 8))"
fi
wanted tsan && passed build-tsan && step tsan 600 build/tsan/tests/unit/trireme_unit_verifier
if ((long)) && wanted fresh_machine; then
  step fresh_machine 3600 tests/fresh_machine.sh
fi
summary
