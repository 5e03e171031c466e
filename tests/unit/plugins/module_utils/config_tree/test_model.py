"""config_tree: what it decides before it touches a host."""

from __future__ import annotations

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree import (
    model,
)
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.config_tree.model import ConfigTreeError


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/etc/passwd", "absolute"),
        ("~/x", "absolute"),
        ("../x", "climbs out"),
        ("a/../../x", "climbs out"),
        ("a//b", "write 'a/b'"),
        ("./a", "write 'a'"),
        ("a/", "write 'a'"),
        ("", "empty"),
        ("a\nb", "line break"),
        (model.MANIFEST, "keeps for itself"),
        (model.PENDING, "keeps for itself"),
    ],
)
def test_a_path_that_is_not_below_root_is_refused(path, complaint):
    with pytest.raises(ConfigTreeError, match=complaint):
        model.check_path(path, "files, entry 1, path")


@pytest.mark.parametrize("path", ["a", "a/b.conf", ".hidden", "a..b", "with space"])
def test_a_path_below_root_is_taken(path):
    assert model.check_path(path, "path") == path


@pytest.mark.parametrize(("value", "mode"), [("0644", 0o644), ("644", 0o644), ("2750", 0o2750)])
def test_a_quoted_mode_is_understood(value, mode):
    assert model.parse_mode(value, "mode") == mode


@pytest.mark.parametrize("value", [420, 644, "u=rw", "0999", "", None, "00644", "0o644"])
def test_any_other_mode_is_refused(value):
    with pytest.raises(ConfigTreeError, match="quoted octal"):
        model.parse_mode(value, "mode")


@pytest.mark.parametrize("root", ["etc/nginx", "/", "/etc", "/etc/../nginx/x", ""])
def test_a_root_that_is_not_a_directory_of_its_own_is_refused(root):
    with pytest.raises(ConfigTreeError, match="at least two levels"):
        model.check_root(root)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"path": "a"}, "it has none of them"),
        ({"path": "a", "src": "x", "content": ""}, "it has src and content"),
        ({"path": "a", "content": {"b": 1}}, "content must be a string, not dict"),
        ({"path": "a", "content": "", "vars": {"b": 1}}, "vars are for a template"),
        ({"path": "a", "content": "", "mode": 420}, "quoted octal"),
        ({"path": "a", "content": "", "mode": "0644", "secret": True}, "mode 0644 is not"),
        ({"path": ".", "content": ""}, "only a copy of a directory"),
    ],
)
def test_a_bad_entry_is_named(entry, complaint):
    with pytest.raises(ConfigTreeError, match=complaint) as error:
        model.check_entries([{"path": "good", "content": ""}, entry])
    assert "entry 2" in str(error.value)


@pytest.mark.parametrize(
    ("paths", "absent", "complaint"),
    [
        (["a", "a"], [], "two entries make 'a'"),
        (["a", "a/b"], [], "'a' is a file"),
        (["a"], ["a"], "in files and in absent"),
        (["a/b"], ["a"], "directory that files needs"),
        (["a"], ["/etc/x"], "absolute"),
    ],
)
def test_entries_that_contradict_each_other_are_refused(paths, absent, complaint):
    with pytest.raises(ConfigTreeError, match=complaint):
        model.check_layout(paths, absent)


@pytest.mark.parametrize(
    ("entry", "mode"),
    [({}, 0o644), ({"secret": True}, 0o640), ({"mode": "0600"}, 0o600), ({"mode": "0400", "secret": True}, 0o400)],
)
def test_a_secret_without_a_mode_is_not_for_others(entry, mode):
    assert model.effective_mode(entry, 0o644) == mode


@pytest.mark.parametrize("command", ["nginx -t", [1], [""], {"a": 1}])
def test_a_command_must_be_a_list_of_words(command):
    with pytest.raises(ConfigTreeError, match="list of words"):
        model.check_argv(command, "check")


def test_contents_arrive_as_they_were_sent():
    contents = {"a": b"\0\xff\n", "b/c": b"", "d": "ü".encode()}
    assert model.unpack(model.pack(contents)) == contents


def test_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(model, "PAYLOAD_LIMIT", 10)
    with pytest.raises(ConfigTreeError, match="32 MiB"):
        model.pack({"a": b"x" * 11})


DAMAGED = [b"", b"[]", b"{}", b'{"version": 2}', b'{"version": 1, "files": [1]}', b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: data[:40])
def test_a_damaged_manifest_is_recognised(data):
    with pytest.raises(ValueError):
        model.Manifest.load(data)


def test_a_manifest_survives_the_disk():
    manifest = model.Manifest(frozenset("ab"), frozenset("b"), frozenset({"d"}))
    assert model.Manifest.load(manifest.dump()) == manifest


@pytest.mark.parametrize(
    ("before", "after", "hidden", "shown"),
    [
        (b"a\n", b"b\n", (False, False), ("a\n", "b\n")),
        (None, b"b\n", (False, False), ("", "b\n")),
        (b"s3cret", None, (True, True), (model.HIDDEN, "")),
        (b"s3cret", b"t0psecret", (True, True), (f"before, {model.HIDDEN}", f"after, {model.HIDDEN}")),
        (b"\0", b"text", (False, False), (model.BINARY, "text")),
        (b"\xff", b"x" * (model.DIFF_LIMIT + 1), (False, False), (f"before, {model.BINARY}", f"after, {model.BINARY}")),
    ],
)
def test_a_diff_shows_text_and_nothing_else(before, after, hidden, shown):
    diff = model.file_diff("f", before, after, *hidden)
    assert (diff["before"], diff["after"]) == shown


@pytest.mark.parametrize(
    ("secret", "said", "shown"),
    [
        (b"password = hunter22\n", "bad password value hunter22 in line 1", "bad password value ******** in line 1"),
        (b"TOKEN=abcd1234", "unknown: abcd1234", "unknown: ********"),
        (b"url mysql://app:pa55@db/x", "cannot parse mysql://app:pa55@db/x", "cannot parse ********"),
        (b"url mysql://app:pa55@db/x", "cannot log in with pa55", "cannot log in with ********"),
        (b"auth_pass 'two words';", "near 'two words'", "near '********'"),
        (b"onlytoken\n", "got onlytoken", "got ********"),
        (b"TOKEN=a1:b2:c3;\n", "unknown 'a1:b2:c3'", "unknown '********'"),
        (b"8f2a77c1 on;", 'unknown directive "8f2a77c1"', 'unknown directive "********"'),
        (b"set $file /etc/app/x9y8z7;", "x9y8z7 in /etc/app/a.conf", "******** in /etc/app/a.conf"),
        (b"", "fine", "fine"),
    ],
)
def test_words_of_a_secret_file_are_masked_in_what_a_product_says(secret, said, shown):
    assert model.mask(said, [secret], ["/etc/app", "a.conf"]) == shown


@pytest.mark.parametrize("unit", ["nginx", "nginx.service ", "*.service", "a@.service", "-x", "", "a.b", "a/b.service"])
def test_what_is_no_name_of_a_unit_is_refused(unit):
    with pytest.raises(ConfigTreeError, match="no full name of a unit"):
        model.check_units(["good.service", unit])


def test_names_of_units_are_taken_once():
    model.check_units(["a.service", "a.socket", "a@1.service", "dev-x\\x2d.mount"])
    with pytest.raises(ConfigTreeError, match="'a.service' is listed twice"):
        model.check_units(["a.service", "a.service"])
