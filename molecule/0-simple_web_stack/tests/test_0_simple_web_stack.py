"""One server that does everything, as its visitors and its operator meet it."""

from __future__ import annotations

import json
import os
import subprocess

from helpers.run import PROJECT, Run

PLAYBOOK = PROJECT / "playbooks/0-simple_web_stack.yml"
SERVER = "foobar-server1"


def test_the_page_names_the_server_and_no_balancer(get, url):
    page = get(url).text
    assert page.count(SERVER) >= 2
    assert "foobar-lb" not in page


def test_a_row_survives_the_restart_of_every_service(hosts, sign, stored, eventually, get, url):
    entry = sign("written before the restart")
    hosts[SERVER].check_output("systemctl restart mysql guestbook nginx")
    eventually(lambda: get(f"{url}/health").status_code == 200, seconds=40)
    assert stored(entry)


def test_a_row_survives_the_restart_of_the_machine(hosts, sign, stored, eventually, get, url, docker):
    entry = sign("written before the reboot")
    docker("restart", "--time", "20", SERVER)
    eventually(lambda: get(f"{url}/health").status_code == 200, seconds=60)
    assert stored(entry)


def test_only_the_web_server_and_ssh_listen_outside(hosts):
    listeners = [line.split()[3] for line in hosts[SERVER].check_output("ss -Hltn").splitlines()]
    outside = {place.rpartition(":")[2] for place in listeners if not place.startswith(("127.", "[::1]"))}
    assert outside == {"22", "80"}


def test_a_forged_client_address_is_dropped(get, url):
    page = get(url, headers={"X-Forwarded-For": "203.0.113.66", "X-Served-By-Web": "forged-web"}).text
    assert "203.0.113.66" not in page
    assert "forged-web" not in page
    assert "198.18.0.1" in page


def test_the_packaged_collection_runs_by_name_from_an_empty_directory(tmp_path, addresses):
    subprocess.run([PROJECT / "tools/package", "--build-only"], check=True, capture_output=True)
    archive = next((PROJECT / ".local/dist").glob("*.tar.gz"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(tmp_path / "collections")
    environment["ANSIBLE_INJECT_FACT_VARS"] = "false"

    def run(*command: str) -> Run:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return Run(done.returncode, done.stdout, 0)

    run("ansible-galaxy", "collection", "install", str(archive), "--no-deps", "-p", str(tmp_path / "collections"))
    connection = {
        "ansible_ssh_private_key_file": str(PROJECT / ".local/ssh/id_ed25519"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={PROJECT / '.local/known_hosts'}",
    }
    installed = tmp_path / "collections/ansible_collections/foobar/web_infrastructure"
    converge = run(
        "ansible-playbook",
        "foobar.web_infrastructure.simple_web_stack",
        "--check",
        "--diff",
        f"--inventory={installed / 'inventories/0-simple_web_stack'}",
        f"--inventory={PROJECT / 'inventories/local'}",
        f"--extra-vars={json.dumps(connection)}",
    )
    assert converge.recap("changed") == dict.fromkeys(addresses, 0), converge.output


def test_no_secret_is_one_clear_error(playbook, get, url):
    run = playbook(PLAYBOOK, site_database_password="")
    assert run.code != 0
    assert "site_database_password" in run.output
    assert "TASK [foobar.web_infrastructure.mysql_replication" not in run.output
    assert get(url).status_code == 200


def test_an_application_that_does_not_import_leaves_the_site_up(playbook, tmp_path, get, url):
    (tmp_path / "broken.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "guestbook/static").mkdir(parents=True)
    source = {"type": "directory", "path": str(tmp_path)}
    before = get(f"{url}/version").json()["release"]
    run = playbook(PLAYBOOK, gunicorn_flask_source=source, gunicorn_flask_wsgi="broken:app")
    assert run.code != 0
    assert "a_module_that_nobody_has" in run.output
    assert get(url).status_code == 200
    assert get(f"{url}/version").json()["release"] == before
