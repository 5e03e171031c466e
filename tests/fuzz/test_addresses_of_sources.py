"""No credential of an address of a source is shown."""

from __future__ import annotations

from ansible_collections.foobar.web_infrastructure.plugins.plugin_utils.release_fetch import without_credentials
from hypothesis import given
from hypothesis import strategies as st

# What may stand in an address as it is; a secret that is shown is found by its middle.
PART = st.text("ab1.~!$&*+,;=%@:-_", max_size=5)
SECRETS = st.tuples(PART, PART).map("Zq7v".join)
SCHEMES = st.sampled_from(["https://", "http://", "ssh://", "HTTPS://", "git+ssh://"])
USERS = st.text("abZ-_.", min_size=1, max_size=5)


@given(SCHEMES, USERS, SECRETS, st.sampled_from(["fatal: unable to access '{}/': x", "{}", "{}/a b"]))
def test_a_password_is_not_shown(scheme, user, secret, form):
    text = form.format(f"{scheme}{user}:{secret}@git.example.com/web.git")
    assert "Zq7v" not in without_credentials(text)
    assert "git.example.com/web.git" in without_credentials(text)


@given(st.sampled_from(["https://", "http://"]), SECRETS)
def test_a_token_is_not_shown(scheme, secret):
    assert "Zq7v" not in without_credentials(f"{scheme}{secret}@git.example.com/web.git")
    assert "Zq7v" not in without_credentials(f"{scheme}git.example.com/a.tar?token={secret}")
