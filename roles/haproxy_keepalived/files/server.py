#!/usr/bin/python3 -B
"""Takes a server out of the rotation of this balancer and puts it in again.

/etc/haproxy/server drain BACKEND/SERVER --timeout 30   no new requests; waits until its sessions have ended;
                                         --keep 1       fails, and does nothing, unless so many others are up
/etc/haproxy/server hold BACKEND/SERVER                 no checks: the last server that there is keeps its requests,
                                                        which wait for it, while it is started again
/etc/haproxy/server ready BACKEND/SERVER --timeout 30   checks and new requests again; waits until it is up, fails if
                                                        it is not
/etc/haproxy/server available BACKEND --timeout 10      waits until one of its servers is up, or says why none is
/etc/haproxy/server status                              how all servers are

With --json, drain, hold and ready print one object for programs:
{"changed": true, "done": "web/web1: drained after 0.2 s"}
It sets a state and then waits for it, so it can be killed at any time, and repeated.
"""

import argparse
import itertools
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import runtime

POLL_INTERVAL_S = 0.1
RETRY_S = 3
# Field of a line of `show servers state`, and its bits for a drain, asked for or from a weight of 0.
ADMIN, DRAINED = 6, 0x08 | 0x10
# And those of its check: it has one, and it is sent.
CHECK, CONFIGURED, ENABLED = 13, 0x02, 0x04
BITS = re.compile(r"[0-9]{1,9}")
SERVERS = "show stat -1 4 -1"


class Failure(Exception):
    """One sentence for whoever called."""


@dataclass(frozen=True)
class Outcome:
    """What was done, in words, and whether the server is in another state than before."""

    changed: bool
    done: str


@dataclass(frozen=True)
class View:
    """What the present worker says of all servers, and which workers were replaced and still have clients."""

    worker: int
    servers: dict[str, dict[str, str]]
    replaced: list[int]


def read_servers(worker: int) -> dict[str, dict[str, str]]:
    return runtime.parse_stat(runtime.send(f"@!{worker} {SERVERS}"))


def read_view() -> View:
    """Read the states of all servers, for RETRY_S if nobody answers, as happens while HAProxy reloads."""
    end = time.monotonic() + RETRY_S
    while True:
        present, replaced = runtime.find_workers(runtime.send("show proc"))
        servers = read_servers(present[0]) if present else {}
        if servers:
            return View(present[0], servers, replaced)
        if time.monotonic() > end:
            raise Failure("HAProxy tells of no servers; has its configuration any?")
        time.sleep(POLL_INTERVAL_S)


def find_server(servers: dict[str, dict[str, str]], name: str) -> dict[str, str]:
    """Return what is known of one server."""
    if name in servers:
        return servers[name]
    backend = name.partition("/")[0]
    there = [other for other in servers if other.startswith(f"{backend}/")]
    if "/" not in name or not backend:
        raise Failure(f"'{name}' names no server; write BACKEND/SERVER, one of: {', '.join(servers)}")
    if not there:
        backends = dict.fromkeys(other.partition("/")[0] for other in servers)
        raise Failure(f"there is no backend '{backend}' with servers; there are: {', '.join(backends)}")
    raise Failure(f"there is no server '{name}'; there are: {', '.join(there)}")


def count_others(servers: dict[str, dict[str, str]], name: str) -> int:
    """Count the servers of the same backend that get requests, without this one."""
    backend = name.partition("/")[0]
    others = (row["status"] for other, row in servers.items() if other.startswith(f"{backend}/") and other != name)
    return sum(status.startswith(("UP", "no check")) for status in others)


def tell(name: str, commands: Sequence[str], keep: int = 0) -> None:
    """Send the commands to every worker: clients of a replaced one may send one more request through it."""
    with runtime.locked():
        view = read_view()
        find_server(view.servers, name)
        if (others := count_others(view.servers, name)) < keep:
            raise Failure(f"{name}: stays as it is; {others} other servers are up, and {keep} have to be")
        for worker, command in itertools.product([view.worker, *view.replaced], commands):
            answer = runtime.send(f"@!{worker} {command}").strip()
            # A replaced worker may not know the server.
            if answer and worker == view.worker:
                raise Failure(f"{name}: HAProxy refuses: {answer}")


def count_sessions(name: str) -> int:
    """Count what a server has under way, replaced workers included."""
    view = read_view()
    rows = [find_server(view.servers, name), *(read_servers(worker).get(name, {}) for worker in view.replaced)]
    return sum(int(row.get(field) or 0) for row in rows for field in ("scur", "qcur"))


def read_states() -> str:
    """Read what the present worker notes of all servers."""
    return runtime.send(f"@!{read_view().worker} show servers state")


def is_drained(name: str) -> bool:
    """Whether the present worker has drained a server."""
    return name in find_drained(read_states())


def drain(name: str, timeout: float, keep: int = 0) -> Outcome:
    """Take a server out. Sessions that do not end in time are counted in the answer and go on."""
    start = time.monotonic()
    before = is_drained(name)
    tell(name, [f"set server {name} state drain"], keep)
    while (left := count_sessions(name)) and time.monotonic() - start < timeout:
        time.sleep(POLL_INTERVAL_S)
    seconds = f"after {time.monotonic() - start:.1f} s"
    said = f"{name}: drained, {left} sessions left {seconds}" if left else f"{name}: drained {seconds}"
    return Outcome(not before, said)


