"""What config_tree decides: paths stay below the root, a plan leads to the wish, no secret is in an output."""

from __future__ import annotations

import contextlib
import posixpath

from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import model
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import (
    ConfigTreeError,
    Entry,
    Manifest,
    Wanted,
)
from hypothesis import given
from hypothesis import strategies as st

STEP = st.sampled_from(["a", "b", "c", "..", ".", "", "~", "\0", "\n", "\ud800", model.MANIFEST, " ", "a.."])
PATHS = st.one_of(st.lists(STEP, max_size=4).map("/".join), st.text(max_size=6))
SOUND = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
DIRECTORY = Wanted(b"", 0o755, 0, 0)


@given(PATHS)
def test_a_path_that_is_taken_stays_below_the_root(path):
    try:
        assert model.check_path(path, "path") == path
    except ConfigTreeError as error:
        assert str(error).startswith("path")
        return
    whole = posixpath.normpath(f"/etc/x/{path}")
    assert whole == f"/etc/x/{path}" and whole.startswith("/etc/x/")


@given(PATHS.map("/".__add__))
def test_a_root_that_is_taken_is_a_directory_of_its_own(root):
    try:
        clean = model.check_root(root)
    except ConfigTreeError:
        return
    assert clean.startswith("/") and len([part for part in clean.split("/") if part]) >= 2
    assert ".." not in clean.split("/") and clean == posixpath.normpath(clean)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.binary(max_size=99)))
def test_contents_arrive_as_they_were_sent(contents):
    assert model.unpack(model.pack(contents)) == contents


@given(*[st.frozensets(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=3)] * 3)
def test_a_manifest_is_read_as_it_was_written(files, secret, directories):
    manifest = Manifest(files, secret, directories)
    assert Manifest.load(manifest.dump()) == manifest


@given(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"[", b'{"version":', b'{"a":']).flatmap(
            lambda sign: st.integers(0, 100_000).map(lambda number: sign * number)
        ),
        st.text('{}[]":,version1fils ', max_size=40).map(str.encode),
    )
)
def test_another_manifest_is_told_by_one_error(content):
    with contextlib.suppress(ValueError):
        assert isinstance(Manifest.load(content), Manifest)


def file(content: bytes = b"") -> Entry:
    return Entry("file", 0o644, 0, 0, len(content), 0, 1)


@st.composite
def trees(draw) -> dict[str, Entry]:
    """A live tree: files, links, directories and what is above them."""
    found = {".": Entry("dir", 0o755, 0, 0, 0, 0, 1)}
    for path in draw(st.lists(SOUND, max_size=5)):
        if all(found.get(up, found["."]).kind == "dir" for up in model.parents(path)) and path not in found:
            for up in model.parents(path):
                found.setdefault(up, Entry("dir", 0o755, 0, 0, 0, 0, 1))
            kind = draw(st.sampled_from(["file", "file", "link", "dir"]))
            found[path] = Entry(kind, draw(st.sampled_from([0o644, 0o755])), 0, 0, 0, 0, 1)
    return found


WISHES = st.dictionaries(SOUND, st.booleans(), max_size=4).map(
    lambda wish: {path: Wanted(b"x", 0o644, 0, 0, secret) for path, secret in wish.items()}
)


def carried_out(plan: model.Plan, live: dict[str, Entry] | None, wanted: dict[str, Wanted]) -> dict[str, str]:
    """Kind of each path when a plan is done; what the plan takes away must be free of anything else."""
    here = {path: entry.kind for path, entry in (live or {}).items()}
    for path in plan.removed:
        del here[path]
    for path in sorted(plan.dropped_directories, key=len, reverse=True):
        del here[path]
        assert not [other for other in here if other.startswith(f"{path}/")], path
    for path in sorted(plan.new_directories, key=len):
        assert path not in here
        assert all(here.get(up) == "dir" for up in model.parents(path))
        here[path] = "dir"
    for path in plan.written:
        assert here.get(path) != "dir"
        assert all(here.get(up) == "dir" for up in model.parents(path))
        here[path] = "file"
    return here


@given(
    WISHES,
    st.one_of(st.none(), trees()),
    st.one_of(st.none(), st.builds(Manifest, *[st.frozensets(SOUND, max_size=3)] * 3)),
    st.lists(SOUND, max_size=2),
    st.booleans(),
)
def test_a_plan_leads_to_the_wish_and_a_second_one_changes_nothing(wanted, live, manifest, absent, same):
    try:
        model.check_layout(wanted, absent)
        plan = model.make_plan(wanted, live, manifest, absent, DIRECTORY, lambda _path, _file: same)
    except ConfigTreeError as error:
        assert str(error)
        return
    here = carried_out(plan, live, wanted)
    assert all(here[path] == "file" for path in wanted)
    assert not here.keys() & set(absent)
    ours = (manifest.files | manifest.directories) if manifest else frozenset()
    for path in set(live or {}) - ours - {*absent, *wanted}:
        # Of somebody else: only an empty directory may give way to a file.
        stays = path in here or (live[path].kind == "dir" and {path, *model.parents(path)} & wanted.keys())
        assert stays or path in plan.new_directories, path
    after = {
        path: Entry(
            kind, 0o755 if kind == "dir" and path in plan.manifest.directories | {"."} else 0o644, 0, 0, 0, 0, 1
        )
        for path, kind in here.items()
    }
    again = model.make_plan(wanted, after, plan.manifest, absent, DIRECTORY, lambda _path, _file: True)
    assert not again.changed


# What parts words of a configuration is in secrets too; a quote would end one.
VALUES = st.from_regex(r"[A-Za-z0-9][!#-&(-\[\]-~]{6,18}[A-Za-z0-9]", fullmatch=True)
FORMS = st.sampled_from(["auth_pass {}", "password = {}", "token: '{}'", 'set x "{}";', "{}", "KEY={}", "KEY='{}'"])


@given(VALUES, FORMS)
def test_a_secret_that_a_product_quotes_is_not_shown(value, form):
    line = form.format(value)
    shown = model.mask(f"line 1: {line}\nunknown '{value}' at {value}, near \"{value}\"", [f"# x\n{line}\n".encode()])
    assert value not in shown


@given(st.binary(max_size=60), st.binary(max_size=60), st.booleans(), st.booleans())
def test_a_difference_shows_no_secret_and_is_a_text(before, after, hide_before, hide_after):
    diff = model.file_diff("x", before, after, hide_before, hide_after)
    assert all(isinstance(part, str) for part in diff.values())
    assert not hide_before or diff["before"].endswith(model.HIDDEN)
    assert not hide_after or diff["after"].endswith(model.HIDDEN)
    assert before == after or diff["before"] != diff["after"]
