"""Operators have settings, an inventory and hosts of their own: the result is the same, a second run changes nothing.

What cannot hide each other is together in one run; FOOBAR_SOAK=1 tries each setting alone as well. The first run on the
hardened server is killed six times between two tasks, each time a little further on. With FOOBAR_SOAK=1 it is one run,
and test_interrupted.py has every moment. FOOBAR_SEED repeats the moments of a report.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shlex
import signal
from pathlib import Path

import pytest
from helpers.fingerprint import comparable, differences, fingerprint
from helpers.run import KEPT, PROJECT, SEED, SOAK, Run, killed_after, last_task, note_figure
from server import SERVER, UNITS, rights

STAGE = "0-simple_web_stack"
# A first run makes at least so many changes.
KILLS, CHANGES = 6, 11

# What a shared inventory holds besides, of which nothing is ours.
OTHERS = """
[monitoring]
grafana1.example.org ansible_host=192.0.2.10

[bastions]
jump1.example.org ansible_host=192.0.2.11 ansible_port=2222

[production:children]
webservers
monitoring

[production:vars]
environment_name=production
domain=example.org
nginx_exporter_port=9113

[all:vars]
motd_text="{{ ansible_facts['default_ipv4']['address'] }}"
nginx_exporter_version=1.4.0
mysql_root_password="{{ lookup('ansible.builtin.env', 'NOBODY_HAS_SET_THIS', default=undef()) }}"
ntp_servers=['192.0.2.1', '192.0.2.2']
name=foreign
user=deploy
group=deploy
path=/opt/foreign
port=2222
release=bookworm
source=foreign
state=absent
version=7
"""

# What an ansible.cfg or an environment says about the controller.
SETTINGS = {
    "strategy": {"ANSIBLE_STRATEGY": "free"},
    "gathering": {"ANSIBLE_GATHERING": "explicit"},
    "forks": {"ANSIBLE_FORKS": "1"},
    "errors": {"ANSIBLE_ANY_ERRORS_FATAL": "True"},
    "handlers": {"ANSIBLE_FORCE_HANDLERS": "True"},
    "merged dictionaries": {"ANSIBLE_HASH_BEHAVIOUR": "merge"},
    "facts as variables": {"ANSIBLE_INJECT_FACT_VARS": "True"},
    "private variables of roles": {"ANSIBLE_PRIVATE_ROLE_VARS": "True"},
    # Nothing else than that since ansible-core 2.19, a choice before.
    "native types": {"ANSIBLE_JINJA2_NATIVE": "True"},
    "flags of sudo": {"ANSIBLE_BECOME_FLAGS": "-H -S -n -i"},
    "no pipelining": {"ANSIBLE_PIPELINING": "False"},
    "other output": {
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "True",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "False",
        "ANSIBLE_DIFF_ALWAYS": "True",
    },
    "cache": {"ANSIBLE_GATHERING": "smart"},
}
# The cache is filled with what roles gather for themselves, and that is all that a smart gathering has later.
TOGETHER = {key: value for name in SETTINGS if name != "cache" for key, value in SETTINGS[name].items()}

# With what a cache holds of another server at that address.
BESIDE = {**TOGETHER, **SETTINGS["cache"]}

# A host that somebody has hardened, and who speaks German.
PASSWORD = "the operator's own, with a $HOME"  # noqa: S105 - of a container that this test makes
GERMAN = "de_DE.UTF-8"
HARDENED = """
chpasswd <<'END'
ansible:{password}
root:{password}
END
echo 'ansible ALL=(ALL) ALL' > /etc/sudoers.d/ansible
printf 'Defaults umask=0077, umask_override\\n' > /etc/sudoers.d/umask
chmod 0440 /etc/sudoers.d/*
visudo --check --quiet
echo LANG={german} > /etc/default/locale
"""
SOFTENED = """
echo 'ansible ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ansible
rm -f /etc/sudoers.d/umask
"""
OF_THE_TEST = re.compile(r"/etc/(sudoers\.d(/.*)?|default(/locale)?|locale\.conf)")
# The archive of the system's locales and what it is made from are no part of Debian's smallest system.
PLACE_OF_LOCALES = "/var/tmp/locales"  # noqa: S108 - of a container, and docker copies nothing out of a tmpfs
COMPILED = f"""
mkdir {PLACE_OF_LOCALES} && cd {PLACE_OF_LOCALES}
apt-get download -qq locales && dpkg-deb --extract locales_*.deb .
mkdir compiled && I18NPATH=usr/share/i18n localedef --inputfile=de_DE --charmap=UTF-8 compiled/de_DE.utf8
"""
LOOK = "#!/bin/sh\necho umask $(umask)\nls /nowhere 2>&1\nexit 0\n"
# The server is its own jump host, under another name.
SSH = """
Host bastion
  HostName {address}
  HostKeyAlias {address}
  User ansible
Host {address}
  ProxyJump bastion
  SendEnv LANG
Host *
  IdentityFile "{project}/.local/ssh/id_ed25519"
  UserKnownHostsFile "{project}/.local/known_hosts"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory of the operator: an ansible.cfg that says nothing about how to run, and a shared inventory."""
    place = tmp_path_factory.mktemp("operator")
    (place / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {PROJECT}/.ansible/collections\n")
    (place / "look").write_text(LOOK)
    return place


@pytest.fixture
def operate(place, typed, addresses):
    """Return a function that runs a command with such an ansible.cfg and inventory: ``operate("ansible all -m ping")``.

    ``host`` are variables of the server, and the rest is for the environment.
    """

    def run(command: str, host: dict[str, str] | None = None, **environment: str) -> Run:
        (place / "ssh_config").write_text(SSH.format(address=addresses[SERVER], project=PROJECT))
        # Those of inventories/local look for the key beside the ansible.cfg.
        values = {"__checkout": str(PROJECT), **(host or {})}
        said = " ".join(f"{name}={shlex.quote(repr(value))}" for name, value in values.items())
        (place / "hosts.ini").write_text(f"[webservers]\n{SERVER} {said}\n{OTHERS}")
        inventories = f"-i inventories/{STAGE} -i inventories/local -i {place}/hosts.ini"
        cache = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(place / "facts")}
        return typed(
            f"{command} {inventories}", ANSIBLE_CONFIG=str(place / "ansible.cfg"), **(KEPT | cache | environment)
        )

    return run


@pytest.fixture
def unchanged(operate, root):
    """Return a function that runs the stage, which must leave the server byte for byte as it is."""

    def run(what: str, **arguments) -> None:
        before = fingerprint(SERVER, UNITS), root(SERVER, "SELECT @@global.gtid_executed")
        done = operate(f"ansible-playbook playbooks/{STAGE}.yml", **arguments)
        note_figure(f"{what}: {done.seconds:.1f} s")
        assert (done.code, done.recap("changed")) == (0, {SERVER: 0}), done.output
        after = fingerprint(SERVER, UNITS), root(SERVER, "SELECT @@global.gtid_executed")
        found = differences(before[0]["files"], after[0]["files"])
        assert not found, "\n".join(found)
        assert (after[0]["processes"], after[1]) == (before[0]["processes"], before[1])

    return run


def test_settings_of_the_controller_change_nothing(unchanged):
    unchanged("an unchanged run with settings of somebody else", **TOGETHER)


@pytest.mark.skipif(not SOAK, reason="one run for each setting: make soak")
@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_controller_alone_changes_nothing(name, unchanged):
    unchanged(f"an unchanged run with a setting of somebody else, {name}", **SETTINGS[name])


@pytest.fixture
def german(docker, place) -> Path:
    """A compiled locale of the server's C library, which neither the server nor the controller may have."""
    docker("exec", SERVER, "bash", "-ec", COMPILED)
    try:
        docker("cp", f"{SERVER}:{PLACE_OF_LOCALES}/compiled", str(place))
    finally:
        docker("exec", SERVER, "rm", "-r", PLACE_OF_LOCALES)
    return place / "compiled"


@pytest.fixture
def softened(docker):
    """Other tests know no password."""
    yield
    docker("exec", SERVER, "bash", "-ec", SOFTENED)


@pytest.fixture
def strict():
    """The operator's files are as tight as root's on the server."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_hardened_server_behind_a_jump_host_becomes_the_same(
    as_converged, operate, unchanged, softened, german, strict, place, bare, docker, root, sign, stored, addresses
):
    bare()
    docker("exec", SERVER, "bash", "-ec", HARDENED.format(password=PASSWORD, german=GERMAN))
    docker("cp", f"{german}/.", f"{SERVER}:/usr/lib/locale")
    host = {"ansible_ssh_common_args": f"-F {place}/ssh_config", "ansible_become_password": PASSWORD}
    tongue = {"LANG": GERMAN, "LC_ALL": "", "LOCPATH": str(german)}

    # Or what follows proves nothing.
    seen = operate(
        f"ansible {SERVER} --become --module-name=ansible.builtin.script --args={place}/look", host, **tongue
    )
    assert "umask 0077" in seen.output and "Zugriff auf" in seen.output, seen.output

    command = f"ansible-playbook playbooks/{STAGE}.yml"
    moments = [] if SOAK else sorted(random.Random(SEED).sample(range(1, CHANGES), KILLS))  # noqa: S311 - no secrets
    record = place / "changes"
    for before, moment in itertools.pairwise([0, *moments]):
        killed = operate(command, host, **BESIDE | tongue | killed_after(moment - before, "changes", record))
        note_figure(f"killed after change {moment}, before {last_task(killed.output)} (FOOBAR_SEED={SEED})")
        assert killed.code == -signal.SIGKILL, killed.output
    done = operate(command, host, **BESIDE, **tongue)
    note_figure(f"a bare server that is hardened: {done.seconds:.1f} s")
    assert done.code == 0, done.output
    assert f"from {addresses[SERVER]} port" in docker("exec", SERVER, "journalctl", "--unit=ssh", "--grep=Accepted")
    result = fingerprint(SERVER, UNITS)["files"]
    found = differences(*(comparable(files, OF_THE_TEST) for files in (as_converged.files, result)))
    assert not found, "\n".join(found)
    assert rights(root) == as_converged.rights
    assert stored(sign("written to a hardened server"))
    unchanged("an unchanged run with su", host=host, ANSIBLE_BECOME_METHOD="su", **tongue)
