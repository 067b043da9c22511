# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it, from the repository's root.

say() { printf '%s\n' "$*"; }
fail() {  # fail <exit code> <sentence>
  printf '%s\n' "$2" >&2
  exit "$1"
}

# stage <name> <command…>: runs it quietly, shows its output when it fails, remembers how long it
# took. The log stays in build/log/<name>.log.
stage_times=()
stage() {
  local name=$1 log=build/log/${1//[^a-z0-9]/-}.log begin=$SECONDS
  shift
  mkdir -p build/log
  printf '%-24s' "$name"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    say "failed"
    cat "$log"
    fail 1 "$name failed; its output is above and in $log"
  fi
  say "$((SECONDS - begin)) s"
  stage_times+=("$name: $((SECONDS - begin)) s")
}
