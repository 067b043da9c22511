# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it, from the repository's root.

say() { printf '%s\n' "$*"; }
fail() {  # fail <exit code> <sentence>
  printf '%s\n' "$2" >&2
  exit "$1"
}

log_of() { printf 'build/log/%s.log' "${1//[^a-z0-9]/-}"; }

# attempt <name> <command…>: runs it quietly and remembers how long it took; false when it failed.
# What it printed stays in build/log/<name>.log.
stage_times=()
attempt() {
  local name=$1 log begin=$SECONDS
  log=$(log_of "$1")
  shift
  mkdir -p build/log
  printf '%-24s' "$name"
  "$@" >"$log" 2>&1 </dev/null || return
  say "$((SECONDS - begin)) s"
  stage_times+=("$name: $((SECONDS - begin)) s")
}
# stage <name> <command…>: an attempt whose failure is shown and ends the script.
stage() {
  attempt "$@" && return
  say "failed"
  cat "$(log_of "$1")"
  fail 1 "$1 failed; its output is above and in $(log_of "$1")"
}
