"""Sliced Wasserstein distance of space-time patches: closed forms, what time adds, and sets given in parts."""

import math

import pytest
import torch

from ddmi.base.errors import UserError
from ddmi.metrics.sliced import sliced_clips, sliced_wasserstein


def moving(count, frames=8, size=(32, 32), seed=0):
    """Clips of waves of one length in all directions, at random places, which travel a sixteenth of it a frame."""
    generator = torch.Generator().manual_seed(seed)
    t, y, x = (torch.arange(n, dtype=torch.float32) for n in (frames, *size))
    angle, phase = 2 * math.pi * torch.rand(2, count, 3, 1, 1, 1, generator=generator)
    place = (angle.cos() * x + angle.sin() * y[:, None]) / 12 + t[:, None, None] / 16
    return torch.sin(2 * math.pi * place + phase)


def test_equal_sets_are_at_distance_zero():
    a = moving(5)
    found = sliced_clips(a, a, directions=32, patches=16)
    assert set(found) == {"32", "16", "mean"} and all(value == 0 for value in found.values())
    assert set(sliced_clips(moving(2, size=(20, 64)), moving(3, size=(20, 64)), directions=8)) == {"20", "mean"}


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_patches_reach_the_last_frame_row_and_column(axis):
    a = moving(2, frames=5, size=(8, 8))
    b = a.index_fill(axis, torch.tensor(a.shape[axis] - 1), 0.0)
    assert sliced_clips(a, b, directions=8, patches=32)["8"] > 0


def test_still_clips_against_clips_that_flip():
    """Of 4 x 7 x 7 cells there is one patch, the clip. White and black clips are rows +1 and -1 of D = 196 numbers;
    white-then-black and black-then-white ones are rows +s and -s with s orthogonal to 1. Along a unit vector u the two
    sets are at | |u.1| - |u.s| |, and (u.1, u.s) / sqrt(D) is the projection of u on a plane, at any angle alike:
    the mean is sqrt(D) E[length] 4 (sqrt(2) - 1) / pi. Frame by frame the sets are the same.
    """
    one = torch.ones(1, 1, 4, 7, 7)
    half = one.clone()
    half[:, :, 2:] = -1
    still, flipped = torch.cat([one, -one]), torch.cat([half, -half])
    size = 196
    length = math.exp(math.lgamma(size / 2) + math.lgamma(1.5) - math.lgamma((size + 1) / 2))
    expected = 1e3 * math.sqrt(size) * length * 4 * (math.sqrt(2) - 1) / math.pi
    found = sliced_clips(still, flipped, patches=1, directions=8192)
    assert found["7"] == found["mean"] == pytest.approx(expected, rel=0.04)
    frames = [x.transpose(1, 2).flatten(0, 1) for x in (still, flipped)]
    assert sliced_wasserstein(*frames, directions=64)["mean"] == pytest.approx(0, abs=1e-3)
    three = [sliced_clips(still[:, :, :2], x[:, :, :2], patches=1, directions=64)["7"] for x in (still, flipped)]
    assert three == [0, 0]  # shorter clips: patches of the frames that there are, here all white or all black


def test_an_order_of_frames_is_seen_that_frames_alone_do_not_show():
    a, b = moving(64, size=(16, 16)), moving(64, size=(16, 16), seed=1)
    shuffled = a[:, :, [5, 2, 7, 0, 3, 6, 1, 4]]
    settings = {"directions": 64, "patches": 16}
    assert sliced_clips(shuffled, a, **settings)["mean"] > 1.5 * sliced_clips(b, a, **settings)["mean"]
    wrong, right = (sliced_clips(x.diff(dim=2), a.diff(dim=2), **settings)["mean"] for x in (shuffled, b))
    assert wrong > 2.5 * right  # differences of frames show motion above all


def test_clips_that_do_not_move_are_as_far_as_their_pictures():
    """A still clip's patch is its frame's patch four times: its projections are those of a picture, along directions
    of another distribution, the sum of four parts of a unit vector; that is twice as long as one part on average."""
    a, b = (moving(24, frames=1, seed=s).expand(-1, -1, 4, -1, -1) for s in (0, 1))
    found = sliced_clips(a, b, directions=2048, patches=64)["mean"]
    single = sliced_clips(a[:, :, :1], b[:, :, :1], directions=2048, patches=64)["mean"]
    # |sum of the four parts| of a unit vector of 4 D is about that of one unit vector of D: sqrt(4) sqrt(1 / 4) = 1
    assert found == pytest.approx(single, rel=0.1)


def test_a_set_may_come_in_parts():
    a, b = moving(7), moving(5, seed=1)
    whole = sliced_clips(a, b, seed=2, directions=32, patches=8)
    assert sliced_clips(iter(a.split(3)), (part for part in b.split(2)), seed=2, directions=32, patches=8) == whole
    assert sliced_clips(b, a, seed=2, directions=32, patches=8) == pytest.approx(whole, rel=1e-4)
    assert whole["mean"] == pytest.approx((whole["32"] + whole["16"]) / 2) and whole["mean"] > 0
    assert sliced_clips(a, b, seed=3, directions=32, patches=8) != whole


def test_brightness_and_contrast_of_a_whole_set_are_not_seen():
    a = moving(12)
    assert sliced_clips(a, 0.5 * a + 0.1, directions=32)["mean"] == pytest.approx(0, abs=0.5)


def test_frames_smaller_than_a_patch_are_refused():
    with pytest.raises(UserError, match="larger frames than 9x6"):
        sliced_clips(moving(2, size=(6, 9)), moving(2, size=(6, 9)))
