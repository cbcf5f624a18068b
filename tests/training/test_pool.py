"""The buffer of generated images: statistics of its draws, and its state."""

import pytest
import torch

from bundle.common import processes
from bundle.common.errors import InputError
from bundle.training.image_buffer import ImageBuffer


def numbered(*numbers):
    """A batch of 1×1 images that carry their number."""
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1)


def numbers(images):
    return [int(image.item()) for image in images]


def full(size, seed=0):
    buffer = ImageBuffer(size, seed)
    buffer.query(numbered(*range(size)))
    return buffer


def test_images_are_stored_and_handed_on_until_the_buffer_is_full():
    buffer = ImageBuffer(4)
    assert numbers(buffer.query(numbered(0, 1, 2))) == [0, 1, 2]
    assert numbers(buffer.query(numbered(3))) == [3]
    assert numbers(buffer.images) == [0, 1, 2, 3]


def test_a_full_buffer_swaps_half_of_the_images_for_any_stored_one():
    size, draws = 5, 4000
    buffer, kept, places = full(size), 0, [0] * size
    for number in range(size, size + draws):
        before = numbers(buffer.images)
        (given,) = numbers(buffer.query(numbered(number)))
        if given == number:
            kept += 1
            assert numbers(buffer.images) == before
        else:
            place = before.index(given)
            places[place] += 1
            before[place] = number
            assert numbers(buffer.images) == before
    assert abs(kept / draws - 0.5) < 0.03  # 4 standard deviations of a fair coin
    assert all(abs(count / (draws - kept) - 1 / size) < 0.04 for count in places)


def test_size_zero_hands_every_image_on():
    buffer = ImageBuffer(0)
    assert all(numbers(buffer.query(numbered(number))) == [number] for number in range(50))
    assert buffer.images == []


def test_stored_images_do_not_change_with_those_given():
    buffer = ImageBuffer(1)
    for number in range(1, 20):
        image = numbered(number)
        buffer.query(image).zero_()
        image.zero_()
        assert numbers(buffer.images) != [0]


def test_a_saved_buffer_goes_on_as_if_nothing_had_happened(tmp_path):
    buffer = full(5)
    buffer.query(numbered(*range(5, 40)))
    torch.save(buffer.state_dict(), tmp_path / "buffer.pt")
    other = ImageBuffer(5, seed=99)
    other.load_state_dict(torch.load(tmp_path / "buffer.pt", weights_only=True))
    later = numbered(*range(40, 140))
    expected = numbers(buffer.query(later))
    assert numbers(other.query(later)) == expected
    assert expected != numbers(full(5, seed=99).query(later))
    assert numbers(other.images) == numbers(buffer.images)


def test_buffers_of_another_seed_draw_otherwise():
    later = numbered(*range(5, 105))
    assert torch.equal(full(5, seed=1).query(later), full(5, seed=1).query(later))
    assert not torch.equal(full(5, seed=1).query(later), full(5, seed=2).query(later))


@pytest.mark.parametrize("size", [-1, 1.5, "50", None])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match=f"pool_size is {size!r}"):
        ImageBuffer(size)


def test_two_processes_are_given_what_one_would_be(monkeypatch):
    batches = [numbered(*range(first, first + 4)) for first in range(0, 40, 4)]
    alone, shared = ImageBuffer(4), [ImageBuffer(4), ImageBuffer(4)]
    expected = [numbers(alone.query(batch)) for batch in batches]
    for batch, given in zip(batches, expected, strict=True):
        shares = []
        for rank, buffer in enumerate(shared):
            monkeypatch.setattr(processes, "gathered", lambda share, batch=batch: batch)
            monkeypatch.setattr(processes, "own_share", lambda images, rank=rank: images.chunk(2)[rank])
            shares += numbers(buffer.query(batch.chunk(2)[rank]))
        assert shares == given
    assert numbers(shared[0].images) == numbers(shared[1].images) == numbers(alone.images)
