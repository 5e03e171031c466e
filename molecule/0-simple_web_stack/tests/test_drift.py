"""What differs from the configuration is named by check mode and mended by one run; the next has nothing to do.

FOOBAR_SOAK=1 tries all rounds. FOOBAR_SEED repeats the choice of a report.
"""

from __future__ import annotations

import random
import re

import pytest
from drifts import ROUNDS, Drift
from helpers.run import PROJECT, SEED, SOAK, note_figure

STAGE = "0-simple_web_stack"
PLAYBOOK = PROJECT / f"playbooks/{STAGE}.yml"
# What an administrator has added and no role has made is left alone.
FOREIGN = {
    "/etc/systemd/system/nginx.service.d/limits.conf": "[Service]\\nLimitNOFILE=20000\\n",
    "/etc/systemd/system/guestbook.service.d/limits.conf": "[Service]\\nLimitNOFILE=20000\\n",
    "/etc/nginx/conf.d/own.conf": "# own\\n",
    "/etc/mysql/conf.d/own.cnf": "[mysqldump]\\nquick\\n",
    "/srv/www/own/index.html": "own\\n",
}


@pytest.fixture
def shell(docker, groups):
    """Return a function that runs a script as root on the server."""
    return lambda script: docker("exec", groups["webservers"][0], "bash", "-c", script)


def still_there(shell, drifts: list[Drift]) -> list[str]:
    """Names of the drifts that are there, asked all at once."""
    asked = [f"if ( {drift.there} ) &> /dev/null; then echo {number}; fi" for number, drift in enumerate(drifts)]
    return [drifts[int(number)].name for number in shell("\n".join(asked)).split()]


def reported(output: str) -> str:
    """What a run says of its changed tasks: titles and differences."""
    tasks = re.split(r"(?m)^(?=TASK \[)", output)
    return "".join(task for task in tasks if re.search(r"(?m)^changed: \[", task))


def test_there_are_many_drifts():
    names = [drift.name for drifts in ROUNDS.values() for drift in drifts]
    assert len(names) == len(set(names))
    assert len(names) >= 30


# Those on a server that goes on serving every time; of the two rounds that stop it one, which changes with the day.
STOPPED = random.Random(SEED).choice([name for name in ROUNDS if name != "serving"])  # noqa: S311 - a choice, no secret


@pytest.mark.parametrize("round", ROUNDS if SOAK else ["serving", STOPPED])
def test_drifts_are_named_and_then_mended(round, shell, playbook, sign, stored, get, url):
    drifts = ROUNDS[round]
    entry = sign(f"written before the drifts: {round}")
    assert still_there(shell, drifts) == []
    for drift in drifts:
        shell(drift.seed)
    names = [drift.name for drift in drifts]
    assert still_there(shell, drifts) == names

    predicted = playbook(PLAYBOOK, "--check", "--diff")
    assert predicted.code == 0, predicted.output
    report = reported(predicted.output)
    assert [drift.name for drift in drifts if not re.search(drift.named, report, re.MULTILINE)] == [], predicted.output
    assert still_there(shell, drifts) == names

    mended = playbook(PLAYBOOK)
    assert mended.code == 0, mended.output
    assert still_there(shell, drifts) == []
    assert get(f"{url}/health").status_code == 200
    assert stored(entry)
    note_figure(f"{len(drifts)} drifts ({round}): named, then mended in {mended.seconds:.1f} s")


def test_what_others_have_added_is_left_alone_by_the_playbook_as_typed(shell, runs_without_a_change):
    for path, content in FOREIGN.items():
        shell(f"mkdir -p $(dirname {path}); printf '{content}' > {path}; systemctl daemon-reload")
    try:
        runs_without_a_change(f"ansible-playbook -i inventories/{STAGE} -i inventories/local playbooks/{STAGE}.yml")
        assert shell(f"cat {' '.join(FOREIGN)}") == "".join(FOREIGN.values()).replace("\\n", "\n").strip()
    finally:
        shell(f"rm -r {' '.join(FOREIGN)}; systemctl daemon-reload")
