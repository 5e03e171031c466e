"""A run that dies at any moment does no harm, and the next one ends well.

FOOBAR_SOAK=1 kills ten runs instead of one, half of them on bare servers, and a first run between any two of its tasks.
FOOBAR_SEED repeats the moments of a report.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time

import pytest
from helpers.run import PROJECT, SEED, SOAK, add_release, inventory_arguments, killed_after, last_task, note_figure

PLAYBOOK = PROJECT / "playbooks/0-simple_web_stack.yml"
KILLS = 10 if SOAK else 1
# Seconds within which there is something to interrupt: on a bare server, and where everything is to be changed.
COLD, WARM = (1.0, 45.0), (3.0, 16.0)
# Everything that ssh has started on the host, all of a sudden; the daemon itself stays.
CUT_CONNECTION = "grep -vxF $(systemctl show --value --property MainPID ssh) {}/cgroup.procs | xargs -r kill -9"
SSH_GROUP = "/sys/fs/cgroup$(systemctl show --value --property ControlGroup ssh)"


@pytest.fixture
def server(groups) -> str:
    return groups["webservers"][0]


@pytest.fixture
def wish(application) -> dict:
    """Variables that change something in each component."""
    add_release(application, f"{time.time()}")
    return {
        "gunicorn_flask_source": {"type": "directory", "path": str(application)},
        "gunicorn_flask_threads": 3,
        "nginx_client_max_body_size": "7m",
        "mysql_replication_max_connections": 150,
    }


def start(variables: dict) -> subprocess.Popen:
    """A run in a process group of its own, with connections of its own that later runs do not meet."""
    sockets = tempfile.mkdtemp(prefix="foobar-")
    command = ["ansible-playbook", *inventory_arguments(), "--extra-vars", json.dumps(variables), str(PLAYBOOK)]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
    }
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


@pytest.fixture
def interrupt(docker, server, addresses, eventually):
    """Return a function that kills a run after so many seconds, and all that it has started, and says where it was."""

    def reachable() -> bool:
        try:
            socket.create_connection((addresses[server], 22), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(variables: dict, moment: float, power_cut: bool) -> str:
        run = start(variables)
        try:
            output, _ = run.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            if power_cut:
                docker("kill", server)
            else:
                docker("exec", server, "bash", "-c", CUT_CONNECTION.format(SSH_GROUP))
            output, _ = run.communicate()
        if power_cut:
            docker("start", server)
            eventually(reachable, seconds=60)
        return last_task(output.decode())

    return kill


def test_a_killed_run_is_followed_by_one_that_ends_well(interrupt, bare, playbook, sign, stored, get, url, wish):
    dice = random.Random(SEED)  # noqa: S311 - moments, not secrets
    note_figure(f"{KILLS} killed runs, FOOBAR_SEED={SEED}")
    for number in range(KILLS):
        cold = SOAK and number % 2 == 0
        if cold:
            bare()
            entry = None
        else:
            entry = sign(f"written before the killed run {number}")
        moment, power_cut = dice.uniform(*(COLD if cold else WARM)), dice.random() < 0.5
        place = interrupt({} if cold else wish, moment, power_cut)
        how = "power cut" if power_cut else "connection lost"
        what = f"{how} after {moment:.1f} s on a {'bare' if cold else 'serving'} server, in {place}"
        note_figure(what)

        healed = playbook(PLAYBOOK)
        assert healed.code == 0, f"{what}\n{healed.output}"
        assert get(f"{url}/health").status_code == 200, what
        assert entry is None or stored(entry), what
        assert stored(sign(f"written after the killed run {number}"))
    again = playbook(PLAYBOOK)
    assert (again.code, again.changed) == (0, 0), again.output


@pytest.mark.skipif(not SOAK, reason="a bare server for each task: make soak; test_settings.py has a sample")
def test_a_first_run_killed_between_any_two_tasks_is_finished_by_the_next(
    bare, typed, playbook, tmp_path, sign, stored
):
    command = " ".join(["ansible-playbook", *inventory_arguments(), str(PLAYBOOK)])
    config = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    number, problems = 0, []
    while True:
        number += 1
        bare()
        killed = typed(command, **config, **killed_after(number, "tasks", tmp_path / "record"))
        if killed.code != -signal.SIGKILL:
            break
        what = f"killed after {number} tasks on a bare server, before {last_task(killed.output)}"
        note_figure(what)
        healed = playbook(PLAYBOOK)
        again = playbook(PLAYBOOK)
        # All of them are tried, whatever one of them says.
        if (healed.code, again.code, again.changed) != (0, 0, 0):
            problems.append(f"{what}\n{healed.output}\n{again.output}")
    assert killed.code == 0, killed.output
    assert number > 12
    assert problems == []
    assert stored(sign("written after the last killed run"))
