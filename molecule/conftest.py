"""Fixtures of all scenarios: the hosts of the scenario, requests to them, and runs of Ansible against them."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable

import pytest
import requests
import testinfra
import yaml
from helpers import load
from helpers.run import FIGURES, PROJECT, Run, inventory_arguments, note_figure, run_as_typed, run_playbook, run_rejoin
from helpers.web import Web
from helpers.writer import Writer


def pytest_terminal_summary(terminalreporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        for figure in FIGURES:
            terminalreporter.write_line(figure)


@pytest.fixture(scope="session")
def web() -> Web:
    """How visitors reach the scenario's hosts: the one place that knows scheme and certificates."""
    return Web()


@pytest.fixture(scope="session")
def request_loop():
    """The class RequestLoop, used as a context manager around what may not be noticed."""
    return load.RequestLoop


@pytest.fixture(scope="session")
def hammered(web):
    """Return a context manager that has eight clients at work: each method with kept and with closed connections.

    ``with hammered("20 reloads", address, post="/api/entries", body=entry, headers={...}) as hammers:``
    """
    return functools.partial(load.hammered, web)


@pytest.fixture(scope="session")
def docker():
    """Return a function that runs one docker command and returns what it prints: ``docker("kill", "foobar-web1")``."""

    def run(*arguments: str) -> str:
        return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    return run


@pytest.fixture(scope="session")
def inventory() -> dict:
    """The scenario's inventory as ``ansible-inventory --list`` prints it."""
    command = ["ansible-inventory", *inventory_arguments(), "--list"]
    return json.loads(subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="session")
def groups(inventory) -> dict[str, list[str]]:
    """Host names by group."""
    return {name: group["hosts"] for name, group in inventory.items() if name != "_meta" and "hosts" in group}


@pytest.fixture(scope="session")
def addresses(inventory) -> dict[str, str]:
    """Address of each host."""
    return {name: values["ansible_host"] for name, values in inventory["_meta"]["hostvars"].items()}


@pytest.fixture(scope="session")
def hosts(addresses) -> dict:
    """A testinfra connection to each host, over the same SSH that Ansible uses, with sudo."""
    key, known = PROJECT / ".local/ssh/id_ed25519", PROJECT / ".local/known_hosts"
    return {
        name: testinfra.get_host(
            f"ssh://ansible@{address}",
            sudo=True,
            ssh_identity_file=str(key),
            ssh_extra_args=f"-o UserKnownHostsFile={known}",
        )
        for name, address in addresses.items()
    }


@pytest.fixture(scope="session")
def get(web):
    """Return a function that sends one GET and returns the response: ``get("http://...", host="www.foobar.com")``."""

    def send(url: str, host: str = "www.foobar.com", **arguments) -> requests.Response:
        return web.request("GET", url, host, **arguments)

    return send


@pytest.fixture(scope="session")
def playbook() -> Callable[..., Run]:
    """Return a function that runs a playbook against the scenario's hosts: ``playbook(path, "--check", secret=1)``."""
    return run_playbook


@pytest.fixture
def bare(docker, groups):
    """Return a function that replaces the web servers by new ones with nothing on them."""

    def renew() -> None:
        docker("rm", "--force", "--volumes", *groups["webservers"])
        command = ["ansible-playbook", *inventory_arguments(), "molecule/shared/create.yml"]
        environment = {**os.environ, "MOLECULE_PROJECT_DIRECTORY": str(PROJECT)}
        subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True)

    return renew


@pytest.fixture
def role(playbook, tmp_path):
    """Return a function that applies one role of the collection: ``role("nginx", "--check", nginx_sites=[...])``."""

    def run(name: str, *arguments: str, **variables) -> Run:
        plays = [{"hosts": "all", "become": True, "roles": [{"role": f"foobar.web_infrastructure.{name}"}]}]
        path = tmp_path / "converge.yml"
        path.write_text(yaml.safe_dump(plays))
        return playbook(path, *arguments, **variables)

    return run


@pytest.fixture
def application(tmp_path):
    """A copy of the sample application, for tests to change."""
    return shutil.copytree(PROJECT / "examples/guestbook", tmp_path / "guestbook")


@pytest.fixture
def deploy(playbook, application):
    """Return a function that deploys the copy as it is now."""
    wish = {"gunicorn_flask_source": {"type": "directory", "path": str(application)}}
    return lambda **variables: playbook(PROJECT / "playbooks/deploy.yml", **wish, **variables)


