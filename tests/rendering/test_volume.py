"""Volume rendering against integrals that are known: fog, slabs, balls; and sampling against its density."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from ddmi.base.errors import UserError, WorkError
from ddmi.rendering.cameras import Camera
from ddmi.rendering.volume import (
    FLOOR,
    Occupancy,
    Quadrature,
    _blurred,
    borders,
    box_range,
    composite,
    importance,
    march,
    render_field,
    stratified,
)

RED = (1.0, 0.0, 0.0)


def numbers(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ask_of(density, colour=RED):
    """A field of one colour; the density is a function of points."""

    def ask(points, directions=None):
        return torch.cat([points.new_tensor(colour).expand_as(points), density(points)[..., None]], dim=-1)

    return ask


def field_of(density, colour=RED):
    """The same with the arguments of a Field."""
    ask = ask_of(density, colour)
    return lambda points, periods, directions: ask(points)


def fog(sigma):
    return lambda points: torch.full_like(points[..., 0], sigma)


def ball(radius, sigma, centre=(0.0, 0.0, 0.0)):
    return lambda points: sigma * ((points - points.new_tensor(centre)).norm(dim=-1) < radius)


def soft_ball(sigma, spread):
    return lambda points: sigma * torch.exp(-points.square().sum(dim=-1) / (2 * spread**2))


def random_rays(count: int, reach: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = numbers(1)
    origins = (2 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 1) * reach
    return origins, normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=1)


# ---- the box


def test_the_box_against_a_march_of_small_steps():
    origins, directions = random_rays(400)
    origins[200:240] *= 0.2
    directions[:200] = normalize(0.8 * torch.rand(200, 3, generator=numbers(2)).double() - 0.4 - origins[:200], dim=1)
    near, far = box_range(origins, directions, -0.5, 0.75)
    steps = torch.linspace(0, 12, 6001, dtype=torch.float64)
    places = origins[:, None] + steps[:, None] * directions[:, None]
    inside = ((places > -0.5) & (places < 0.75)).all(dim=2)
    first = steps[inside.double().argmax(dim=1)]
    last = steps[6000 - inside.flip(1).double().argmax(dim=1)]
    met = inside.any(dim=1)
    assert 200 < met.sum() < 350 and inside[:, 0].sum() > 10  # some rays start inside
    assert (near[met] - first[met]).abs().max() < 0.0021 and (far[met] - last[met]).abs().max() < 0.0021
    assert (far[~met] - near[~met]).max() < 0.0041 and near.isfinite().all() and far.isfinite().all()


@pytest.mark.parametrize(
    ("origin", "direction", "expected"),
    [
        ((0, 0, 3), (0, 0, -1), (2, 4)),
        ((0, 0, 3), (0, 0, 1), (0, 0)),  # behind
        ((0, 0, 3), (0, 1, 0), (0, 0)),  # past it
        ((0.25, 0, 0), (1, 0, 0), (0, 0.75)),  # from inside
        ((1, 0, 3), (0, 0, -1), (2, 4)),  # in a face
        ((1.001, 0, 3), (0, 0, -1), (0, 0)),
        ((3, 3, 3), (-1 / math.sqrt(3),) * 3, (2 * math.sqrt(3), 4 * math.sqrt(3))),  # through two corners
        ((0, 0, 3), (0, 0, -2), (1, 2)),  # in lengths of the direction
    ],
)
def test_the_box_by_hand(origin, direction, expected):
    near, far = box_range(*(torch.tensor(v, dtype=torch.float64)[None] for v in (origin, direction)))
    assert (near.item(), far.item()) == pytest.approx(expected)


# ---- samples of a ray


def test_one_sample_in_each_part():
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 0.5])
    middles = stratified(near, far, 4)
    assert torch.allclose(middles, torch.tensor([[1.25, 1.75, 2.25, 2.75], [0.0625, 0.1875, 0.3125, 0.4375]]))
    depths = stratified(near, far, 4, torch.rand(2, 4, generator=numbers()))
    part = (depths - near[:, None]) / (far - near)[:, None] * 4
    assert torch.equal(part.floor(), torch.arange(4.0).expand(2, 4)) and not torch.allclose(depths, middles)
    assert torch.equal(stratified(near, far, 4, torch.zeros(2, 4))[:, 0], near)


def test_borders_share_the_ray_out():
    depths = torch.tensor([[1.0, 2.0, 2.5]])
    assert torch.equal(borders(depths, torch.tensor([0.0]), torch.tensor([4.0])), torch.tensor([[0, 1.5, 2.25, 4]]))


def test_importance_draws_the_weights():
    """The histogram of many distances is the weights; within a part they are even."""
    edges = torch.tensor([0.0, 0.5, 0.6, 1.6, 2.0, 3.0]).repeat(50, 1)
    weights = torch.tensor([1.0, 4.0, 0.0, 3.0, 2.0]).repeat(50, 1)
    depths = importance(edges, weights, 400, torch.rand(50, 400, generator=numbers()))
    assert (depths.diff(dim=1) >= 0).all()
    shares = torch.histogram(depths.flatten(), bins=edges[0].contiguous()).hist / depths.numel()
    assert torch.allclose(shares, torch.tensor([0.1, 0.4, 0.0, 0.3, 0.2]), atol=0.003)
    last = depths[depths > 2]
    assert last.mean().item() == pytest.approx(2.5, abs=0.01)
    assert last.var().item() == pytest.approx(1 / 12, rel=0.05)


def test_importance_without_chance_gives_quantiles():
    edges, weights = torch.tensor([[0.0, 1.0, 2.0, 4.0]]), torch.tensor([[1.0, 0.0, 3.0]])
    # quantiles 1/8, 3/8, 5/8, 7/8: the first quarter lies in [0, 1], the others in [2, 4]
    expected = [0.5, 2 + 2 * (3 / 8 - 1 / 4) / 0.75, 2 + 2 * (5 / 8 - 1 / 4) / 0.75, 2 + 2 * (7 / 8 - 1 / 4) / 0.75]
    assert torch.allclose(importance(edges, weights, 4), torch.tensor([expected]))


def test_a_spike_is_found():
    weights = torch.full((1, 100), 1e-6)
    weights[0, 37] = 1.0
    depths = importance(torch.linspace(0, 1, 101)[None], weights, 64)
    assert ((depths >= 0.37) & (depths <= 0.38)).float().mean() > 0.98


def test_nothing_is_drawn_where_the_weight_is_zero():
    edges, weights = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    assert torch.equal(importance(edges, weights, 4, torch.zeros(1, 4)), torch.tensor([[1.0, 1.25, 1.5, 1.75]]))


def test_no_weight_at_all_is_even_in_length():
    edges = torch.tensor([[1.0, 1.5, 3.0]])
    assert torch.allclose(importance(edges, torch.zeros(1, 2), 4), torch.tensor([[1.25, 1.75, 2.25, 2.75]]))
    assert torch.equal(importance(torch.zeros(1, 3), torch.zeros(1, 2), 4), torch.zeros(1, 4))  # a ray past the box


def test_fine_samples_go_to_both_sides_of_what_is_found_and_a_few_everywhere():
    """The mean of the larger weights of both pairs of neighbours (mip-NeRF, eq. 18), and a share of the length."""
    edges = torch.tensor([[0.0, 1.0, 2.0, 3.0, 5.0, 6.0]])
    density = torch.tensor([[0.0, math.log(2), 0.0, math.log(2) / 2, 0.0]])  # stops a half, then half of the rest
    even = torch.tensor([0.5 / 2, (0.5 + 0.5) / 2, (0.5 + 0.25) / 2, (0.25 + 0.25) / 2, 0.25 / 2])
    expected = even + FLOOR * torch.tensor([1.0, 1, 1, 2, 1]) / 6
    assert torch.allclose(_blurred(density, edges), expected, atol=1e-6)


# ---- the integral


@pytest.mark.parametrize("quadrature", [Quadrature(1, 0), Quadrature(7, 0), Quadrature(5, 9), Quadrature(64, 64)])
@pytest.mark.parametrize("jittered", [False, True])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 40.0])
def test_fog_is_as_thick_however_it_is_sampled(quadrature, jittered, sigma):
    origins, directions = (rays.float() for rays in random_rays(200))
    near, far = box_range(origins, directions)
    seen = march(ask_of(fog(sigma)), origins, directions, quadrature, generator=numbers() if jittered else None)
    expected = 1 - torch.exp(-sigma * (far - near))
    assert torch.allclose(seen.opacity, expected, atol=2e-6)
    assert torch.allclose(seen.colour, expected[:, None] * torch.tensor(RED), atol=2e-6)
    assert seen.weights.shape == (200, quadrature.samples + quadrature.fine)
    assert torch.allclose(seen.weights.sum(dim=1), seen.opacity)


def test_how_deep_one_sees_into_fog():
    """The mean of an exponential distribution that ends after a length L: 1 / sigma - L / (exp(sigma L) - 1)."""
    origin, direction = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    seen = march(ask_of(fog(1.5)), origin, direction, Quadrature(400, 0))
    assert seen.depth.item() == pytest.approx(2 + 1 / 1.5 - 2 / (math.exp(3) - 1), abs=1e-4)


def test_two_slabs_by_hand():
    """A red slab of thickness ln 2 lets half of the light through; a blue one of ln 4 behind it, a quarter of that."""
    colour = torch.tensor([[RED, (0.0, 0.0, 1.0)]])
    density, deltas = torch.tensor([[2 * math.log(2), math.log(4)]]), torch.tensor([[0.5, 1.0]])
    seen = composite(colour, density, deltas, torch.tensor([[1.0, 3.0]]))
    assert torch.allclose(seen.weights, torch.tensor([[0.5, 0.375]]))
    assert torch.allclose(seen.colour, torch.tensor([[0.5, 0.0, 0.375]]))
    assert seen.opacity.item() == pytest.approx(0.875)
    assert seen.depth.item() == pytest.approx((0.5 * 1 + 0.375 * 3) / 0.875)
    assert torch.allclose(seen.over(1.0), torch.tensor([[0.625, 0.125, 0.5]]))
    assert torch.allclose(seen.over(0.0), seen.colour)


def test_cutting_samples_in_two_changes_nothing():
    generator = numbers()
    colour, density = torch.rand(5, 8, 3, generator=generator), 3 * torch.rand(5, 8, generator=generator)
    deltas = torch.rand(5, 8, generator=generator)
    whole = composite(colour, density, deltas, deltas.cumsum(1))
    halves = composite(*(t.repeat_interleave(2, 1) for t in (colour, density, deltas / 2, deltas.cumsum(1))))
    assert torch.allclose(halves.colour, whole.colour, atol=1e-6)
    assert torch.allclose(halves.depth, whole.depth, atol=1e-6)


def test_a_wall_hides_all_behind_it():
    colour, ones = torch.tensor([[RED, (0.0, 1.0, 0.0)]]), torch.ones(1, 2)
    seen = composite(colour, 1e30 * ones, ones, ones)
    assert torch.equal(seen.colour, torch.tensor([RED])) and seen.opacity.item() == 1 and seen.depth.item() == 1


def test_fine_samples_see_a_thin_sheet_as_thick_as_it_is():
    """0.04 thick, as the distance of even samples, which see it once, twice or not at all."""

    origins = torch.stack([torch.linspace(-0.5, 0.5, 41), torch.full((41,), 0.2), torch.full((41,), 3.0)], dim=1)
    directions = torch.tensor([0.0, 0.0, -1.0]).expand(41, 3)

    def sheet(points):  # slanted, so that rays meet it at other places between the samples
        return 60.0 * ((points[..., 2] - 0.2 * points[..., 0]).abs() < 0.02)

    even, fine = (march(ask_of(sheet), origins, directions, Quadrature(48, k)).opacity for k in (0, 64))
    expected = 1 - math.exp(-60 * 0.04)
    assert (fine - expected).abs().max() < 0.03 and (even - expected).abs().max() > 0.08


def test_a_batch_is_asked_at_once():
    origins, directions = (rays.float().view(4, 10, 3) for rays in random_rays(40))
    asked = []

    def ask(points, along):
        asked.append((points.shape, along.shape))
        assert torch.allclose(along.norm(dim=-1), torch.ones(points.shape[:-1]))
        return torch.cat([(along + 1) / 2, points.square().sum(dim=-1, keepdim=True)], dim=-1)

    seen = march(ask, origins, directions, Quadrature(6, 5))
    assert asked == [((4, 60, 3),) * 2, ((4, 50, 3),) * 2]
    for k in range(4):
        alone = march(ask, origins[k], directions[k], Quadrature(6, 5))
        assert torch.allclose(seen.colour[k], alone.colour, atol=1e-6)
        assert torch.allclose(seen.depth[k], alone.depth, atol=1e-5)
    assert torch.allclose(seen.colour, seen.opacity[..., None] * (directions + 1) / 2, atol=1e-6)  # each its own ray's


def test_rows_of_a_batch_may_have_generators_of_their_own():
    origins, directions = (x[None].expand(3, -1, -1) for x in random_rays(7, 2.0))
    ask = ask_of(soft_ball(5.0, 0.3))
    every = march(ask, origins, directions, Quadrature(8, 8), generator=[numbers(4), numbers(5), numbers(4)]).opacity
    alone = march(ask, origins[:1], directions[:1], Quadrature(8, 8), generator=[numbers(5)]).opacity
    assert torch.allclose(every[1], alone[0], atol=1e-6) and torch.allclose(every[0], every[2], atol=1e-6)
    assert not torch.equal(every[0], every[1])


def test_jitter_is_the_generator_s():
    origins, directions = (rays.float() for rays in random_rays(50))
    one, same, other = (
        march(ask_of(soft_ball(5.0, 0.3)), origins, directions, Quadrature(8, 8), generator=numbers(seed)).opacity
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, same) and not torch.allclose(one, other)


def test_gradients_are_those_of_finite_differences():
    origins, directions = random_rays(2, reach=0.9)
    table = torch.rand(2 * 5, 4, generator=numbers(), dtype=torch.float64).requires_grad_()

    def results(values):
        seen = march(lambda points, along: values, origins, directions, Quadrature(5, 0))
        return seen.colour, seen.opacity, seen.depth, seen.weights

    assert torch.autograd.gradcheck(results, (table,))


def test_gradients_flow_through_even_and_fine_samples():
    """Of one colour, the picture is colour times opacity; of fog, its opacity is 1 - exp(-sigma L)."""
    origins, directions = random_rays(9, reach=0.9)
    near, far = box_range(origins, directions)
    values = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64, requires_grad=True)
    seen = march(lambda points, along: values.expand(*points.shape[:-1], 4), origins, directions, Quadrature(6, 10))
    (slope,) = torch.autograd.grad(seen.colour[:, 0].sum(), values, retain_graph=True)
    left = torch.exp(-0.8 * (far - near))
    expected = [(1 - left).sum().item(), 0, 0, 0.2 * ((far - near) * left).sum().item()]
    assert slope.tolist() == pytest.approx(expected)


# ---- pictures


def camera(size=48, **where):
    return Camera.orbit(**({"azimuth": 30.0, "elevation": 25.0, "size": size} | where))


def impact(view: Camera) -> torch.Tensor:
    """How far from the origin the ray of each pixel passes."""
    origins, directions = view.rays()
    return torch.linalg.cross(origins, directions).norm(dim=1).view(view.size)


def test_the_silhouette_of_a_soft_ball():
    """Of sigma exp(-r^2 / 2 s^2), a ray at b from the middle meets sigma s sqrt(2 pi) exp(-b^2 / 2 s^2)."""
    sigma, spread = 12.0, 0.2
    seen = render_field(field_of(soft_ball(sigma, spread)), camera())
    b = impact(camera())
    thickness = sigma * spread * math.sqrt(2 * math.pi) * torch.exp(-b.square() / (2 * spread**2))
    assert torch.allclose(seen.opacity, 1 - torch.exp(-thickness), atol=2e-3)
    outline = spread * math.sqrt(2 * math.log(sigma * spread * math.sqrt(2 * math.pi) / math.log(2)))
    clear = (b - outline).abs() > 0.002
    assert torch.equal(seen.opacity[clear] > 0.5, b[clear] < outline)


def test_the_depth_and_the_outline_of_a_hard_ball():
    radius, view = 0.6, camera()
    seen, b = render_field(field_of(ball(radius, 2000.0)), view), impact(view)
    clear = (b - radius).abs() > 0.02
    assert torch.equal(seen.opacity[clear] > 0.5, b[clear] < radius)
    assert (seen.opacity[b > radius + 0.02] == 0).all() and (seen.depth[b > radius + 0.02] == 0).all()
    within = b < 0.55
    expected = (view.pose[:3, 3].square().sum() - b.square()).sqrt() - (radius**2 - b.square()).clamp(min=0).sqrt()
    assert (seen.depth - expected)[within].abs().max() < 4e-3


def test_normals_of_a_soft_ball_point_outwards():
    view = camera()
    seen = render_field(
        field_of(lambda points: 300 * torch.sigmoid(40 * (0.6 - points.norm(dim=-1)))), view, normals=True
    )
    origins, directions = view.rays()
    place = (origins + seen.depth.view(-1, 1) * directions).view(*view.size, 3)
    solid = impact(view) < 0.55
    assert ((seen.normals * normalize(place, dim=2)).sum(dim=2)[solid] > 0.999).all()
    assert torch.equal(seen.normals[seen.opacity == 0].abs().sum(), torch.tensor(0.0)) and (seen.opacity == 0).any()
    assert render_field(field_of(fog(0.0)), view).normals is None


def test_what_the_box_cuts_off_has_the_face_s_normal():
    seen = render_field(field_of(fog(400.0)), camera(24, azimuth=0.0, elevation=0.0), normals=True)
    assert torch.allclose(seen.normals[12, 12], torch.tensor([0.0, 0.0, 1.0]), atol=1e-3)


@pytest.mark.parametrize("background", [0.0, 0.7, 1.0])
def test_past_the_box_is_exactly_the_background(background):
    view = camera(20, fov=80.0)
    near, far = (t.view(20, 20) for t in box_range(*view.rays()))
    past = far <= near
    seen = render_field(field_of(fog(3.0)), view, Quadrature(8, 8, background=background))
    assert past.any() and not past.all()
    assert (seen.colour[past] == torch.tensor(background)).all() and (seen.opacity[past] == 0).all()
    assert torch.allclose(seen.opacity[~past], (1 - torch.exp(-3 * (far - near)))[~past], atol=2e-4)
    marched = march(ask_of(fog(3.0)), *view.rays(), Quadrature(8, 8)).over(background).view(20, 20, 3)
    assert (marched[past] == torch.tensor(background)).all()
    assert torch.allclose(marched, seen.colour, atol=2e-4)  # less what is not followed in the dark


def test_the_field_is_told_where_light_goes():
    """An opaque thing that shows the direction it is asked for shows each pixel's ray."""
    view = camera(16)

    def field(points, periods, directions):
        return torch.cat([(directions + 1) / 2, torch.full_like(points[:, :1], 1e4)], dim=1)

    seen = render_field(field, view)
    solid = seen.opacity > 0.5
    assert solid.sum() > 100
    assert torch.allclose(seen.colour[solid], (view.rays()[1].view(16, 16, 3)[solid] + 1) / 2, atol=1e-5)


