"""What an operator lists in a role's variables arrives beside what the stage wires. The last file of the scenario."""

from __future__ import annotations

from helpers.run import PROJECT, SOAK


def test_a_database_a_site_and_listeners_of_the_operator_arrive(
    additions_arrive, get, url, whole, sign, stored, eventually
):
    whole()
    additions_arrive("3-scale_up")
    whole()
    entry = sign("beside the shop")
    eventually(lambda: stored(entry))
    assert get(f"{url}/").status_code == 200


def test_a_further_application_arrives_and_is_deployed_alone(notes_arrives, playbook, addresses, whole):
    place = PROJECT / "molecule/shared/additions"
    if SOAK:
        again = playbook(PROJECT / "playbooks/3-scale_up.yml", f"--inventory={place}")
        assert again.code == 0 and again.recap("changed") == dict.fromkeys(addresses, 0), again.output
    notes_arrives()
    whole()
    # Back to the release before, this one alone.
    done = playbook(PROJECT / "playbooks/rollback.yml", f"--inventory={place}", site_application="notes")
    assert done.code == 0, done.output
    whole()
