"""config_tree with a real nginx: what visitors get when configurations are good, bad, half applied or interrupted."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

CONVERGE = Path(__file__).resolve().parent.parent / "converge.yml"


@pytest.fixture
def tree(playbook):
    """Return a function that runs the playbook with other values; afterwards the scenario's own ones hold again."""
    other = False

    def run(*arguments: str, **variables):
        nonlocal other
        if "--check" not in arguments:
            other = bool(variables) or "--extra-vars" in arguments
        return playbook(CONVERGE, *arguments, **variables)

    yield run
    if other:
        restored = playbook(CONVERGE)
        assert restored.code == 0, restored.output


@pytest.fixture(scope="module")
def host(hosts):
    """The scenario's only host."""
    return hosts["foobar-tree1"]


@pytest.fixture(scope="module")
def page(get, web, addresses):
    """Return a function that fetches a page of the host."""
    return lambda path="/", **arguments: get(web.url(addresses["foobar-tree1"]) + path, **arguments)


@pytest.fixture
def listing(host):
    """Return a function that lists everything in /etc/nginx: inode, owner, mode, time of its last change, path."""
    return lambda: host.check_output("find /etc/nginx -printf '%i %u:%g %m %T@ %p %l\\n' | sort")


def test_visitors_get_the_configured_page(page, host):
    assert page().text == "hello\n"
    # The file of the package that was listed as absent is gone, the rest of the package is there.
    assert not host.file("/etc/nginx/sites-enabled/default").exists
    assert host.file("/etc/nginx/mime.types").exists


def test_a_second_run_touches_nothing(tree, listing):
    before = listing()
    again = tree()
    assert (again.code, again.changed) == (0, 0), again.output
    assert listing() == before


def test_a_change_reaches_visitors_and_loses_no_request(tree, page, request_loop):
    with request_loop(page) as visitor:
        for greeting in ("first change", "second change", "third change"):
            run = tree(tree_greeting=greeting)
            assert run.changed == 1, run.output
            assert page().text == f"{greeting}\n"
    visitor.report("configuration changed three times under load")
    assert visitor.failed == []


def test_a_configuration_that_nginx_refuses_reaches_nobody(tree, page, listing, request_loop):
    before = listing()
    with request_loop(page) as visitor:
        run = tree(tree_greeting="new", tree_line="nonsense on;")
    assert run.code != 0
    assert "/etc/nginx: the new configuration was refused by `nginx -t`; the running one is untouched" in run.said
    assert 'unknown directive "nonsense" in /etc/nginx/conf.d/site.conf' in run.said
    assert visitor.failed == [] and page().text == "hello\n"
    assert listing() == before


def test_a_template_that_fails_is_named_and_nothing_changes(tree, page, listing):
    before = listing()
    run = tree(tree_more_files=[{"path": "conf.d/more.conf", "src": "site.conf.j2", "vars": {"tree_line": None}}])
    assert run.code != 0
    assert "templates/site.conf.j2 for /etc/nginx/conf.d/more.conf" in run.said
    assert listing() == before and page().text == "hello\n"


def test_a_file_that_is_no_longer_listed_goes_and_files_of_others_stay(tree, page, host):
    def server(port):
        return f'server {{ listen {port}; return 200 "port {port}\\n"; }}\n'

    def answer(port):
        return host.run(f"curl --silent http://127.0.0.1:{port}/").stdout

    host.check_output(f"echo '{server(8081)}' > /etc/nginx/conf.d/foreign.conf")
    try:
        assert tree(tree_more_files=[{"path": "conf.d/more.conf", "content": server(8082)}]).changed == 1
        assert (answer(8081), answer(8082)) == ("port 8081\n", "port 8082\n")
        assert tree().changed == 1
        assert (answer(8081), answer(8082)) == ("port 8081\n", "")
        assert host.file("/etc/nginx/conf.d/foreign.conf").exists
        assert not host.file("/etc/nginx/conf.d/more.conf").exists
        assert page().text == "hello\n"
    finally:
        host.check_output("rm /etc/nginx/conf.d/foreign.conf && systemctl reload nginx")


