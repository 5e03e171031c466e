"""What an operator lists in a role's variables arrives beside what the stage wires. The last file of the scenario."""

from __future__ import annotations

from helpers.run import PROJECT, SOAK
from helpers.web import load_page


def test_a_database_a_site_and_listeners_of_the_operator_arrive(
    additions_arrive, get, url, whole, sign, stored, eventually
):
    whole()
    additions_arrive("3-scale_up")
    whole()
    entry = sign("beside the shop")
    eventually(lambda: stored(entry))
    assert get(f"{url}/").status_code == 200


def test_a_further_application_arrives_and_is_deployed_alone(
    notes_arrives, playbook, addresses, groups, whole, request_loop, get, url
):
    place = PROJECT / "molecule/shared/additions"
    if SOAK:
        again = playbook(PROJECT / "playbooks/3-scale_up.yml", f"--inventory={place}")
        assert again.code == 0 and again.recap("changed") == dict.fromkeys(addresses, 0), again.output
    with request_loop(lambda: load_page(get, url)) as reader:
        deployed = notes_arrives()
        whole()
        # Back to the release before, this one alone.
        back = playbook(PROJECT / "playbooks/rollback.yml", f"--inventory={place}", site_application="notes")
        assert back.code == 0, back.output
    for run in (deployed, back):
        drained = [run.output.count(f"(item={name})") for name in groups["loadbalancers"]]
        assert min(drained) >= len(groups["appservers"]), run.output
    reader.report("deployment and rollback of another application, reading a page and its style sheet")
    assert reader.failed == []
    whole()