def lumps(points):
    """Soft lumps of 20 or less per unit of length, and no haze between them."""
    waves = torch.sin(7 * points + points.new_tensor([0.3, 1.1, 2.0])).prod(dim=-1)
    return 20 * torch.nn.functional.softplus(40 * (waves - 0.5)) / 5


def coloured(points, periods, directions):
    return torch.cat([(torch.sin(9 * points) + directions + 2) / 4, lumps(points)[:, None]], dim=1)


@pytest.mark.parametrize("chunk", [100, 3000, 1 << 20])
def test_chunks_change_nothing(chunk):
    view = camera(12)
    whole, parts = render_field(coloured, view, normals=True), render_field(coloured, view, normals=True, chunk=chunk)
    assert torch.allclose(whole.colour, parts.colour, atol=1e-5) and torch.allclose(whole.depth, parts.depth, atol=1e-4)
    assert whole.normals is not None and torch.allclose(whole.normals, parts.normals, atol=1e-3)


@pytest.mark.parametrize("density", [lumps, ball(0.4, 50.0, centre=(0.3, -0.2, 0.5))])
def test_skipping_what_is_empty_changes_next_to_nothing(density):
    asked = []

    def field(points, periods, directions):
        asked.append(points)
        return field_of(density)(points, periods, directions)

    occupancy, view = Occupancy(field, 48), camera(40)
    asked.clear()
    whole = render_field(field, view)
    every, asked[:] = torch.cat(asked), []
    skipped = render_field(field, view, occupancy=occupancy)
    some = torch.cat(asked)
    assert (whole.colour - skipped.colour).abs().max() < 1 / 255
    assert (whole.opacity - skipped.opacity).abs().mean() < 1e-4
    assert len(some) < 0.6 * len(every) and not occupancy.skip(some).any()
    assert every.abs().max() < 1 + 1e-5


