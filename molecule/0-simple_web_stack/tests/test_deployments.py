"""Visitors read and write while releases come and go, good ones and bad ones, and notice nothing.

FOOBAR_SOAK=1 makes twenty deployments instead of two.
"""

from __future__ import annotations

import uuid

import pytest
from helpers.run import PROJECT, SOAK, add_release, note_figure
from helpers.web import load_page

STAGE = PROJECT / "playbooks/0-simple_web_stack.yml"
DEPLOYMENTS = 20 if SOAK else 2
# What is wrong with a release, the file and the code that make it so, and what the error says.
BROKEN = {
    "answers 500": ("guestbook/views.py", "@pages.before_request\ndef fail():\n    abort(500)\n", "500"),
    "dies when it starts": ("guestbook/wsgi.py", "raise SystemExit('out of order')\n", "out of order"),
    "cannot migrate": ("guestbook/migrate.py", "raise SystemExit('table is full')\n", "table is full"),
}

# The line above which that code goes.
MARK = {
    "guestbook/views.py": 'LIMITS = {"author"',
    "guestbook/wsgi.py": "app = create_app()",
    "guestbook/migrate.py": "LOCK = ",
}


@pytest.fixture
def release(get, url):
    return lambda: get(f"{url}/version").json()["release"]


@pytest.fixture
def restored(playbook):
    """Whatever a test has deployed, the application of the inventory comes back."""
    yield
    back = playbook(STAGE)
    assert back.code == 0, back.output


def test_nobody_notices_good_deployments(
    deploy, application, release, restored, request_loop, get, url, write, docker, groups
):
    seconds, releases = [], {release()}
    with request_loop(lambda: load_page(get, url)) as reader, request_loop(write) as writer:
        for number in range(DEPLOYMENTS):
            add_release(application, f"release {number}")
            run = deploy()
            assert run.code == 0, run.output
            seconds.append(run.seconds)
            releases.add(release())
        reader.wait_for_answers(20)
    reader.report(f"{DEPLOYMENTS} deployments, reading a page and its style sheet")
    writer.report(f"{DEPLOYMENTS} deployments, writing")
    note_figure(f"deployment of changed code: {min(seconds):.1f} to {max(seconds):.1f} s")
    assert len(releases) == DEPLOYMENTS + 1
    assert (reader.failed, writer.failed) == ([], [])
    assert len(writer.answered) >= 20
    assert sorted(write.stored(docker, groups["databases"][0])) == sorted(write.ids)


def test_nobody_notices_a_new_database_password(
    playbook, restored, request_loop, get, url, write, docker, root, groups
):
    with request_loop(lambda: get(f"{url}/")) as reader, request_loop(write) as writer:
        run = playbook(STAGE, site_database_password=f"other-{uuid.uuid4()}")
        assert run.code == 0, run.output
        reader.wait_for_answers(20)
    reader.report("a new database password, reading")
    writer.report("a new database password, writing")
    assert (reader.failed, writer.failed) == ([], [])
    assert sorted(write.stored(docker, groups["databases"][0])) == sorted(write.ids)
    # The old one is no longer let in.
    query = "SELECT COUNT(*) FROM mysql.user WHERE user_attributes->>'$.additional_password' IS NOT NULL"
    assert root(groups["databases"][0], query) == "0"


@pytest.mark.parametrize("kind", BROKEN)
def test_nobody_notices_a_release_that(kind, deploy, application, release, request_loop, get, url):
    name, code, said = BROKEN[kind]
    path = application / name
    text = path.read_text()
    assert MARK[name] in text
    path.write_text(text.replace(MARK[name], f"{code}\n{MARK[name]}"))
    before = release()
    with request_loop(lambda: get(f"{url}/")) as visitor:
        run = deploy(gunicorn_flask_health_timeout=5)
        visitor.wait_for_answers(20)
    assert run.code != 0
    assert said in run.output, run.output
    assert visitor.failed == []
    assert release() == before
    visitor.report(f"a release that {kind}")
