#!/usr/bin/env bash
# Installs the Debian packages that only checks need: the C++ formatter and linter, the native tests' framework, and what compiles and
# runs them for Arm. Building and `npm test` need nothing from here. Idempotent and quiet; run as root or with sudo.
set -euo pipefail

declare -A command_of=([clang-format-19]=clang-format-19 [clang-tidy-19]=clang-tidy-19 [g++]=g++ [cmake]=cmake [make]=make
  [g++-aarch64-linux-gnu]=aarch64-linux-gnu-g++ [qemu-user]=qemu-aarch64)
missing=()
for package in "${!command_of[@]}"; do
  command -v "${command_of[$package]}" >/dev/null || missing+=("$package")
done
[[ -e /usr/include/doctest/doctest.h ]] || missing+=(doctest-dev)
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "setup-debian: needs root or sudo to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get -q update && "${as_root[@]}" apt-get -qy --no-install-recommends install "${missing[@]}"; } \
  >"$log" 2>&1 </dev/null; then
  cat "$log" >&2
  echo "setup-debian: could not install: ${missing[*]}" >&2
  exit 1
fi
echo "setup-debian: installed ${missing[*]}"