def test_drift_is_repaired(tree, host):
    host.check_output("chmod 0666 /etc/nginx/conf.d/site.conf && ln -s /dev/null /etc/nginx/sites-enabled/default")
    assert tree("--check").changed == 1
    assert tree().changed == 1
    assert host.file("/etc/nginx/conf.d/site.conf").mode == 0o644
    assert not host.file("/etc/nginx/sites-enabled/default").exists


def test_check_mode_predicts_where_nothing_exists(tree, host):
    run = tree("--check", "--diff", tree_root="/srv/nothing/here")
    assert (run.code, run.changed) == (0, 1), run.output
    assert '+    return 200 "hello' in run.output
    assert not host.file("/srv/nothing").exists


def test_an_apply_that_fails_brings_the_old_configuration_back(tree, page, host, listing):
    run = tree(tree_greeting="new", tree_health=503)
    assert run.code != 0
    assert "failed with the new configuration; the old one is back in place and applied" in run.said
    assert "503" in run.said
    assert page().text == "hello\n" and page("/health").status_code == 204
    assert host.run("ls -d /etc/.nginx.* /etc/nginx/.config_tree.pending").stdout == ""
    assert tree().changed == 0


def test_a_run_that_is_killed_before_its_apply_is_finished_by_the_next(tree, page, host, eventually):
    runs = []
    hanging = ["sleep", "4711"]
    thread = threading.Thread(target=lambda: runs.append(tree(tree_greeting="after the kill", tree_apply=hanging)))
    thread.start()
    pid = eventually(lambda: host.run("pgrep --full --exact 'sleep 4711'").stdout.strip(), seconds=60)
    # The module first, as a power cut would, so that it cannot roll back; then its child.
    parent = host.check_output(f"ps -o ppid= -p {pid}").strip()
    host.check_output(f"kill -9 {parent} && kill -9 {pid}")
    thread.join()
    assert runs[0].code != 0
    assert host.file("/etc/nginx/.config_tree.pending").exists and host.file("/etc/.nginx.previous").exists
    assert page().text == "hello\n"
    healed = tree("-v", tree_greeting="after the kill")
    assert healed.changed == 1 and "restored_pending: true" in healed.output
    assert page().text == "after the kill\n"
    assert host.run("ls -d /etc/.nginx.* /etc/nginx/.config_tree.pending").stdout == ""
    assert tree(tree_greeting="after the kill").changed == 0


def test_a_secret_works_and_is_shown_nowhere(tree, page, host):
    old = hashlib.sha256(b"foobar-tree1").hexdigest()
    new = hashlib.sha256(old.encode()).hexdigest()
    assert page("/private").status_code == 401
    assert page("/private", headers={"X-Token": old}).text == "private\n"
    outputs = [tree("--diff", "--check", "-vvv", "--extra-vars", f"tree_token={new}").output]
    outputs.append(tree("--diff", "-vvv", "--extra-vars", f"tree_token={new}").output)
    assert page("/private", headers={"X-Token": new}).text == "private\n"
    # nginx quotes what it does not understand.
    refused = tree("--diff", "-vvv", "--extra-vars", f"tree_token={new}", tree_guard="{{ tree_token }} on;")
    assert refused.code != 0 and 'unknown directive "********" in /etc/nginx/snippets/token.conf' in refused.said
    outputs.append(refused.output)
    assert all(secret not in output for secret in (old, new) for output in outputs)
    assert any("not shown: secret" in output for output in outputs)
    assert host.file("/etc/nginx/snippets/token.conf").mode == 0o640


# --- units ------------------------------------------------------------------------------------------------------------

UNITS = {
    "tree-plain.service": "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    "tree-static.service": "[Service]\nExecStart=sleep infinity\n",
    "tree-pair.socket": "[Socket]\nListenStream=/run/tree-pair\n[Install]\nWantedBy=sockets.target\n",
    "tree-pair.service": "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    "tree-dying.service": "[Service]\nExecStart=sh -c 'echo cannot live; exit 3'\n[Install]\nWantedBy=basic.target\n",
}
GOOD_UNITS = ["nginx.service", *(name for name in UNITS if name != "tree-dying.service")]


