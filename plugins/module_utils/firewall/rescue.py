# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What takes a change of the firewall back where nobody confirms it: a program of root's and its unit on the host."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.foobar.web_infrastructure.plugins.module_utils import host_lock
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.command import run_command
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall.model import FirewallError

HOME = Path("/var/lib/ufw_firewall")
PROGRAM = HOME / "rescue"
BEFORE = HOME / "before"
UNIT = "ufw_firewall-rescue.service"
TIMER = "ufw_firewall-rescue.timer"
UNITS = Path("/etc/systemd/system")
#: What a run holds while it changes the firewall.
LOCKED = Path("/etc/ufw")
LOCK = host_lock.path_of(LOCKED)
#: How long a command may take, and a whole change.
SECONDS, WAIT = 60, 120

# A shell is there whatever becomes of Python, and needs nothing else of this collection.
TEXT = f"""\
#!/bin/sh
# Ansible managed. Takes back a change of the firewall that no fresh connection has confirmed.
#   rescue arm TOKEN SECONDS     keep what there is now, and bring it back after so many seconds
#   rescue rearm TOKEN SECONDS   the change is made: begin to count anew
#   rescue confirm TOKEN         the change stays
#   rescue restore               what was before comes back
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 077
cd {HOME}
# A confirmation and a rescue at the same moment: one of them comes first.
exec 9> lock
flock 9
files="default/ufw ufw/ufw.conf ufw/user.rules ufw/user6.rules"
count() {{ systemd-run --quiet --unit={UNIT} --on-active="$1" --timer-property=AccuracySec=100ms; }}
# And the rescue too, if it waits for a run that takes longer.
stop() {{ systemctl stop {TIMER} {UNIT} 2>/dev/null || true; }}
refuse_other() {{
  if [ "$(cat before/token 2>/dev/null)" != "$1" ]; then
    echo "the host has taken the change back already" >&2
    exit 1
  fi
}}

case "${{1:-}}" in
  arm)
    # What is kept already is the last state that was confirmed.
    if [ ! -d before ]; then
      rm -rf saving
      mkdir -p saving/default saving/ufw
      for file in $files; do cp --archive "/etc/$file" "saving/$file"; done
      mv saving before
    fi
    echo "$2" > before/token
    stop
    count "$3"
    ;;
  rearm)
    refuse_other "$2"
    stop
    count "$3"
    ;;
  confirm)
    refuse_other "$2"
    mv before confirmed
    stop
    rm -r confirmed
    ;;
  restore)
    [ -d before ] || exit 0
    # Too late for a confirmation from here on. If this is killed, the next boot or run begins it anew.
    rm -f before/token
    for file in $files; do
      cp --archive "before/$file" "/etc/$file.rescued"
      mv "/etc/$file.rescued" "/etc/$file"
    done
    if grep -q '^ENABLED=yes' /etc/ufw/ufw.conf; then ufw reload; else ufw disable; fi
    mv before restored
    rm -r restored
    echo "The firewall is as it was before the last change, which no fresh connection has confirmed."
    ;;
  *)
    echo "usage: rescue arm|rearm TOKEN SECONDS | confirm TOKEN | restore" >&2
    exit 2
    ;;
esac
"""

# At boot too, before the rules are loaded: a timer does not outlive one. A run that is at work is waited for, as far as
# that may take; one that hangs is not.
UNIT_TEXT = f"""\
# Ansible managed
[Unit]
Description=Takes an unconfirmed change of the firewall back
DefaultDependencies=no
ConditionPathIsDirectory={BEFORE}
After=local-fs.target
Before=ufw.service network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c "flock --timeout {WAIT} {LOCK} {PROGRAM} restore || {PROGRAM} restore"

[Install]
WantedBy=multi-user.target
"""


def is_pending() -> bool:
    """Whether a change has been made that nobody has confirmed or taken back yet."""
    return BEFORE.is_dir()


def arm(token: str, seconds: int) -> None:
    """Have the host come back to what it is now, unless the token is confirmed in time.

    Args:
        token: what the confirmation has to name.
        seconds: how much time there is.

    Raises:
        FirewallError: the host cannot promise it.
    """
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whoever could write in it could have anything done by root.
    os.chown(HOME, 0, 0)
    HOME.chmod(0o700)
    write(PROGRAM, TEXT, 0o700)
    if write(UNITS / UNIT, UNIT_TEXT, 0o644):
        _must(["systemctl", "daemon-reload"])
    _must(["systemctl", "enable", "--quiet", UNIT])
    _must([str(PROGRAM), "arm", token, str(seconds)])


def rearm(token: str, seconds: int) -> None:
    """Begin to count anew once the change is made, however long that has taken.

    Raises:
        FirewallError: the change has been taken back already.
    """
    _must([str(PROGRAM), "rearm", token, str(seconds)])


def restore() -> str:
    """Take the change back now; returns how that went, as the end of a sentence. If it fails, the timer tries again."""
    outcome = run_command([str(PROGRAM), "restore"], SECONDS)
    return "it is as it was before" if outcome.ok else f"and taking it back failed: {outcome.said}"


def write(path: Path, text: str, mode: int) -> bool:
    """Whether the file had to be written. That is one step: one that is half written could be read at the next boot."""
    if path.is_file() and not path.is_symlink() and path.read_text(errors="replace") == text:
        path.chmod(mode)
        return False
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    new.chmod(mode)
    new.replace(path)
    return True


def _must(argv: list[str]) -> None:
    outcome = run_command(argv, SECONDS)
    if not outcome.ok:
        raise FirewallError(f"`{' '.join(argv)}` failed: {outcome.said}")
