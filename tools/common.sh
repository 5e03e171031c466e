# Sourced by the scripts of this folder: paths, environment, messages.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PROJECT=$PWD
export PROJECT
export PATH="$PROJECT/.venv/bin:$PATH"
export ANSIBLE_CONFIG="$PROJECT/ansible.cfg"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

remove_network() {
  # Stays while containers are on it: those of `make up`, or of another clone.
  if [[ $(docker network inspect --format '{{ len .Containers }}' foobar 2>/dev/null) == 0 ]]; then
    docker network rm foobar > /dev/null && say "removed the network"
  fi
}

tests() { # passed|failed FOLDER: the sum over pytest's closing lines in its logs; a figure like "0 failed of 90" is none
  { grep -hE '^(=+ )?[0-9]+ [a-z]+.* in [0-9.]+s( |$)' "$2"/*.log || true; } | { grep -oE "[0-9]+ $1" || true; } |
    awk '{ n += $1 } END { print n + 0 }'
}
