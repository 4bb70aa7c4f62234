"""Nothing reaches an accelerator in 64-bit floats: Apple's MPS has none. A stand-in for such a device refuses them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import tiny
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ddmi import DDMIPipeline
from ddmi.base.planes import Plane
from ddmi.model.autoencoder import freeze
from ddmi.model.diffusion import Diffusion, DiffusionConfig
from ddmi.model.flow import student_of
from ddmi.model.sampling import SAMPLERS, SamplingConfig, draw, sample_seeds
from ddmi.model.unet import Condition
from ddmi.training.latents import LatentBatch
from ddmi.training.objectives import AutoencoderObjective, DiffusionObjective

DEVICE = torch.device("meta")  # any that this torch can name: what runs there never gets that far
LAYOUT = (Plane(name="xy", axes=(0, 1), size=(4, 4)),)


class There(torch.Tensor):
    """A tensor that says it is on the device; its numbers are in `here`."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        assert here.dtype != torch.float64, "the device has no float64"
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
            requires_grad=here.requires_grad,
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, call, types, args=(), kwargs=None):
        raise AssertionError("only inside of `StandIn`")


class StandIn(TorchDispatchMode):
    """Runs on the CPU what happens on the device."""

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        kwargs, known = dict(kwargs or {}), {}

        def fetch(x):
            if isinstance(x, There):
                known[id(x.here)] = x
                return x.here
            return torch.device("cpu") if x == DEVICE and isinstance(x, torch.device) else x

        where = kwargs.get("device")
        inner_args, inner_kwargs = tree_map(fetch, args), tree_map(fetch, kwargs)
        result = call(*inner_args, **inner_kwargs)
        there = where == DEVICE if where is not None else bool(known)

        def put(x):
            if not isinstance(x, torch.Tensor) or not there:
                return x
            return known.get(id(x)) if id(x) in known else There(x)

        return tree_map(put, result)


class Literals(TorchFunctionMode):
    """What is not dispatched: `torch.tensor` with a device is made here, then moved, and `tolist` the other way."""

    def __torch_function__(self, call, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if call is torch.tensor and kwargs.get("device") == DEVICE:
            del kwargs["device"]
            return call(*args, **kwargs).to(DEVICE)
        if call is torch.Tensor.tolist:
            return args[0].cpu().tolist()
        return call(*args, **kwargs)


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)  # both know real devices alone
    monkeypatch.setattr(torch, "autocast", lambda kind, enabled: nullcontext())
    with StandIn(), Literals():
        yield DEVICE


def test_the_stand_in_refuses_float64(device):
    x = torch.ones(3).to(device)
    assert x.device.type == "meta" and (x + 1).sum().item() == 6
    assert (x + 1).cpu().device.type == "cpu"
    with pytest.raises(AssertionError, match="no float64"):
        x.double()
    with pytest.raises(AssertionError, match="no float64"):
        torch.ones(3, dtype=torch.float64, device=device)


def denoiser(device, **settings):
    wanted = {"condition": "class", "classes": ("ant", "bee", "cat"), "snr_cap": 1.0, **settings}
    config = replace(tiny.DIFFUSION, **wanted)
    return tiny.awake(Diffusion(config, LAYOUT, 4), 0.1).to(device)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_needs_no_float64(device, sampler):
    diffusion, condition = (
        denoiser(device, guidance_scale=2.0).eval(),
        Condition(labels=torch.tensor([0, 2])).to(device),
    )
    diffusion.flow = student_of(diffusion).to(device)
    config = SamplingConfig(sampler=sampler, steps=4, tolerance=0.05)
    drawn = draw(diffusion, sample_seeds(0, 0, 2), condition, config)
    assert drawn.z.device.type == "meta" and drawn.z.isfinite().all().item()


def test_training_needs_no_float64(device):
    config = replace(tiny.config(), diffusion=DiffusionConfig())
    objective = DiffusionObjective(config, denoiser(device))
    batch = LatentBatch(torch.randn(2, 4, 16), torch.randn(2, 4, 16), Condition(labels=torch.tensor([0, 1])), (3, 4))
    objective(batch.to(device), 0.0)["diffusion"].backward()


def test_stage_one_and_rendering_need_no_float64(device, pictures):
    config = tiny.config()
    objective = AutoencoderObjective(config).to(device)
    batch = tiny.dataset(config.domain, pictures, "train").batch([0, 1], torch.Generator().manual_seed(0), [5, 6])
    sum(objective(batch.to(device), 0.5).values()).backward()
    pipe = DDMIPipeline(config, freeze(objective.model), freeze(denoiser(device, condition="none")))
    assert pipe(num_samples=1, seed=0, steps=2)[0].render(16).size == (16, 16)
