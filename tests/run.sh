#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests. Exits 0 only if all of them ran and passed.
#
#   tests/run.sh [--long] [--no-lab] [--only NAME]...
#
#   --long       the soaks, floods and long fuzzing as well
#   --no-lab     without the tests that boot a systemd with Docker
#   --only NAME  only this step; may be given more than once: unit, tsan, fuzz, or a file of tests/system by its name (local for test_local.py)
#
# Builds in build/asan, build/fuzz and build/release. What each step printed is kept in build/logs.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' tests/run.sh; }

long=0 lab=1 only=()
while (($#)); do
  case $1 in
    --long) long=1 ;;
    --no-lab) lab=0 ;;
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

# Every name that --only knows.
mapfile -t steps < <(printf '%s\n' unit tsan fuzz && basename -s .py -a tests/system/test_*.py | sed 's/^test_//')
for name in "${only[@]}"; do
  if [[ " ${steps[*]} " != *" $name "* ]]; then
    echo "no step is named '$name'; there are: ${steps[*]}" >&2
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
child=''

# A step that is interrupted ends with what it started; the system tests clean up after themselves when they are told to end.
interrupted() {
  if [[ -n $child ]]; then
    kill -TERM "$child" 2>/dev/null # timeout, which hands it on and waits
    wait "$child"
    kill -KILL -- "-$child" 2>/dev/null
  fi
  exit 130
}
trap interrupted INT TERM HUP

# step NAME LIMIT COMMAND...: runs it in a process group of its own for at most LIMIT seconds, its output into a log.
step() {
  local name=$1 limit=$2 began=$SECONDS rc
  shift 2
  printf '%s ...\n' "$name"
  set -m
  timeout --foreground --kill-after=60 "$limit" "$@" >"$logs/$name.log" 2>&1 &
  child=$!
  set +m
  wait "$child"
  rc=$?
  kill -KILL -- "-$child" 2>/dev/null
  child=''
  names+=("$name")
  seconds+=($((SECONDS - began)))
  case $rc in
    0) results+=(passed) ;;
    124 | 137) results+=("over $limit s") ;;
    *) results+=("FAILED ($rc)") ;;
  esac
  ((rc == 0)) || tail -n 80 "$logs/$name.log"
  return "$rc"
}

# not_run NAME WHY: a step that was left out on purpose, so that the table says so.
not_run() {
  names+=("$1") results+=("not run: $2") seconds+=(0)
}

build() { # PRESET [TARGET...]
  local preset=$1
  shift
  cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}
}

unit_tests() { # PRESET SECONDS
  ctest --preset "$1" -j "$jobs" --timeout "$2" --no-tests=error
}

fuzz() { # SECONDS for each target
  local source name scratch=build/fuzz/scratch
  for source in tests/fuzz/fuzz_*.cpp; do
    name=$(basename -s .cpp "${source/fuzz_/}")
    mkdir -p "$scratch/$name" || return 1
    local dictionary=()
    [[ $name == policy || $name == identity ]] && dictionary=(-dict=tests/fuzz/config.dict)
    echo "== $name, $1 s"
    "build/fuzz/tests/fuzz/fuzz_$name" -max_total_time="$1" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 -artifact_prefix="$scratch/" \
      "${dictionary[@]}" "$scratch/$name" "tests/fuzz/corpus/$name" || return 1
  done
}
export -f build unit_tests fuzz
export jobs
export TRIREME_PRODUCTS=$PWD/build/release TRIREME_LONG=$long

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

if ! step install-deps 900 tests/install-deps.sh; then
  summary
  exit 1
fi
command -v ccache >/dev/null && export TRIREME_COMPILER_LAUNCHER=ccache

if wanted unit; then
  step build-asan 1200 bash -c 'build asan trireme_tests' &&
    UBSAN_OPTIONS=print_stacktrace=1 step unit $((long ? 7200 : 600)) bash -c "unit_tests asan $((long ? 1800 : 300))"
fi
# The rooms whose code runs in several threads.
if wanted tsan; then
  step build-tsan 1200 bash -c 'build tsan trireme_unit_verifier' && step tsan 600 build/tsan/tests/unit/trireme_unit_verifier
fi
if wanted fuzz; then
  step build-fuzz 900 bash -c 'build fuzz trireme_tests' &&
    step fuzz 3600 bash -c "fuzz $((long ? 300 : 8))"
fi

# A machine on which these cannot run fails them: nothing is left out in silence.
system_tests() {
  local file name names_to_run=() limit=$((long ? 7200 : 600))
  for file in tests/system/test_*.py; do
    name=$(basename "${file#tests/system/test_}" .py)
    if ! wanted "$name"; then
      continue
    elif ((!lab)) && grep -q 'tests.system.lab import' "$file"; then
      not_run "$name" --no-lab
    else
      names_to_run+=("$name")
    fi
  done
  ((${#names_to_run[@]})) || return 0
  step is-root 5 test "$EUID" -eq 0 && step build-release 1200 bash -c 'build release' || return
  sweep
  for name in "${names_to_run[@]}"; do
    step "$name" "$limit" /usr/bin/python3 -B -m tests.system "tests.system.test_$name"
  done
  sweep
}

# What an earlier run that was killed has left.
sweep() { /usr/bin/python3 -B -c 'from tests.system import undo; undo.sweep()'; }

system_tests
summary
