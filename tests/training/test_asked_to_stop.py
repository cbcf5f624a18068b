"""A run that is told twice to stop."""

from __future__ import annotations

import signal

import pytest

from bundle.training import run_state
from bundle.training.run_state import RunKeeper


@pytest.fixture
def keeper(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(run_state.os, "kill", lambda pid, number: ended.append(number))
    made = RunKeeper(str(tmp_path), None, 1, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, made.stop)
    return made, ended


def test_a_second_sigterm_at_once_is_the_first_and_a_later_one_ends_it(keeper, monkeypatch):
    made, ended = keeper
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # as of a worker that tells its training, and dies
    assert made.asked_by == signal.SIGTERM
    assert ended == []
    monkeypatch.setattr(run_state, "SAME_SECONDS", 0.0)
    signal.raise_signal(signal.SIGTERM)
    assert ended == [signal.SIGTERM]


def test_a_second_ctrl_c_ends_it_and_a_sigterm_after_one_does_not(keeper):
    made, ended = keeper
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)  # as of torchrun, after the terminal's
    assert ended == []
    signal.raise_signal(signal.SIGINT)
    assert ended == [signal.SIGINT]
