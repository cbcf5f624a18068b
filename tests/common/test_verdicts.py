"""What is said of how like the training an image is."""

from __future__ import annotations

import pytest

from bundle.common.verdicts import LIKE, UNKNOWN, UNLIKE, Verdict, in_words, runs, summary


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict(1.04), "like the training data (1.0 × the usual distance from the training data)"),
        (Verdict(1.5), "doubtful (1.5 × the usual distance from the training data)"),
        (Verdict(2.5, 0.1), "unlike (2.5 × the usual distance from the training data)"),
        (
            Verdict(1.2, 5.1),
            "unlike (1.2 × the usual distance from the training data, 5.1 × in the network's statistics)",
        ),
        (Verdict(None, 3.0), "unlike (3.0 × in the network's statistics)"),
        (Verdict(None), "not known to be like the training data: that has fewer than 3 sources"),
    ],
)
def test_a_verdict_is_told_with_its_numbers(verdict, text):
    assert str(verdict) == text
    assert text.startswith(verdict.word)


def test_slices_of_a_volume_are_counted():
    told = summary(Verdict(ratio) for ratio in (3.0, 3.0, 1.0, 1.7, 1.0, 9.0))
    assert told == {
        "slices": {LIKE: 2, "doubtful": 1, UNLIKE: 3},
        "unlike": [[0, 1], [5, 5]],
        "doubtful": [[3, 3]],
    }
    assert in_words(told) == (
        "of 6 slices, 2 like the training data, 1 doubtful (3), 3 unlike (0 to 1, 5); "
        "the stain of what is unlike may be wrong"
    )
    assert in_words(summary([Verdict(1.0)])) == "of 1 slices, 1 like the training data, 0 doubtful, 0 unlike"
    assert UNKNOWN in in_words(summary([Verdict(None)]))
    assert runs([]) == []
