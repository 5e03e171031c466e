"""Fixtures of all scenarios: the hosts of the scenario, requests to them, and runs of Ansible against them."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
import testinfra
import yaml

PROJECT = Path(__file__).resolve().parent.parent
FIGURES: list[str] = []
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)\s+skipped=(\d+)", re.M)


def note_figure(text: str) -> None:
    """Keep a measured figure for the end of the report, where it is seen whether or not its test passes."""
    FIGURES.append(text)


def pytest_terminal_summary(terminalreporter) -> None:
    if FIGURES:
        terminalreporter.section("figures")
        for figure in FIGURES:
            terminalreporter.write_line(figure)


def inventory_arguments() -> list[str]:
    """The ``--inventory`` arguments that the running scenario's configuration gives to Ansible."""
    scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
    config = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())
    arguments = config["ansible"]["executor"]["args"]["ansible_playbook"]
    places = {"MOLECULE_PROJECT_DIRECTORY": str(PROJECT), "MOLECULE_SCENARIO_DIRECTORY": str(scenario)}
    return [re.sub(r"\$\{(\w+)\}", lambda name: places[name[1]], argument) for argument in arguments]


@dataclass(frozen=True)
class Run:
    """What a run of ansible-playbook came to: return code, whole output, and its recap per host."""

    code: int
    output: str
    seconds: float

    def recap(self, field: str) -> dict[str, int]:
        """Return one number of the recap (``ok``, ``changed``, ``failed``, ...) for each host."""
        place = ("ok", "changed", "unreachable", "failed", "skipped").index(field)
        return {row[0]: int(row[1 + place]) for row in RECAP.findall(self.output)}

    @property
    def changed(self) -> int:
        """Number of changed tasks over all hosts."""
        return sum(self.recap("changed").values())


@dataclass
class RequestLoop:
    """A visitor who asks again and again, each time over a new connection, while something happens to the site.

    Args:
        ask: sends one request and returns its response; an exception or a status >= 400 counts as a failure.
        pause: seconds between two requests.
    """

    ask: Callable[[], requests.Response]
    pause: float = 0.02
    answered: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> RequestLoop:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.wait_for_answers(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.ask().raise_for_status()
            except requests.RequestException as problem:
                self.failed.append(f"{time.monotonic():.2f} {problem}")
            else:
                self.answered.append(time.monotonic())
            self._stop.wait(self.pause)

    def wait_for_answers(self, number: int, seconds: float = 60) -> None:
        """Go on when ``number`` more requests were answered; fail when that takes longer than ``seconds``."""
        wanted, end = len(self.answered) + number, time.monotonic() + seconds
        while len(self.answered) < wanted:
            assert time.monotonic() < end, f"no {number} answers within {seconds} s; failures: {self.failed[-3:]}"
            time.sleep(0.02)

    @property
    def longest_gap(self) -> float:
        """Seconds between the two neighbouring answers that lie furthest apart."""
        return max(later - earlier for earlier, later in zip(self.answered, self.answered[1:], strict=False))

    def report(self, what: str) -> None:
        """Note the figures of the loop."""
        asked = len(self.failed) + len(self.answered)
        note_figure(
            f"{what}: longest gap {self.longest_gap * 1000:.0f} ms, {len(self.failed)} failed of {asked} requests"
        )


@pytest.fixture(scope="session")
def request_loop():
    """The class RequestLoop, used as a context manager around what may not be noticed."""
    return RequestLoop


@dataclass
class Hammer:
    """A client that asks as fast as it can; it ends its connection after every answer, or never.

    Attributes:
        answered: number of answers with status 2xx.
        failed: what went wrong with the others.
    """

    address: str
    method: str
    path: str
    keep: bool
    body: Callable[[], str | None]
    headers: dict[str, str]
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        headers = self.headers if self.keep else {**self.headers, "Connection": "close"}
        while not stop.is_set():
            try:
                connection.request(self.method, self.path, self.body(), headers)
                answer = connection.getresponse()
                text = answer.read()
                if not 200 <= answer.status < 300:
                    raise http.client.HTTPException(f"{answer.status} {text[:80]}")
            except (OSError, http.client.HTTPException) as problem:
                self.failed.append(repr(problem))
                connection.close()
            else:
                self.answered += 1
                if not self.keep:
                    connection.close()
        connection.close()


@pytest.fixture(scope="session")
def hammered():
    """Return a context manager that has eight clients at work: each method with kept and with closed connections.

    ``with hammered("20 reloads", address, post="/api/entries", body=entry, headers={...}) as hammers:``
    """

    @contextmanager
    def under_load(
        what: str, address: str, get: str = "/", post: str = "/", body: Callable = lambda: "x" * 2000, headers=()
    ) -> Iterator[list[Hammer]]:
        places = {"GET": (get, lambda: None), "POST": (post, body)}
        hammers = [
            Hammer(address, method, path, keep, content, dict(headers))
            for method, (path, content) in places.items()
            for keep in (True, False)
            for _ in range(2)
        ]
        stop = threading.Event()
        threads = [threading.Thread(target=hammer.run, args=[stop], daemon=True) for hammer in hammers]
        for thread in threads:
            thread.start()
        try:
            yield hammers
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
            for first, second in itertools.batched(hammers, 2):
                kind = "kept connections" if first.keep else "closing clients"
                failed = first.failed + second.failed
                asked = first.answered + second.answered + len(failed)
                note_figure(f"{what}, {first.method}, {kind}: {len(failed)} failed of {asked} {failed[:1] or ''}")

    return under_load


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
def get():
    """Return a function that sends one GET and returns the response: ``get("http://...", host="www.foobar.com")``."""

    def send(url: str, host: str = "www.foobar.com", **arguments) -> requests.Response:
        headers = {"Host": host, **arguments.pop("headers", {})}
        return requests.get(url, headers=headers, timeout=5, allow_redirects=False, **arguments)

    return send


@pytest.fixture(scope="session")
def playbook():
    """Return a function that runs a playbook against the scenario's hosts: ``playbook(path, "--check", secret=1)``."""

    def run(path: Path | str, *arguments: str, **variables) -> Run:
        command = ["ansible-playbook", *inventory_arguments(), *arguments]
        if variables:
            command += ["--extra-vars", json.dumps(variables)]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
        start = time.monotonic()
        done = subprocess.run([*command, str(path)], cwd=PROJECT, env=environment, capture_output=True, text=True)
        return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - start)

    return run


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
    """The site's variables (site_domain, site_vip, ...) as the hosts of a stage have them."""
    return next(iter(inventory["_meta"]["hostvars"].values()))


