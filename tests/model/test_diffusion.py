"""The noise schedule by hand, the mixed parameterisation as the exact answer for Gaussians, and guidance as a line."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny
import torch

from ddmi.base.errors import UserError
from ddmi.base.planes import Plane, unpack
from ddmi.model.diffusion import Diffusion, DiffusionConfig, Guidance, alpha_bar, betas, dropped
from ddmi.model.unet import Condition

LAYOUT = (Plane(name="xy", axes=(0, 1), size=(2, 3)), Plane(name="t", axes=(2,), size=(5,)))


def model(**settings):
    return tiny.awake(Diffusion(replace(tiny.DIFFUSION, **settings), LAYOUT, 3), 0.1).eval()


def latents(batch=2, seed=0):
    return torch.randn(batch, 3, 11, generator=torch.Generator().manual_seed(seed))


def test_the_schedule_by_hand():
    """Linear in the square root of beta, 0.0015 to 0.0195 (FACTS of the released code)."""
    config = DiffusionConfig()
    share = 1.0
    expected = []
    for t in range(1000):
        root = math.sqrt(0.0015) + (math.sqrt(0.0195) - math.sqrt(0.0015)) * t / 999
        share *= 1 - root * root
        expected.append(share)
    found = torch.cumprod(1 - betas(config), 0)
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9)
    assert float(betas(config)[0]) == pytest.approx(0.0015) and float(betas(config)[-1]) == pytest.approx(0.0195)
    assert expected[-1] < 1e-3


def test_between_whole_times_alpha_bar_is_log_linear():
    diffusion = model()
    table = alpha_bar(diffusion.config)
    low, high = table[7], table[8]
    signal, spread = diffusion.shares(torch.tensor([7.0, 7.5, 8.0, 49.0]))
    exact = torch.stack([low, (low * high).sqrt(), high, table[49]])
    assert torch.allclose(signal.flatten().double(), exact, rtol=2e-6, atol=0)
    assert torch.allclose(spread.flatten().double(), 1 - exact, rtol=2e-6, atol=0)


def test_float32_keeps_the_precision_of_the_least_noise():
    """1 - alpha-bar is 0.0015 at t = 0, where a difference of float32 numbers has an error of 2e-5 of it."""
    diffusion = Diffusion(DiffusionConfig(unet=tiny.DIFFUSION.unet), LAYOUT, 3)
    exact = alpha_bar(diffusion.config)
    signal, spread = diffusion.shares(torch.arange(1000.0))
    assert signal.dtype == spread.dtype == torch.float32
    assert torch.allclose(signal.flatten().double(), exact, rtol=2e-6, atol=0)
    assert torch.allclose(spread.flatten().double(), 1 - exact, rtol=2e-6, atol=0)


def test_diffused_unit_latents_keep_their_variance():
    diffusion = model()
    z, noise = torch.randn(500, 3, 11), torch.randn(500, 3, 11)
    for t in (0.0, 20.0, 49.0):
        z_t = diffusion.diffuse(z, noise, torch.full((500,), t))
        assert float(z_t.var()) == pytest.approx(1.0, abs=0.05)
        share = alpha_bar(diffusion.config)[int(t)].float()
        assert torch.allclose(z_t, share.sqrt() * z + (1 - share).sqrt() * noise, atol=1e-6)


def test_the_capped_loss_by_hand():
    """w = min(SNR, cap) / SNR: 1 at much noise, cap / SNR at little."""
    diffusion, z, noise = model(snr_cap=10.0), latents(3), latents(3, seed=1)
    t = torch.tensor([0.0, 20.0, 49.0])
    share = alpha_bar(diffusion.config)[t.long()]
    ratio = share / (1 - share)
    assert ratio[0] > 10 > ratio[2]
    weight = torch.tensor([min(float(r), 10.0) / float(r) for r in ratio])
    assert torch.allclose(diffusion.weight(t).flatten(), weight, rtol=1e-5)
    with torch.no_grad():
        each = (diffusion.epsilon(diffusion.diffuse(z, noise, t), t) - noise).square().mean(dim=(1, 2))
        assert torch.allclose(diffusion(z, noise, t), (weight * each).mean(), rtol=1e-5)
        diffusion.config = replace(diffusion.config, snr_cap=0.0)
        assert torch.allclose(diffusion(z, noise, t), each.mean(), rtol=1e-5)


def test_a_negative_cap_is_refused():
    with pytest.raises(UserError, match="snr_cap"):
        DiffusionConfig(snr_cap=-1.0)


def test_statistics_are_by_plane_and_channel():
    diffusion, z = model(), latents(50) * 3 + 1
    diffusion.mean.copy_(torch.arange(6.0).view(2, 3))
    diffusion.std.copy_(torch.arange(1.0, 7.0).view(2, 3))
    assert torch.allclose(diffusion.restore(diffusion.normalise(z)), z, atol=1e-5)
    planes, normal = unpack(z, LAYOUT), unpack(diffusion.normalise(z), LAYOUT)
    assert torch.allclose(normal["xy"][:, 2], (planes["xy"][:, 2] - 2) / 3, atol=1e-5)
    assert torch.allclose(normal["t"][:, 1], (planes["t"][:, 1] - 4) / 5, atol=1e-5)


def test_without_the_network_the_prediction_is_the_scaled_latent():
    """a -> 0: sqrt(1 - alpha-bar) z_t (section B.2)."""
    diffusion, z, t = model(), latents(), torch.tensor([3.0, 40.5])
    with torch.no_grad():
        diffusion.mixing.fill_(-50.0)
    spread = diffusion.shares(t)[1].sqrt()
    assert torch.allclose(diffusion.epsilon(z, t), spread * z, atol=1e-6)


def test_and_that_is_the_minimiser_for_standard_normal_latents():
    """E[noise | z_t] by least squares over random draws of both."""
    diffusion = model()
    z, noise = torch.randn(20_000, 1, 1), torch.randn(20_000, 1, 1)
    for t in (5.0, 25.0, 45.0):
        z_t = diffusion.diffuse(z, noise, torch.full((20_000,), t))
        slope = float((noise * z_t).mean() / z_t.square().mean())
        assert slope == pytest.approx(float((1 - alpha_bar(diffusion.config)[int(t)]).sqrt()), abs=0.02)


def test_the_mixture_is_a_weighted_sum_one_weight_a_channel():
    """LSGM eq. 10: (1 - a) sqrt(1 - alpha-bar) z_t + a network."""
    diffusion, z, t = model(), latents(), torch.tensor([3.0, 40.0])
    with torch.no_grad():
        diffusion.mixing.copy_(torch.tensor([[-50.0], [0.0], [50.0]]))
    plain = Diffusion(replace(tiny.DIFFUSION, parameterisation="epsilon"), LAYOUT, 3).eval()
    plain.unet.load_state_dict(diffusion.unet.state_dict())
    network = plain.epsilon(z, t)
    linear = diffusion.shares(t)[1].sqrt() * z
    mixed = diffusion.epsilon(z, t)
    assert torch.allclose(mixed[:, 0], linear[:, 0], atol=1e-6)
    assert torch.allclose(mixed[:, 1], 0.5 * (linear + network)[:, 1], atol=1e-6)
    assert torch.allclose(mixed[:, 2], network[:, 2], atol=1e-6)
    assert not hasattr(plain, "mixing")


def test_the_share_of_a_new_network_is_small():
    diffusion = Diffusion(DiffusionConfig(unet=tiny.DIFFUSION.unet), LAYOUT, 3)
    assert torch.sigmoid(diffusion.mixing).flatten().tolist() == pytest.approx([0.002473] * 3, rel=1e-3)


def test_the_loss_is_the_mean_squared_error_of_the_noise():
    diffusion, z, noise, t = model(), latents(), latents(seed=1), torch.tensor([3.0, 40.0])
    expected = (diffusion.epsilon(diffusion.diffuse(z, noise, t), t) - noise).square().mean()
    assert torch.allclose(diffusion(z, noise, t), expected)


def conditional():
    diffusion = model(condition="class", classes=("ant", "bee", "cat"))
    return diffusion, latents(), torch.tensor([9.0, 30.0]), Condition(labels=torch.tensor([0, 2]))


def test_guidance_is_a_line_through_null_and_condition():
    diffusion, z, t, condition = conditional()
    without, with_condition = diffusion.epsilon(z, t, diffusion.null(2)), diffusion.epsilon(z, t, condition)
    assert not torch.allclose(without, with_condition, atol=1e-4)
    assert torch.equal(diffusion.guided(z, t, condition, Guidance(0.0)), without)
    assert torch.equal(diffusion.guided(z, t, condition, Guidance(1.0)), with_condition)
    for w in (0.5, 2.0, 7.5):
        expected = without + w * (with_condition - without)
        assert torch.allclose(diffusion.guided(z, t, condition, Guidance(w)), expected, atol=1e-4)
    assert torch.equal(diffusion.guided(z, t, None, Guidance(3.0)), without)


def test_guidance_has_no_effect_without_a_condition():
    diffusion, z, t = model(), latents(), torch.tensor([9.0, 30.0])
    assert diffusion.null(2) is None
    assert torch.equal(diffusion.guided(z, t, None, Guidance(3.0)), diffusion.epsilon(z, t))


def test_a_dropped_condition_is_the_null_condition():
    condition, null = Condition(labels=torch.tensor([0, 1, 2])), Condition(labels=torch.tensor([3, 3, 3]))
    keep = torch.tensor([True, False, True])
    assert dropped(condition, null, keep).labels.tolist() == [0, 3, 2]
    tokens = Condition(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    empty = Condition(torch.zeros(2, 1, 4), torch.ones(2, 1, dtype=torch.bool))
    mixed = dropped(tokens, empty, torch.tensor([False, True]))
    assert mixed.mask.sum(1).tolist() == [1, 3] and float(mixed.tokens[0].abs().max()) == 0


def test_the_null_text_travels_with_the_weights():
    diffusion = model(condition="text", text_width=6)
    assert {"null_tokens", "null_mask", "mean", "std"} <= diffusion.state_dict().keys()
    assert "log_share" not in diffusion.state_dict()
    null = diffusion.null(4)
    assert null.tokens.shape == (4, 1, 6) and null.mask.all()


def test_predicting_v_a_zero_network_is_exact_for_standard_normal_latents():
    """E[epsilon | z_t] = sqrt(1 - alpha-bar) z_t, so v = 0; and the loss is then the variance of v, which is 1."""
    diffusion = Diffusion(replace(tiny.DIFFUSION, parameterisation="v"), LAYOUT, 3)  # its last layer starts at zero
    z, noise = latents(4096), latents(4096, seed=1)
    t = torch.arange(4096.0) % 50
    with torch.no_grad():
        noised = diffusion.diffuse(z, noise, t)
        assert torch.allclose(diffusion.epsilon(noised, t), diffusion.shares(t)[1].sqrt() * noised, atol=1e-6)
        assert diffusion(z, noise, t).item() == pytest.approx(1.0, abs=0.02)


def test_the_loss_of_v_is_its_squared_error():
    diffusion, z, noise = model(parameterisation="v"), latents(), latents(seed=1)
    t = torch.tensor([3.0, 44.0])
    with torch.no_grad():
        signal, spread = (share.sqrt() for share in diffusion.shares(t))
        noised = signal * z + spread * noise
        v = torch.cat([x.flatten(2) for x in diffusion.unet(unpack(noised, LAYOUT), t).values()], dim=2)
        expected = (v - (signal * noise - spread * z)).square().mean()
        assert torch.allclose(diffusion(z, noise, t), expected, rtol=1e-4)
        at_z = (noised - spread * diffusion.epsilon(noised, t)) / signal
        assert torch.allclose(at_z, signal * noised - spread * v, atol=1e-4)


def test_a_cap_weights_v_as_it_weights_the_noise():
    diffusion, t = model(parameterisation="v", snr_cap=2.0), torch.tensor([0.0, 20.0, 49.0])
    signal, spread = diffusion.shares(t)
    assert torch.allclose(diffusion.weight(t), (2 * spread / signal).clamp(max=1))


def test_guidance_can_be_limited_to_an_interval():
    diffusion, z, _, condition = conditional()
    limited = Guidance(3.0, (0.2, 0.6))
    edges = 49 * 0.2, 49 * 0.6
    for t, guided in ((edges[0] - 0.1, 0), (edges[0] + 0.1, 1), (edges[1] - 0.1, 1), (edges[1] + 0.1, 0)):
        at = torch.full((2,), t)
        expected = diffusion.guided(z, at, condition, Guidance(3.0 if guided else 1.0))
        assert torch.allclose(diffusion.guided(z, at, condition, limited), expected, atol=1e-5)
    mixed = torch.tensor([25.0, 45.0])  # one row inside, one outside
    expected = [diffusion.guided(z, mixed, condition, Guidance(w))[i] for i, w in enumerate((3.0, 1.0))]
    assert torch.allclose(diffusion.guided(z, mixed, condition, limited), torch.stack(expected), atol=1e-5)


def test_both_kinds_of_guidance_add_up():
    """e + (w - 1) (e - e(null)) + (v - 1) (e - e'), each e of the condition but one; inside of the interval only."""
    diffusion, z, t, condition = conditional()
    weak = tiny.awake(Diffusion(diffusion.config, LAYOUT, 3), 0.2, seed=5).eval()
    without, strong = diffusion.epsilon(z, t, diffusion.null(2)), diffusion.epsilon(z, t, condition)
    diffusion.guide = weak
    other = weak.epsilon(z, t, condition)
    assert not torch.allclose(other, strong, atol=1e-3)
    for w, v in ((1.0, 2.5), (3.0, 2.5), (3.0, 1.0)):
        expected = strong + (w - 1) * (strong - without) + (v - 1) * (strong - other)
        assert torch.allclose(diffusion.guided(z, t, condition, Guidance(w, auto=v)), expected, atol=1e-4)
    late = diffusion.guided(z, t, condition, Guidance(3.0, (0.5, 1.0), 2.5))  # the times are 9 and 30 of 50
    assert torch.allclose(late[0], strong[0], atol=1e-5) and not torch.allclose(late[1], strong[1], atol=1e-3)
    weakly = weak.epsilon(z, t, diffusion.null(2))
    for asked, scale in ((None, 3.0), (condition, 0.0)):
        found = diffusion.guided(z, t, asked, Guidance(scale, auto=2.0))
        assert torch.allclose(found, without + (without - weakly), atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{"guidance_interval": (0.5, 0.2)}, {"guidance_interval": (0.0, 1.5)}, {"times_deviation": 0.0}, {"guide_at": 1.5}],
)
def test_impossible_options_of_stage_2_are_named(settings):
    with pytest.raises(UserError, match=rf"diffusion.{next(iter(settings))} must"):
        DiffusionConfig(**settings)
