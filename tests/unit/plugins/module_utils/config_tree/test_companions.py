"""config_tree: two trees that belong together are one transaction, and who judges a run that changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import model, run, tree
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError

from .conftest import FILES, ME, Host, needs_root

OLD = {"site/static/app.css": "old\n", "site/static/logo": "same\n"}
NEW = {"site/assets/app.css": "new\n", "site/assets/logo": "same\n"}


class Pair:
    """A host with pages beside the configuration that names them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.pages = host.place / "srv" / "www"

    def run(self, files: dict, pages: dict, check_mode: bool = False, want_diff: bool = False, **params) -> dict:
        entries = [{"path": path, **ME, "mode": "0644", "secret": False} for path in pages]
        listed = [{"path": path, **ME, "mode": "0644", "secret": False} for path in files]
        contents = {path: content.encode() for path, content in files.items()}
        contents |= {f"{self.pages}/{path}": content.encode() for path, content in pages.items()}
        params = {
            **self.host.params,
            "files": listed,
            "companions": [{"root": str(self.pages), "files": entries}],
            "_contents": model.pack(contents),
            **params,
        }
        return run.Run(params, check_mode, want_diff).execute()

    def served(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.pages)): path.read_text()
            for path in sorted(self.pages.rglob("*"))
            if path.is_file() and path.name not in model.OWN_NAMES
        }

    @property
    def leftovers(self) -> list[str]:
        siblings = [item.name for item in self.pages.parent.iterdir() if item.name != "www"]
        return [*siblings, *([model.PENDING] if (self.pages / model.PENDING).exists() else [])]


@pytest.fixture
def pair(host) -> Pair:
    return Pair(host)


def test_a_change_of_both_is_one_run_and_the_second_changes_nothing(pair):
    pair.run({"a.conf": "static\n"}, OLD)
    result = pair.run({"a.conf": "assets\n"}, NEW)
    assert result["changed"]
    assert result["companions"][0]["removed"] == ["site/static/app.css", "site/static/logo"]
    assert pair.served() == NEW and pair.leftovers == []
    assert not pair.run({"a.conf": "assets\n"}, NEW)["changed"]


def test_both_sets_of_files_are_there_while_the_configuration_is_applied(pair):
    pair.run({"a.conf": "static\n"}, OLD)
    seen = pair.host.place / "seen"
    pair.run({"a.conf": "assets\n"}, NEW, apply=["sh", "-c", f"find {pair.pages} -name '*.css' > {seen}"])
    assert sorted(Path(line).parent.name for line in seen.read_text().splitlines()) == ["assets", "static"]


@needs_root
def test_a_refused_configuration_leaves_the_files_that_are_served(pair):
    pair.run({"a.conf": "static\n"}, OLD)
    before = pair.host.snapshot(pair.pages)
    with pytest.raises(ConfigTreeError, match="the running one is untouched"):
        pair.run({"a.conf": "assets\n"}, NEW, check=["false"])
    assert pair.served() == OLD and pair.leftovers == []
    assert pair.host.snapshot(pair.pages) == before


def test_a_configuration_that_cannot_be_applied_brings_the_files_back(pair):
    pair.run({"a.conf": "static\n"}, OLD)
    with pytest.raises(ConfigTreeError, match="the old one is back in place"):
        pair.run({"a.conf": "broken\n"}, {**NEW, "site/static/app.css": "altered\n"})
    assert pair.served() == OLD and pair.leftovers == []
    assert not pair.run({"a.conf": "static\n"}, OLD)["changed"]


def test_files_of_a_first_run_that_fails_are_taken_out_again(pair):
    with pytest.raises(ConfigTreeError, match="taken out again"):
        pair.run({"a.conf": "broken\n"}, NEW)
    assert not pair.pages.exists()


def test_files_change_without_an_apply_where_the_configuration_does_not(pair):
    pair.run({"a.conf": "static\n"}, OLD)
    result = pair.run({"a.conf": "static\n"}, {**OLD, "site/static/app.css": "new\n"}, apply=["false"])
    assert result["changed"] and pair.served()["site/static/app.css"] == "new\n" and pair.leftovers == []


def test_a_directory_that_becomes_a_file_and_back(pair):
    pair.run({"a.conf": "1\n"}, {"site/x/y": "in a directory\n"})
    for number, files in enumerate(({"site/x": "a file\n"}, {"site/x/y": "in a directory\n"}), 2):
        pair.run({"a.conf": f"{number}\n"}, files)
        assert pair.served() == files


def test_files_of_others_stay(pair):
    pair.run({"a.conf": "static\n"}, OLD)
    (pair.pages / "theirs").write_text("x")
    pair.run({"a.conf": "assets\n"}, NEW)
    assert pair.served() == {**NEW, "theirs": "x"}


