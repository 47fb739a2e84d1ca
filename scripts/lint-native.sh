#!/usr/bin/env bash
# Checks (or with --fix applies) the format of the C++ sources that git knows. Needs clang-format-19: other majors
# format differently (scripts/setup-debian.sh installs it on Debian).
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v clang-format-19 >/dev/null; then
  echo "lint-native: clang-format-19 is missing; on Debian run scripts/setup-debian.sh" >&2
  exit 1
fi
mode=(--dry-run -Werror)
[[ ${1-} == --fix ]] && mode=(-i)
git ls-files -z --cached --others --exclude-standard -- '*.h' '*.cpp' '*.cuh' '*.cu' |
  while IFS= read -r -d '' file; do [[ -e $file ]] && printf '%s\0' "$file"; done |
  xargs -0 -r clang-format-19 "${mode[@]}"