@pytest.fixture(scope="session")
def eventually():
    """Return a function that asks again until the answer is true, and fails with the last answer after ``seconds``.

    A refused connection is an answer too: testinfra raises RuntimeError for it.
    """

    def wait(question, seconds: float = 20, pause: float = 0.2):
        end, answer = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                answer = question()
            except (requests.RequestException, AssertionError, RuntimeError) as problem:
                answer = None
                last = problem
            else:
                last = answer
            if answer:
                return answer
            time.sleep(pause)
        pytest.fail(f"not true after {seconds} s; last answer: {last!r}")

    return wait


@pytest.fixture(scope="session")
def site(inventory) -> dict:
    """The site's variables (site_domain, site_vip, ...) as the hosts of a stage have them, with their defaults."""
    options = yaml.safe_load((PROJECT / "meta/site.yml").read_text())["argument_specs"]["site"]["options"]
    defaults = {name: option["default"] for name, option in options.items() if "default" in option}
    return defaults | next(iter(inventory["_meta"]["hostvars"].values()))


@pytest.fixture(scope="session")
def url(web, site, groups, addresses) -> str:
    """Where visitors of a stage go: the shared address, the only balancer, or the only web server."""
    return web.url(site.get("site_vip") or addresses[(groups.get("loadbalancers") or groups["webservers"])[0]])


@pytest.fixture(scope="session")
def sign(web, url, site):
    """Return a function that writes one entry through the site and returns the entry's id."""

    def write(message: str) -> str:
        entry = {"id": str(uuid.uuid4()), "author": "molecule", "message": message}
        answer = web.request("POST", f"{url}/api/entries", site["site_domain"], json=entry)
        assert answer.status_code in (200, 201), answer.text
        return entry["id"]

    return write


@pytest.fixture(scope="session")
def stored(get, url):
    """Return a function that says whether an entry can be read through the site."""
    return lambda entry: entry in [row["id"] for row in get(f"{url}/api/entries?limit=1000").json()]


@pytest.fixture
def write(web, url, site):
    """A function that writes through the site and remembers what it wrote."""
    return Writer(web, url, site["site_domain"])


@pytest.fixture(scope="session")
def worker(hosts):
    """Return a function that gives the newest process of a service, after a reload on request.

    ``worker("foobar-web1", "nginx", reload=True)``
    """

    def newest(name: str, service: str, reload: bool = False) -> str:
        process = f"pgrep --newest --parent $(systemctl show -P MainPID {service})"
        return hosts[name].check_output(f"/etc/{service}/reload && {process}" if reload else process)

    return newest


@pytest.fixture(scope="session")
def root(docker):
    """Return a function that runs a statement as MySQL's root on a host: ``root("foobar-db1", "SELECT 1")``."""

    def query(name: str, statement: str) -> str:
        return docker("exec", name, "timeout", "30", "mysql", "--skip-column-names", "--batch", "--execute", statement)

    return query


@pytest.fixture(scope="session")
def states(hosts, groups):
    """Return a function that says how a HAProxy, the first balancer's if not named, sees its servers.

    ``{"web/foobar-server1": "UP", ...}``
    """

    def ask(name: str = "") -> dict[str, str]:
        name = name or groups["loadbalancers"][0]
        lines = hosts[name].check_output("/etc/haproxy/server status").splitlines()[1:]
        return {line.split()[0]: line.split()[1] for line in lines}

    return ask


@pytest.fixture(scope="session")
def whole(states, groups, eventually):
    """Return a function that waits until every HAProxy has all servers in rotation, one database for writes."""

    def is_whole() -> bool:
        for name in groups["loadbalancers"]:
            # A server without a check, as that of a listen of an operator, is as it is.
            if set(states(name).values()) - {"no"} != {"UP"}:
                return False
        for name in groups["appservers"]:
            seen = states(name)
            writable = [state for server, state in seen.items() if server.startswith("database_write/")]
            others = {state for server, state in seen.items() if not server.startswith("database_write/")}
            if writable.count("UP") != 1 or others != {"UP"}:
                return False
        return True

    return lambda: eventually(is_whole, seconds=60)


@pytest.fixture(scope="session")
def source(root, groups):
    """Return a function that says which database takes writes."""
    return lambda: next(name for name in groups["databases"] if root(name, "SELECT @@super_read_only") == "0")


@pytest.fixture(scope="session")
def rejoin() -> Callable[[str], Run]:
    """Return a function that brings a database back that was the source."""
    return run_rejoin


@pytest.fixture(scope="session")
def typed() -> Callable[..., Run]:
    """Return a function that runs a command line in the checkout exactly as an operator types it."""
    return run_as_typed


