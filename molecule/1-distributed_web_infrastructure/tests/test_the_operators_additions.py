"""What an operator lists in a role's variables arrives beside what the stage wires. The last file of the scenario."""

from __future__ import annotations

import pytest
from helpers.run import PROJECT, SOAK

pytestmark = pytest.mark.skipif(
    not SOAK, reason="make soak; stage 3 proves it with ports, the unit tests of the wiring with sockets"
)


def test_a_database_a_site_and_listeners_of_the_operator_arrive(
    additions_arrive, get, url, whole, sign, stored, eventually
):
    whole()
    additions_arrive("1-distributed_web_infrastructure")
    whole()
    entry = sign("beside the shop")
    eventually(lambda: stored(entry))
    assert get(f"{url}/").status_code == 200


def test_a_further_application_arrives_and_is_deployed_alone(notes_arrives, playbook, hosts, groups, get, url):
    notes_arrives()
    # And goes, beside the first one.
    gone = [{"name": "notes", "data": True}]
    done = playbook(PROJECT / "playbooks/deploy.yml", site_application="guestbook", gunicorn_flask_absent=gone)
    assert done.code == 0, done.output
    for name in groups["appservers"]:
        assert not hosts[name].file("/srv/notes").exists and not hosts[name].service("notes.socket").is_running
    assert get(f"{url}/").status_code == 200
