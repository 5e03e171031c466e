"""Work that may take its time, up to an end."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.deadline import within


def test_what_the_work_returns_or_raises_is_the_outcome():
    assert within(10, lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 // 0)


def test_work_that_does_not_end_is_left():
    end = threading.Event()
    with pytest.raises(TimeoutError, match=r"not complete after 0.1 s"):
        within(0.1, end.wait)
    end.set()