@pytest.fixture
def units(host):
    """Units of every kind. The one of a pair is only linked into systemd's directory, as gunicorn_flask does it."""
    for name, text in UNITS.items():
        folder = "/srv" if name == "tree-pair.service" else "/usr/local/lib/systemd/system"
        host.check_output(f"mkdir -p {folder} && cat > {folder}/{name} <<'END'\n{text}END")
    host.check_output("systemctl link --quiet /srv/tree-pair.service && systemctl daemon-reload")
    yield lambda verb: {name: host.run(f"systemctl {verb} {name}").stdout.strip() for name in GOOD_UNITS}
    host.run(f"systemctl unmask --quiet {' '.join(UNITS)}; systemctl disable --quiet --now {' '.join(UNITS)}")
    host.run(f"cd /usr/local/lib/systemd/system && rm -f /srv/tree-pair.service {' '.join(UNITS)}")
    host.check_output("systemctl reset-failed && systemctl daemon-reload")


# Each round is on the host together and repaired by one run: what was done, the command that does it, its unit.
ROUNDS = [
    {
        "stopped": ("systemctl stop tree-plain.service", "tree-plain.service"),
        "killed": ("systemctl kill --signal=KILL tree-static.service", "tree-static.service"),
        # systemd itself still believes in this link.
        "link removed": (
            "rm /etc/systemd/system/multi-user.target.wants/tree-pair.service",
            "tree-pair.service",
        ),
        "masked": ("systemctl mask --quiet --now nginx.service", "nginx.service"),
    },
    {
        "disabled": ("systemctl disable --quiet tree-plain.service", "tree-plain.service"),
        # A socket does not start while its service runs.
        "socket stopped": ("systemctl stop tree-pair.socket", "tree-pair.socket"),
        "start limit reached": (
            "systemctl stop nginx; for i in 1 2 3 4 5 6 7; do systemctl start nginx; systemctl kill -s KILL nginx; "
            "done; sleep 0.5; systemctl stop nginx",
            "nginx.service",
        ),
    },
    {"masked by hand": ("ln -s /dev/null /etc/systemd/system/tree-plain.service", "tree-plain.service")},
]


def test_units_are_brought_up_whatever_was_done_to_them(tree, units, host, page):
    first = tree("--check", "-v", tree_units=GOOD_UNITS)
    assert first.changed == 1 and all(name in first.output for name in GOOD_UNITS[1:]), first.output
    assert tree(tree_units=GOOD_UNITS).changed == 1
    assert tree(tree_units=GOOD_UNITS).changed == 0
    for drifts in ROUNDS:
        for drift, _ in drifts.values():
            host.run(drift)
        predicted = tree("--check", "--diff", tree_units=GOOD_UNITS)
        missing = [name for name, (_, unit) in drifts.items() if f"before: {unit}" not in predicted.output]
        assert predicted.changed == 1 and missing == [], predicted.output
        mended = tree(tree_units=GOOD_UNITS)
        assert (mended.code, mended.changed) == (0, 1), f"{list(drifts)}: {mended.output}"
        assert set(units("is-active").values()) == {"active"}, f"{list(drifts)}: {units('is-active')}"
        assert set(units("is-enabled").values()) <= {"enabled", "static"}, f"{list(drifts)}: {units('is-enabled')}"
        assert page().text == "hello\n"
    assert tree(tree_units=GOOD_UNITS).changed == 0


def test_a_change_and_a_mask_at_a_time_need_one_run(tree, host, page):
    host.check_output("systemctl mask --quiet --now nginx")
    run = tree(tree_greeting="unmasked")
    assert (run.code, run.changed) == (0, 1), run.output
    assert page().text == "unmasked\n"


def test_a_unit_that_does_not_start_is_named_with_its_journal(tree, units, page):
    run = tree(tree_greeting="stays", tree_units=["nginx.service", "tree-dying.service"])
    assert run.code != 0 and "cannot live" in run.said
    assert "the configuration is in place, but tree-dying.service" in run.said
    assert page().text == "stays\n"
