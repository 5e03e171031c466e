# Shared by the scripts of this folder: where things are, and how to speak.
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