def test_check_mode_says_what_would_change_in_both_and_changes_nothing(pair):
    pair.run({"a.conf": "static\n"}, OLD)
    before = pair.host.snapshot()
    result = pair.run({"a.conf": "static\n"}, NEW, check_mode=True, want_diff=True)
    assert result["changed"] and result["companions"][0]["added"] == ["site/assets/app.css", "site/assets/logo"]
    assert [diff for diff in result["diff"] if diff["before_header"].endswith("assets/app.css (missing)")]
    assert pair.host.snapshot() == before


def test_whatever_step_a_run_dies_at_the_next_one_ends_well(pair, reaper):
    pair.run({"a.conf": "static\n"}, OLD)
    step = 0
    while reaper.kill(step, lambda: pair.run({"a.conf": "assets\n"}, NEW)):
        # Whichever configuration is live, what it names is there.
        named = {"static\n": OLD, "assets\n": NEW}[pair.host.read()]
        assert named.items() <= pair.served().items(), step
        pair.run({"a.conf": "assets\n"}, NEW)
        assert pair.served() == NEW and pair.leftovers == [], step
        pair.run({"a.conf": "static\n"}, OLD)
        step += 1
    assert step > 20


def test_trees_that_are_not_apart_are_refused():
    with pytest.raises(ConfigTreeError, match="'/etc/app/pages' and '/etc/app' are not apart"):
        model.check_roots(["/etc/app", "/etc/app/pages"])
    model.check_roots(["/etc/app", "/etc/apps"])


# --- who judges -------------------------------------------------------------------------------------------------------


def test_an_unchanged_tree_that_others_have_spoilt_is_said(host):
    judge = {"check": ["sh", "-c", f"! grep -r spoilt {host.root}"], "check_also": ["unchanged"]}
    host.run(FILES, **judge)
    assert not host.run(FILES, **judge)["changed"]
    (host.root / "theirs.conf").write_text("spoilt\n")
    with pytest.raises(ConfigTreeError, match="nothing of ours differs.* would fail.*It said: .*theirs.conf:spoilt"):
        host.run(FILES, **judge)
    # Only where that is asked for.
    assert not host.run(FILES, check=judge["check"])["changed"]


@needs_root
def test_check_mode_judges_a_copy_of_the_new_tree(host):
    look = {"check": ["sh", "-c", f"! grep -r misspelt {host.root}"], "check_also": ["check_mode"]}
    host.run(FILES, **look)
    (host.root / "link").symlink_to("a.conf")
    before = host.snapshot()
    assert host.run({**FILES, "a.conf": "new\n"}, check_mode=True, **look)["changed"]
    with pytest.raises(ConfigTreeError, match="would be refused by .* nothing has changed. It said: .*a.conf:misspelt"):
        host.run({**FILES, "a.conf": "misspelt\n"}, check_mode=True, **look)
    assert host.snapshot() == before


def test_check_mode_says_that_a_product_is_not_installed(host):
    wish = model.pack({"a.conf": b"x"})
    params = {**host.params, "files": [{"path": "a.conf", **ME, "mode": "0644"}], "_contents": wish}
    judge = {"check": [f"{host.root}/check"], "check_also": ["check_mode"], "product": "no-such-product"}
    one = run.Run({**params, **judge}, check_mode=True)
    assert one.execute()["changed"]
    assert one.warnings == [
        f"{host.root}: check mode cannot say whether no-such-product takes the new configuration, it is not installed"
    ]


@needs_root
def test_a_sketch_has_owners_and_modes_of_the_next_tree(host):
    host.run({"a.conf": ("one\n", {"mode": "0600"}), "d/b": "two\n"})
    one = run.Run(
        {
            **host.params,
            "files": [{"path": "a.conf", **ME, "mode": "0640"}, {"path": "e/c", **ME, "mode": "0644"}],
            "_contents": model.pack({"a.conf": b"1", "e/c": b"2"}),
        },
        check_mode=True,
    )
    one.execute()
    target = host.place / "copy"
    tree.sketch(target, host.root, one.plan, one.wanted, one.live, one.directory)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == ["a.conf", "e", "e/c"]
    assert (target / "a.conf").stat().st_mode & 0o777 == 0o640 and (target / "e").stat().st_mode & 0o777 == 0o755


def test_a_program_of_a_role_is_named_in_a_diff_and_not_shown():
    diff = model.file_diff("f", b"one\n", b"one\ntwo\n", False, False, program=True)
    assert diff["before"].startswith("not shown: a program of this collection, 1 lines, version ")
    assert diff["after"].startswith("not shown: a program of this collection, 2 lines, version ")
    assert "two" not in json.dumps(diff)
    assert model.file_diff("f", None, b"x", False, False, program=True)["before"] == ""
