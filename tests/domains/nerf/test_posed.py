"""The geometry of posed cameras, against closed forms and against the rays of `ddmi.rendering.cameras`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from posed_scenes import around, look, views_of

from ddmi.domains.nerf.posed import in_view, meeting, pose_error
from ddmi.rendering.cameras import Camera


def test_projection_and_rays_are_those_of_the_cameras():
    views = views_of(around(3, 3.0), (40, 60), 70.0)
    views.centre[:] = 28.0, 21.5
    for view in range(3):
        camera = Camera(torch.from_numpy(views.poses[view]).float(), 70.0, (40, 60), (28.0, 21.5))
        start, direction = (part.double().numpy() for part in camera.rays())
        pixel, depth, seen = views.project(view, start + 2.5 * direction)
        rows, columns = np.mgrid[:40, :60] + 0.5
        assert np.allclose(pixel, np.stack([columns, rows], axis=2).reshape(-1, 2), atol=1e-3) and seen.all()
        assert np.allclose(depth, 2.5 * direction @ views.axes[view], atol=1e-5)
        assert not views.project(view, start - direction)[2].any(), "behind the camera"


def test_the_axes_meet_where_the_cameras_look():
    poses = np.stack([look(eye, (0.4, -0.2, 0.1)) for eye in 3 * around(9, 1.0)[:, :3, 3]])
    views = views_of(poses, (50, 50), 60.0)
    found = meeting(views.eyes, views.axes)
    assert np.allclose(found.point, [0.4, -0.2, 0.1]) and found.side == 1
    assert found.depth == pytest.approx(np.median(np.linalg.norm(views.eyes - [0.4, -0.2, 0.1], axis=1)))
    assert meeting(views.eyes, -views.axes).side == -1
    assert meeting(views.eyes, np.roll(views.axes, 1, axis=0)).side == 0
    assert meeting(np.repeat(views.eyes[:1], 4, axis=0), np.repeat(views.axes[:1], 4, axis=0)) is None
    far = views_of(np.stack([look(np.array([0, 0, 2.0])), look(np.array([0, 0, 5.0]))]), (50, 80), 60.0)
    assert in_view(far, np.zeros(3)) == pytest.approx(2 * 25 / np.hypot(25, 60), rel=0.16), (
        "the shorter side, the nearer"
    )
    near = views_of(far.poses[:1], (50, 80), 60.0)
    assert in_view(near, np.zeros(3)) == pytest.approx(2 * 25 / np.hypot(25, 60))
    assert in_view(near, np.array([0.0, 0.0, 3.0])) == 0


def test_every_rotation_of_three_decimals_is_a_pose():
    turns, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((2000, 3, 3)))
    poses = np.tile(np.eye(4), (2000, 1, 1))
    poses[:, :3, :3] = turns * np.sign(np.linalg.det(turns))[:, None, None]
    assert not any(pose_error(pose.round(3)) for pose in poses)
    assert max(np.abs(p[:, :3].T @ p[:, :3] - np.eye(3)).max() for p in poses[:, :3].round(3)) > 1e-3
    assert all(pose_error(pose @ np.diag([1.003, 1, 1, 1])) for pose in poses[:10])
