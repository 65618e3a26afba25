#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the sources without running them: format, clang-tidy, shell, Python, spelling, and includes
# between rooms. Prints each finding with its file and line; exits 1 if there is one.
#
#   tests/check.sh [NAME...]
#
#   NAME    only this check: clang-format, shellcheck, python, codespell, licenses, floors, clang-tidy
#
# clang-tidy covers src and include. Tests are left out: GoogleTest's macros and headers would take
# most of the time, and the checks are meant for code that runs as root.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
exec </dev/null

failed=()
wanted=" $* "
known=' '

# check NAME COMMAND...: runs COMMAND, unless only others are wanted, and adds NAME to `failed` if it
# fails.
check() {
  local name=$1 began=$SECONDS
  shift
  known+="$name "
  [[ $wanted == '  ' || $wanted == *" $name "* ]] || return
  if "$@"; then
    echo "check: $name: passed, $((SECONDS - began)) s"
  else
    echo "check: $name: FAILED, $((SECONDS - began)) s"
    failed+=("$name")
  fi
}

# tracked PATTERN...: prints the tracked files that exist, each terminated by NUL.
tracked() {
  git ls-files -z --cached --deduplicate -- "$@" | while IFS= read -r -d '' file; do
    [[ -f $file ]] && printf '%s\0' "$file"
  done
}

# on_files NAME COMMAND...: runs COMMAND over the NUL-separated files on stdin. An empty list is a
# failure: it means that a pattern is out of date.
on_files() {
  local name=$1 files
  shift
  mapfile -t -d '' files
  if ((${#files[@]} == 0)); then
    echo "$name: no files match; update the patterns in tests/check.sh"
    return 1
  fi
  "$@" "${files[@]}"
}

format() {
  tracked '*.cpp' '*.hpp' '*.c' '*.h' | on_files clang-format clang-format-16 --dry-run -Werror
}

tidy() {
  cmake --preset tidy >build/tidy.log 2>&1 || {
    cat build/tidy.log
    return 1
  }
  tests/tidy.py
}

shell_scripts() {
  tracked '*.sh' '*.bash'
  tracked . ':!*.sh' ':!*.bash' ':!tests/fuzz/corpus' | xargs -0 awk '
    FNR == 1 && /^#! *\/(usr\/)?bin\/(env +)?(ba|da)?sh( |$)/ { printf "%s%c", FILENAME, 0 }
    FNR > 1 { nextfile }'
}

shell() {
  shell_scripts | on_files shellcheck shellcheck -f gcc
}

python() {
  local rc=0
  tracked '*.py' | on_files black black --quiet --check --diff || rc=1
  tracked '*.py' | on_files flake8 flake8 || rc=1
  return "$rc"
}

spelling() {
  # Constants such as kNo are not words; 'alow' and 'chek' are deliberate typos in tests.
  tracked . ':!tests/fuzz/corpus' |
    on_files codespell codespell --ignore-regex '\bk[A-Z]\w*' --ignore-words-list alow,chek,fo,iif,miror
}

licenses() {
  { tracked '*.cpp' '*.hpp' '*.c' '*.h' '*.py' '*CMakeLists.txt' && shell_scripts; } |
    on_files licenses awk '
      FNR == 1 { if (file != "" && !found) { print file ":1: no SPDX-License-Identifier in its first two lines"; bad = 1 }
                 file = FILENAME; found = 0 }
      FNR <= 2 && /SPDX-License-Identifier: / { found = 1 }
      END { if (!found) { print file ":1: no SPDX-License-Identifier in its first two lines"; bad = 1 }; exit bad }'
}

mkdir -p build || exit 1
check clang-format format
check shellcheck shell
check python python
check codespell spelling
check licenses licenses
check floors tests/floors.py
check clang-tidy tidy

for name in "$@"; do
  [[ $known == *" $name "* ]] && continue
  echo "check: unknown check '$name'; the checks are$known"
  failed+=("$name")
done
if ((${#failed[@]})); then
  echo "check: FAILED: ${failed[*]}, $SECONDS s"
  exit 1
fi
echo "check: passed, $SECONDS s"