def test_light_is_not_followed_into_the_dark():
    asked = []

    def field(points, periods, directions):
        asked.append(points)
        return field_of(fog(100.0))(points, periods, directions)

    render_field(field, Camera.orbit(0, 0, size=4, fov=1.0), Quadrature(128, 0))
    assert torch.cat(asked)[:, 2].min() > 1 - 2 * (math.log(1e4) / 100) - 2 * 16 / 128


def test_what_an_occupancy_calls_empty():
    radius, centre = 0.3, torch.tensor([0.4, -0.1, 0.2])
    occupancy = Occupancy(field_of(ball(radius, 5.0, centre.tolist())), 32)
    points = 2 * torch.rand(20000, 3, generator=numbers()) - 1
    away, skipped = (points - centre).norm(dim=1), occupancy.skip(points)
    assert not skipped[away < radius].any()
    assert skipped[away > radius + 2.5 * math.sqrt(3) * 2 / 32].all()
    assert occupancy.share == pytest.approx(1 - skipped.float().mean().item(), abs=0.01)
    assert Occupancy(field_of(fog(0.0)), 8).share == 0 and Occupancy(field_of(fog(0.01)), 8).share == 1


def test_a_cell_is_empty_all_over_or_nowhere():
    occupancy = Occupancy(field_of(ball(0.5, 5.0, centre=(0.4, -0.1, 0.2))), 10)
    middles = torch.cartesian_prod(*[torch.arange(-0.9, 1, 0.2)] * 3)
    skipped = occupancy.skip(middles)
    assert 0.1 < skipped.float().mean() < 0.9
    for k in range(8):
        within = 0.0999 * (2 * torch.rand(1000, 3, generator=numbers(k)) - 1)
        assert torch.equal(occupancy.skip(middles + within), skipped)