@pytest.fixture(scope="session")
def url(site, groups, addresses) -> str:
    """Where visitors of a stage go: the shared address, the only balancer, or the only web server."""
    return f"http://{site.get('site_vip') or addresses[(groups.get('loadbalancers') or groups['webservers'])[0]]}"


@pytest.fixture(scope="session")
def sign(url, site):
    """Return a function that writes one entry through the site and returns the entry's id."""

    def write(message: str) -> str:
        entry = {"id": str(uuid.uuid4()), "author": "molecule", "message": message}
        answer = requests.post(f"{url}/api/entries", json=entry, headers={"Host": site["site_domain"]}, timeout=5)
        assert answer.status_code in (200, 201), answer.text
        return entry["id"]

    return write


@pytest.fixture(scope="session")
def stored(get, url):
    """Return a function that says whether an entry can be read through the site."""
    return lambda entry: entry in [row["id"] for row in get(f"{url}/api/entries?limit=1000").json()]


class Writer:
    """Signs the guest book, each time with another id.

    Attributes:
        ids: of all entries it has tried to write.
        acknowledged: of those that the site has taken.
    """

    def __init__(self, url: str, host: str) -> None:
        self.url, self.host = url, host
        self.message = f"under load {uuid.uuid4()}"
        self.ids: list[str] = []
        self.acknowledged: list[str] = []

    def entry(self) -> dict[str, str]:
        """One that it is going to write."""
        self.ids.append(str(uuid.uuid4()))
        return {"id": self.ids[-1], "author": "molecule", "message": self.message}

    def __call__(self) -> requests.Response:
        entry = self.entry()
        answer = requests.post(f"{self.url}/api/entries", json=entry, headers={"Host": self.host}, timeout=10)
        if answer.ok:
            self.acknowledged.append(entry["id"])
        return answer

    def stored(self, docker, server: str) -> list[str]:
        """The ids of its entries in the database of that container, each as often as it is there."""
        query = f"SELECT id FROM guestbook.entries WHERE message = '{self.message}'"  # noqa: S608
        return docker("exec", server, "mysql", "--skip-column-names", "--execute", query).split()

    def stored_on_each(self, docker, servers: list[str]) -> list[list[str]]:
        """The same for several, sorted."""
        return [sorted(self.stored(docker, server)) for server in servers]


@pytest.fixture
def write(url, site):
    """A function that writes through the site and remembers what it wrote."""
    return Writer(url, site["site_domain"])


@pytest.fixture(scope="session")
def states(hosts, groups):
    """Return a function that says how the first balancer sees servers: ``{"web/foobar-server1": "UP", ...}``."""

    def ask() -> dict[str, str]:
        lines = hosts[groups["loadbalancers"][0]].check_output("/etc/haproxy/server status").splitlines()[1:]
        return {line.split()[0]: line.split()[1] for line in lines}

    return ask


@pytest.fixture(scope="session")
def whole(states, eventually):
    """Return a function that waits until all servers are in rotation and exactly one database takes writes."""

    def is_whole() -> bool:
        seen = states()
        writable = [state for name, state in seen.items() if name.startswith("database_write/")]
        others = {state for name, state in seen.items() if not name.startswith("database_write/")}
        return writable.count("UP") == 1 and others == {"UP"}

    return lambda: eventually(is_whole, seconds=60)


@pytest.fixture(scope="session")
def source(docker, groups):
    """Return a function that says which database takes writes."""

    def ask() -> str:
        query = ["mysql", "--skip-column-names", "--execute", "SELECT @@super_read_only"]
        return next(server for server in groups["databases"] if docker("exec", server, *query) == "0")

    return ask


@pytest.fixture(scope="session")
def rejoin(playbook):
    """Return a function that brings a member back that was the source.

    What it had written and nobody had acknowledged is given up by name only.
    """
    path = PROJECT / "playbooks/mysql_rejoin.yml"

    def run(name: str) -> None:
        back = playbook(path)
        if back.code != 0:
            said = " ".join(back.output.split())
            assert "which the source" in said and f"mysql_rejoin_reseed={name}" in said, back.output
            back = playbook(path, mysql_rejoin_reseed=name)
        assert back.code == 0, back.output

    return run


@pytest.fixture(scope="session")
def typed():
    """Return a function that runs a command line in the checkout exactly as an operator types it."""

    def run(command: str, **environment: str) -> Run:
        own = ("ANSIBLE_", "MOLECULE_")
        environment |= {name: value for name, value in os.environ.items() if not name.startswith(own)}
        start = time.monotonic()
        done = subprocess.run(command.split(), cwd=PROJECT, env=environment, capture_output=True, text=True)
        return Run(done.returncode, done.stdout + done.stderr, time.monotonic() - start)

    return run


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
