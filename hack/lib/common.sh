# shellcheck shell=bash
# What every script in hack/ shares: where things are, and how a step speaks. Sourced, never run.

SLUICE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SLUICE_CACHE=${SLUICE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/sluice}
SLUICE_LOGS=${SLUICE_LOGS:-$SLUICE_CACHE/log}
SLUICE_VERSION=$(sed -nE 's/^project\(sluice VERSION ([0-9.]+).*/\1/p' "$SLUICE_ROOT/CMakeLists.txt")
export SLUICE_ROOT SLUICE_CACHE SLUICE_LOGS SLUICE_VERSION

# say TEXT...: a line for the person at the terminal.
say() { printf '%s\n' "$*"; }

# die TEXT...: why it does not go on, on stderr, and the end.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# usage: the comment at the head of the script, as its help.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; }

need_root() { [ "$(id -u)" -eq 0 ] || die "must run as root (namespaces, cgroups, XDP and packages need it)"; }

# without_proxies: what this script runs from now on reaches others directly. A proxy that the machine downloads through is
# not there in a namespace.
without_proxies() {
  local name
  for name in http https ftp all no; do unset "${name}_proxy" "${name^^}_PROXY"; done
}

# seconds_since START: START is an $EPOCHREALTIME; prints seconds with one decimal.
seconds_since() { awk -v a="${1/,/.}" -v b="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.1f", b - a }'; }

# log_file TEXT: the log that belongs to a step of this script.
log_file() {
  local name
  name=$(printf '%s' "$1" | tr -cs 'A-Za-z0-9' '-' | tr '[:upper:]' '[:lower:]')
  mkdir -p "$SLUICE_LOGS"
  printf '%s/%s-%s.log' "$SLUICE_LOGS" "${0##*/}" "${name%-}"
}

# step TEXT COMMAND...: says what it does and how long it took. The command's output goes to a log, whose path and last
# lines are told when it fails; a failure ends the script. The command runs in a subshell: it cannot set variables here.
step() {
  local text=$1 start=$EPOCHREALTIME log rc
  shift
  log=$(log_file "$text")
  printf '==> %s ... ' "$text"
  set +e
  (set -e && "$@") >"$log" 2>&1 </dev/null
  rc=$?
  set -e
  if [ "$rc" -eq 0 ]; then
    printf '%s s\n' "$(seconds_since "$start")"
    return 0
  fi
  printf 'FAILED after %s s\n' "$(seconds_since "$start")"
  tail -n 25 "$log" | sed 's/^/    /' >&2
  printf '    (exit %s; the whole log: %s)\n' "$rc" "$log" >&2
  exit "$rc"
}

# retry SECONDS COMMAND...: repeats the command until it succeeds or the deadline has passed; the last status is returned.
retry() {
  local deadline=$((SECONDS + $1)) rc=0
  shift
  while true; do
    if "$@"; then return 0; else rc=$?; fi
    [ "$SECONDS" -lt "$deadline" ] || return "$rc"
    sleep 0.2
  done
}

# wait_all PID...: for every one of them; fails when one has failed, but not before all have ended.
wait_all() {
  local pid failed=0
  for pid in "$@"; do wait "$pid" || failed=$?; done
  return "$failed"
}

# with_lock NAME COMMAND...: one at a time on this machine; the others wait.
with_lock() {
  local lock=$SLUICE_CACHE/lock/$1
  shift
  mkdir -p "${lock%/*}"
  (
    flock 9
    "$@" 9>&-
  ) 9>"$lock"
}
