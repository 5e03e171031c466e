"""Values as an inventory may hold them: of the declared shape, of another one, and what only YAML writes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

# What the rules know, or look for.
WORDS = st.sampled_from(
    ["", "www", "web", "shop", "/", "/x", "../x", "~", "a b", "x\ny", "\0", "80", "0", "-1", "1e400", "inf", "yes"]
    + ["198.18.0.21", "198.18.0.0/24", "fd5a:f00b:a5::21", "::/0", "[::]", "[::]:80", "198.18.0.21:81", "localhost"]
    + ["source_replica", "standalone", "active-passive", "tcp", "http", "client", "vip", "every", "s1", "lb1", "db1"]
    + ["changeme", "$5$x", "0644", "10r/s", "30s", "'", '"', "\\", "%", "\u0661\u0662", "\u00b2", "9" * 5000]
)
TEXTS = st.one_of(WORDS, WORDS, st.text(max_size=8))
NUMBERS = st.one_of(st.integers(-1, 70000), st.integers(-(2**70), 2**70), st.floats())
PLAIN = st.one_of(
    *(st.none(), st.booleans(), TEXTS, TEXTS, NUMBERS, st.dates(), st.binary(max_size=3)),
    st.datetimes(timezones=st.sampled_from([None, datetime.UTC])),
)
# The preflight makes texts of them.
KEYS = st.one_of(st.sampled_from(["name", "port", "servers", "path", "host", "database", "gunicorn_flask"]), TEXTS)
ANY = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


def of(option: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values for a variable: mostly of the shape that is declared, at each level.

    Args:
        option: what argument_specs say of it.
    """
    kind, choices = option.get("type", "str"), option.get("choices")
    if kind == "list":
        element = of({"type": option.get("elements", "raw"), "options": option.get("options")})
        shaped = st.lists(element, max_size=3)
    elif kind == "dict" and option.get("options"):
        parts = {key: of(part) for key, part in option["options"].items()}
        shaped = st.fixed_dictionaries({}, optional=parts)
    elif kind == "dict":
        shaped = st.dictionaries(KEYS, st.one_of(TEXTS, ANY), max_size=3)
    elif kind in ("int", "float"):
        shaped = st.one_of(st.integers(-1, 70000), st.integers(0, 100).map(str), NUMBERS)
    elif kind == "bool":
        shaped = st.one_of(st.booleans(), st.sampled_from(["yes", "no", "true"]))
    else:
        shaped = st.one_of(TEXTS, st.sampled_from(choices)) if choices else TEXTS
    return st.one_of(shaped, shaped, shaped, ANY)
