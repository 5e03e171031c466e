"""What visitors of the sample application send is stored tidied, or refused with a reason for each field."""

from __future__ import annotations

import unicodedata

from guestbook.views import LIMITS, examine
from hypothesis import given
from hypothesis import strategies as st

from . import values

SENT = st.dictionaries(
    st.sampled_from([*LIMITS, "id", "x"]), st.one_of(st.text(), st.text("a \r\n\t\0\ud800", max_size=1100), values.ANY)
)


@given(SENT)
def test_what_is_stored_is_a_text_that_fits(sent):
    entry, problems = examine(sent)
    assert entry.keys() == LIMITS.keys() and problems.keys() <= LIMITS.keys()
    for field in entry.keys() - problems.keys():
        assert 0 < len(entry[field]) <= LIMITS[field]
        entry[field].encode()
        assert not [sign for sign in entry[field] if unicodedata.category(sign) == "Cc" and sign not in "\n\t"]
        assert examine(entry)[0] == entry