def hold(name: str) -> Outcome:
    """Send a server no checks, which is up as long as that lasts. One that has no check is so anyway."""
    find_server(read_view().servers, name)
    checks = find_checks(read_states())
    if not checks.get(name):
        return Outcome(False, f"{name}: is held" if name in checks else f"{name}: has no check")
    tell(name, [f"disable health {name}"])
    return Outcome(True, f"{name}: held")


def describe(row: dict[str, str]) -> str:
    """Say how a server is and what its last check said: DOWN (L7STS 500)."""
    # Right after a reload the status is known and the code is not.
    check = " ".join(filter(None, (row["check_status"].strip("* "), row["check_code"].lstrip("0"))))
    return f"{row['status']} ({check})" if check else row["status"]


def ready(name: str, timeout: float) -> Outcome:
    """Put a server in, and wait until it passes its check."""
    start = time.monotonic()
    states = read_states()
    held = find_checks(states).get(name) is False
    before = held or name in find_drained(states)
    tell(name, [*([f"enable health {name}"] if held else []), f"set server {name} state ready"])
    while (row := find_server(read_view().servers, name))["status"] not in ("UP", "no check"):
        if time.monotonic() - start >= timeout:
            raise Failure(f"{name}: is {describe(row)} after {timeout:g} s and gets no requests; look at its health")
        time.sleep(POLL_INTERVAL_S)
    state = f"back in, {describe(row)}" if before else describe(row)
    return Outcome(before, f"{name}: {state} after {time.monotonic() - start:.1f} s")


def available(name: str, timeout: float) -> Outcome:
    """Wait until a backend has a server that is up."""
    start = time.monotonic()
    while True:
        servers = {server: row for server, row in read_view().servers.items() if server.startswith(f"{name}/")}
        if not servers:
            raise Failure(f"there is no backend '{name}' with servers")
        for server, row in servers.items():
            if row["status"] in ("UP", "no check"):
                return Outcome(False, f"{server}: {describe(row)}")
        if time.monotonic() - start >= timeout:
            reasons = ", ".join(f"{server} is {describe(row)}" for server, row in servers.items())
            raise Failure(f"{name}: no server is up after {timeout:g} s: {reasons}")
        time.sleep(POLL_INTERVAL_S)


def find_drained(states: str) -> set[str]:
    """Return who was drained, which `show stat` does not tell of a server that is down as well."""
    return {name for name, fields in parse_states(states).items() if int(fields[ADMIN]) & DRAINED}


def find_checks(states: str) -> dict[str, bool]:
    """Return, for each server that has a check, whether it is sent."""
    checks = {name: int(fields[CHECK]) for name, fields in parse_states(states).items()}
    return {name: bool(check & ENABLED) for name, check in checks.items() if check & CONFIGURED}


def parse_states(states: str) -> dict[str, list[str]]:
    """Return the fields of `show servers state` by BACKEND/SERVER.

    Raises:
        runtime.Unreadable: they are none.
    """
    lines = [line.split() for line in states.splitlines()[1:] if not line.startswith("#")]
    whole = [fields for fields in lines if len(fields) > CHECK]
    if not all(BITS.fullmatch(fields[place]) for fields in whole for place in (ADMIN, CHECK)):
        raise runtime.Unreadable
    return {f"{fields[1]}/{fields[3]}": fields for fields in whole}


def status() -> Outcome:
    """One line for each server."""
    view = read_view()
    drained = find_drained(runtime.send(f"@!{view.worker} show servers state"))
    rows = [("SERVER", "STATE", "DRAINED", "SESSIONS", "QUEUE")]
    for name, row in view.servers.items():
        rows.append((name, describe(row), "yes" if name in drained else "no", row["scur"], row["qcur"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return Outcome(False, "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("drain", "hold", "ready"):
        one = actions.add_parser(action)
        one.add_argument("name", metavar="BACKEND/SERVER")
        if action != "hold":
            one.add_argument("--timeout", type=float, default=30, metavar="SECONDS")
        one.add_argument("--json", action="store_true")
    one = actions.add_parser("available")
    one.add_argument("name", metavar="BACKEND")
    one.add_argument("--timeout", type=float, default=10, metavar="SECONDS")
    actions.choices["drain"].add_argument("--keep", type=int, default=0, metavar="NUMBER")
    actions.add_parser("status")
    given = vars(parser.parse_args(arguments))
    action = {"drain": drain, "hold": hold, "ready": ready, "available": available, "status": status}[
        given.pop("action")
    ]
    as_json = given.pop("json", False)
    try:
        outcome = action(**given)
        print(json.dumps(asdict(outcome)) if as_json else outcome.done)
    except (Failure, runtime.Busy, runtime.Unreadable) as problem:
        sys.exit(str(problem))
    except OSError as problem:
        sys.exit(f"{runtime.MASTER} does not answer ({problem.strerror or problem}); is HAProxy running, are you root?")


if __name__ == "__main__":
    main()