@pytest.fixture
def runs_without_a_change(typed, addresses, tmp_path):
    """Return a function that runs a command line which must change nothing, with at most 15 commands to each host."""

    def run(command: str) -> None:
        record = tmp_path / "executions"
        plugin = {"ANSIBLE_CALLBACK_PLUGINS": "tools/bench.d", "ANSIBLE_CALLBACKS_ENABLED": "executions"}
        done = typed(command, **plugin, FOOBAR_EXECUTIONS=str(record))
        assert done.code == 0, done.output
        assert done.recap("changed") == dict.fromkeys(addresses, 0), done.output
        rows = [json.loads(line) for line in record.read_text().splitlines()]
        sent = Counter(row["host"] for row in rows if row["what"] == "execution" and not row["local"])
        commands = {name: sent[address] for name, address in addresses.items()}
        note_figure(f"{command}: {done.seconds:.1f} s, commands sent to the hosts {commands}")
        assert min(commands.values()) > 0 and max(commands.values()) <= 15, rows

    return run


@pytest.fixture
def additions_arrive(playbook, groups, addresses, web, root, hosts, eventually):
    """Return a function that runs a stage with what an operator adds in molecule/shared/additions, and looks for it."""

    def run(stage: str) -> None:
        place = PROJECT / "molecule/shared/additions"
        done = playbook(PROJECT / f"playbooks/{stage}.yml", f"--inventory={place}")
        assert done.code == 0, done.output
        query = "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN ('guestbook', 'shop')"
        for name in groups["databases"]:
            eventually(lambda name=name: sorted(root(name, query).split()) == ["guestbook", "shop"])
            assert root(name, "SELECT COUNT(*) FROM mysql.user WHERE user = 'shop'") == "1"
        for name in groups["webservers"]:
            answer = web.request("GET", web.url(addresses[name], 8080), "shop.foobar.com")
            assert answer.text == f"shop of {name}"
        for name in groups["loadbalancers"]:
            # The site by way of its frontend and backend, the listen by way of its raw line.
            seen = {web.request("GET", web.url(addresses[name], 8088), "shop.foobar.com").text for _ in range(8)}
            assert seen == {f"shop of {server}" for server in groups["webservers"]}
            answer = web.request("GET", web.url(addresses[name], 2525), "pages.shop.foobar.com")
            assert answer.text == f"shop of {groups['webservers'][0]}"
        for name in groups["appservers"]:
            environment = hosts[name].check_output("cat /etc/gunicorn/guestbook/environment")
            assert "SHOP_URL" in environment and "WRITE_DATABASE_URL" in environment

    return run


@pytest.fixture
def notes_arrives(playbook, groups, web, url, root, hosts, stored, application, eventually):
    """Return a function that proves the further application of molecule/shared/additions, which a stage has brought.

    It returns the run that has deployed another release of it.
    """
    place = PROJECT / "molecule/shared/additions"

    def worker_of(name: str, service: str) -> str:
        return hosts[name].check_output(f"pgrep --parent $(systemctl show -P MainPID {service})")

    def notes() -> list[str]:
        rows = web.request("GET", f"{url}/api/entries?limit=1000", "notes.foobar.com").json()
        return [row["id"] for row in rows]

    def run() -> Run:
        entry = {"id": str(uuid.uuid4()), "author": "molecule", "message": "in the notes"}
        answer = web.request("POST", f"{url}/api/entries", "notes.foobar.com", json=entry)
        assert answer.status_code in (200, 201), answer.text
        # A replica reads it a moment later.
        for name in groups["databases"]:
            eventually(lambda name=name: root(name, "SELECT COUNT(*) FROM notes.entries") == "1")
        assert notes() == [entry["id"]] and not stored(entry["id"])
        assert web.request("GET", f"{url}/static/site.css", "notes.foobar.com").status_code == 200
        for name in groups["appservers"]:
            environment = hosts[name].check_output("cat /etc/gunicorn/notes/environment")
            assert 'NOTES_DATABASE="notes"' in environment and "SHOP_URL" not in environment
        # Another release of this one alone.
        before = {name: worker_of(name, "guestbook.service") for name in groups["appservers"]}
        releases = {name: hosts[name].check_output("readlink /srv/notes/current") for name in groups["appservers"]}
        (application / "guestbook/new.py").write_text("new = True\n")
        source = {"type": "directory", "path": str(application)}
        done = playbook(
            PROJECT / "playbooks/deploy.yml", f"--inventory={place}", site_application="notes", notes_source=source
        )
        assert done.code == 0, done.output
        for name in groups["appservers"]:
            assert hosts[name].check_output("readlink /srv/notes/current") != releases[name]
            assert worker_of(name, "guestbook.service") == before[name]
        assert notes() == [entry["id"]]
        return done

    return run
