"""Work shared out among threads keeps its order, is bounded, and stops at the first fault."""

from __future__ import annotations

import threading
import time

import pytest

from bundle.common.threads import in_order


def test_results_come_in_order_from_several_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    seen = set()

    def slow_at_first(number):
        seen.add(threading.get_ident())
        time.sleep(0.02 if number == 0 else 0.001)
        return number**2

    assert list(in_order(slow_at_first, range(30))) == [number**2 for number in range(30)]
    assert 1 < len(seen) <= 3


def test_items_are_read_as_they_are_worked_off(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    read = []
    results = in_order(lambda number: number, (read.append(number) or number for number in range(100)))
    assert read == []
    assert next(results) == 0
    assert len(read) == 4 * 2
    results.close()
    assert len(read) == 4 * 2


def test_a_fault_is_raised_in_its_place_and_ends_the_work(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = []

    def work(number):
        if number == 5:
            raise ValueError("the fifth")
        done.append(number)
        return number

    results = in_order(work, range(1000))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="the fifth"):
        next(results)
    assert len(done) < 5 + 4