def test_an_empty_field_is_not_asked():
    def field(points, periods, directions):
        raise AssertionError

    seen = render_field(field, camera(8), occupancy=Occupancy(field_of(fog(0.0)), 8))
    assert (seen.colour == 1).all() and (seen.opacity == 0).all()


def test_more_pixels_show_the_same():
    small, large = camera(16), camera(16).resized((80, 80))
    coarse, fine = (render_field(field_of(soft_ball(12.0, 0.25)), c).opacity for c in (small, large))
    assert torch.allclose(fine[2::5, 2::5], coarse, atol=1e-4)
    crop = render_field(field_of(soft_ball(12.0, 0.25)), large.resized((40, 40), (-1.0, 0.0, 0.0, 1.0))).opacity
    assert torch.allclose(crop, fine[40:, :40], atol=1e-4)


def test_a_picture_that_is_not_square():
    view = Camera.orbit(0, 0, size=(20, 30))
    seen = render_field(field_of(ball(0.3, 500.0, (0.5, 0.4, 0.0))), view)
    assert seen.colour.shape == (20, 30, 3) and seen.opacity.shape == seen.depth.shape == (20, 30)
    rows, columns = (seen.opacity > 0.5).nonzero(as_tuple=True)
    assert rows.float().mean() < 10 and columns.float().mean() > 15  # up and to the right


def test_nan_is_not_shown():
    broken = field_of(lambda points: torch.where(points[..., 0] > 0, math.nan, 1.0))
    with pytest.raises(WorkError, match="NaN"):
        render_field(broken, camera(8))
    with pytest.raises(WorkError, match="NaN"):
        Occupancy(broken, 8)


def test_settings_out_of_their_range():
    for wrong in ({"samples": 0}, {"fine": -1}, {"background": 1.5}):
        with pytest.raises(UserError):
            Quadrature(**wrong)
