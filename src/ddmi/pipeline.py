"""The public pipeline: a trained model that samples, encodes and interpolates continuous signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddmi import domains
from ddmi.base import hub
from ddmi.base.errors import UserError, unknown
from ddmi.base.planes import pack, unpack
from ddmi.base.storage import MANIFEST, digest
from ddmi.config import Config
from ddmi.field import Field, fields_of
from ddmi.model import text as texts
from ddmi.model.autoencoder import D2CVAE
from ddmi.model.diffusion import Diffusion
from ddmi.model.observed import Misfit, Observations, draw_observed
from ddmi.model.sampling import Drawn, SamplingConfig, draw, sample_seeds
from ddmi.model.unet import Condition
from ddmi.pretrained import export, load_autoencoder, load_diffusion, open_folder

BEYOND = 1.1
"""How far values to encode may pass the range of the encoder, in units of it: filters overshoot, points are noisy."""

OBSERVED = 65_536
"""Evaluations of a read-out that observations keep in memory for the backward pass."""


class DDMIPipeline:
    """Samples latents, decodes them to fields.

    ```python
    pipe = DDMIPipeline.from_pretrained("runs/demo-image")
    fields = pipe(num_samples=4, seed=0, text="red apple")
    fields[0].render(512).save("apple.png")
    ```
    """

    def __init__(self, config: Config, autoencoder: D2CVAE, diffusion: Diffusion | None) -> None:
        self.config, self.autoencoder, self.diffusion = config, autoencoder, diffusion
        self._encoder: texts.TextEncoder | None = None
        self.last_evaluations: list[int] = []
        """Function evaluations of each sample of the last call (Table 12)."""
        self.folder: Path | None = None
        """The model folder that it was loaded from."""

    # loading and saving ----------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str | torch.device | None = None) -> DDMIPipeline:
        """Load a run folder, a model folder, a model that comes with the package, or one of the hub.

        Only `hub:owner/name` is looked for in the hub: a plain `owner/name` is a path, which may be mistyped. What a
        model's configuration names is never fetched: a text encoder of the hub must be in its local cache already.

        Raises:
            UserError: nothing there, a file missing or altered (named), or a model of other settings.
        """
        folder, config = open_folder(_local(path))
        pipe = cls(config, load_autoencoder(folder, config), load_diffusion(folder, config))
        pipe.folder = folder
        return pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def save_pretrained(self, path: str | Path, *, half: bool = False) -> None:
        """Write a model folder: config.json, the weights as safetensors, and a manifest with their digests.

        Args:
            half: in half precision, float16.
        """
        flow = None if self.diffusion is None else self.diffusion.flow
        export(Path(path), self.config, self.autoencoder, self.diffusion, flow, half=half)

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model folder to the hub; returns its address.

        Args:
            repository: "owner/name". token: of an account; None for the one that `hf auth login` has stored.

        Raises:
            UserError: no network, no such account, or a name that cannot be.
        """
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as scratch:
            self.save_pretrained(Path(scratch) / "model")
            with _reached(f"the hub did not take {repository}"):
                api.create_repo(repository, private=private, exist_ok=True)
                return str(api.upload_folder(repo_id=repository, folder_path=Path(scratch) / "model"))

    def to(self, device: str | torch.device) -> DDMIPipeline:
        """Move the networks."""
        self.autoencoder.to(device)
        if self.diffusion is not None:
            self.diffusion.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.autoencoder.parameters()).device

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that tell its files from those of other models; "" where it was not loaded from any."""
        return "" if self.folder is None else digest(self.folder / MANIFEST)[:16]

    def __repr__(self) -> str:
        networks = (self.autoencoder, self.diffusion)
        millions = sum(p.numel() for network in networks if network is not None for p in network.parameters()) / 1e6
        kind = {"none": "", "text": ", from text", "class": ", by class"}[self.config.diffusion.condition]
        stage = f"denoiser{kind}" if self.diffusion is not None else "no denoiser yet"
        stage += ", flow map" if self.diffusion is not None and self.diffusion.flow is not None else ""
        domain = domains.name_of(self.config.domain)
        return f"DDMIPipeline({self.config.name}: {domain}, {millions:.1f} M parameters, {stage}, {self.device})"

    # sampling --------------------------------------------------------------------------------------------------------

    def __call__(
        self,
        num_samples: int = 1,
        seed: int | None = None,
        *,
        text: str | Sequence[str] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        negative: str | None = None,
        sampling: SamplingConfig | None = None,
        observed: Observations | None = None,
        batch_size: int = 64,
        first: int = 0,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> list[Field[Any]]:
        """Samples `first` .. `first + num_samples - 1` of a seed.

        Sample k of a seed is the same function whatever the number of samples, the batch size or the size it is
        rendered at.

        Args:
            text: one prompt for all samples, or one for each. label: the same with class numbers or names.
            negative: a prompt that guidance leads away from, in the place of no prompt.
            sampling: how they are sampled; `seed` and `options`, fields of SamplingConfig (sampler, steps,
                guidance_scale, tolerance, ...), replace values of it.
            observed: what the samples agree with, up to its noise: each is sampled from the posterior. Of `sampling`,
                the steps and the guidance then count.
            batch_size: samples that are computed together.
            progress: called with (samples done, samples in all); with `observed` also for each step of a batch, as a
                part of its samples.

        Raises:
            UserError: a model without denoiser, a text for a model without text, or a value that is not allowed.
        """
        z = self.latents(
            num_samples,
            seed,
            text=text,
            label=label,
            negative=negative,
            sampling=sampling,
            observed=observed,
            batch_size=batch_size,
            first=first,
            progress=progress,
            **options,
        )
        return self.decode(z, batch_size=batch_size)

    def latents(
        self,
        num_samples: int,
        seed: int | None = None,
        *,
        text: str | Sequence[str] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        negative: str | None = None,
        sampling: SamplingConfig | None = None,
        observed: Observations | None = None,
        batch_size: int = 64,
        first: int = 0,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Float[Tensor, "b c l"]:
        """As calling the pipeline, without decoding."""
        if self.diffusion is None:
            raise UserError(
                "this model has no denoiser yet: train its second stage (--stage diffusion) before sampling"
            )
        if num_samples < 1 or batch_size < 1:
            raise UserError(f"num_samples and batch_size must be at least 1, not {num_samples} and {batch_size}")
        condition = self.condition(num_samples, text, label, negative)
        sampling = replace(sampling or SamplingConfig(), **options)
        if negative and sampling.of(self.config.diffusion).sampler == "flow":
            raise UserError("a negative prompt has no effect on the sampler flow: choose another one")
        seeds = sample_seeds(sampling.seed if seed is None else seed, first, num_samples)
        misfit = None if observed is None else self._misfit(observed)
        parts: list[Drawn] = []
        for start in range(0, num_samples, batch_size):
            rows = torch.arange(start, min(start + batch_size, num_samples))
            part = None if condition is None else condition.take(rows).to(self.device)
            own = [seeds[i] for i in rows.tolist()]
            if observed is None or misfit is None:
                parts.append(draw(self.diffusion, own, part, sampling))
            else:
                step = _shares(progress, start, len(own), num_samples)
                parts.append(draw_observed(self.diffusion, own, part, sampling, misfit, observed.values.shape, step))
            if progress:
                progress(int(rows[-1]) + 1, num_samples)
        self.last_evaluations = torch.cat([part.evaluations for part in parts]).tolist()
        return torch.cat([part.z for part in parts])

    def _misfit(self, observed: Observations) -> Misfit:
        """How far latents are from the observations, OBSERVED of which are evaluated at a time."""
        domain = self.config.domain
        seen = domain.within(observed).to(self.device)
        each = domain.evaluations * seen.coordinates[0].numel() // seen.coordinates.shape[-1]

        @torch.enable_grad()
        def misfit(z: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
            z = z.detach().requires_grad_()
            signal = self.autoencoder.decode(unpack(z, self.autoencoder.layout))
            leaf = signal.map(lambda x: x.detach()).map(lambda x: x.requires_grad_())
            loss = z.new_zeros(len(z))
            many = max(1, OBSERVED // (len(z) * each))
            for part in torch.arange(len(seen.values), device=z.device).split(many):
                value = domain.misfit(leaf, seen.take(part), jitter[:, part])
                value.sum().backward()
                loss += value.detach()
            pairs = [
                (whole[n], cut[n].grad) for whole, cut in zip(signal.fields, leaf.fields, strict=True) for n in cut
            ]
            (slope,) = torch.autograd.grad([x for x, _ in pairs], z, [slope for _, slope in pairs])
            return loss, slope

        return misfit

    def condition(
        self,
        count: int,
        text: str | Sequence[str] | None = None,
        label: int | str | Sequence[int | str] | None = None,
        negative: str | None = None,
    ) -> Condition | None:
        """The condition of `count` samples; None, for unconditional ones, where neither text nor label is given."""
        kind = self.config.diffusion.condition
        if negative and text is None:
            raise UserError("a negative prompt goes beside a prompt: give --text (text=) too")
        if text is not None and kind != "text":
            raise UserError("this model was trained without text, so --text (text=) has no meaning for it")
        if label is not None and kind != "class":
            raise UserError("this model was trained without classes, so --label (label=) has no meaning for it")
        if text is not None:
            prompts = _spread(text, count, "text")
            for prompt in prompts:
                if any("\ud800" <= character <= "\udfff" for character in prompt):  # as Python keeps other bytes
                    raise UserError(f"the text {prompt!r} is not UTF-8")
            if self._encoder is None:
                self._encoder = texts.load(self.config.diffusion.text_encoder, fetch=False)
            self._encoder.warn(prompts)
            states = self._encoder.encode(prompts)
            condition = Condition(states.tokens, states.mask)
            if negative:
                states = self._encoder.encode([negative] * count)
                condition = replace(condition, against=Condition(states.tokens, states.mask))
            return condition
        if label is not None:
            return Condition(labels=torch.tensor([self._class(value) for value in _spread(label, count, "label")]))
        return None

    def _class(self, value: int | str) -> int:
        classes = self.config.diffusion.classes
        if value in classes:
            return classes.index(str(value))
        if isinstance(value, str) and not value.isdigit():
            raise unknown("class", value, classes)
        if not 0 <= int(value) < len(classes):
            raise UserError(f"label must be from 0 to {len(classes) - 1}, not {value}")
        return int(value)

    # encoding and decoding -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "b c l"], *, batch_size: int = 64) -> list[Field[Any]]:
        """Packed latents as fields."""
        fields: list[Field[Any]] = []
        for part in z.to(self.device).split(batch_size):
            fields += fields_of(self.autoencoder.decode(unpack(part, self.autoencoder.layout)), self.config.domain)
        return fields

    def encode(self, x: Any) -> Field[Any]:
        """The field of one item of data: the mode of its posterior, decoded.

        Args:
            x: one of these.

                - A path: whatever the domain's dataset reads as one item.
                - For image models an image of PIL, or its pixels, a uint8 array (h, w), (h, w, 3) or (h, w, 4): of any
                  size, cut to its central square.
                - A tensor or array of floating-point numbers as the encoder reads it, with or without a batch axis of
                  1: an image (3, r, r), a clip (3, frames, h, w), points (n, 3), with their normals or colours (n, 6);
                  all in [-1, 1].

        Raises:
            UserError: a file that does not exist, values that are not finite or out of range, or a type or shape that
                the encoder does not read.
        """
        return self.decode(self.encode_latent(x))[0]

    def encode_latent(self, x: Any) -> Float[Tensor, "1 c l"]:
        """The packed latent of one item, given as to `encode`: the mode of its posterior."""
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            x = torch.from_numpy(np.ascontiguousarray(x))
        if isinstance(x, list | tuple):
            raise UserError("encode reads one item, not a list: name a path, an image, a tensor or an array")
        batch = self._checked(x) if isinstance(x, Tensor) else self._read(x)
        if not torch.isfinite(batch).all():
            raise UserError("what is to be encoded holds NaN or infinite values")
        return self.posterior_modes(batch.to(self.device, torch.float32))

    def _read(self, x: Any) -> Tensor:
        """What the encoder reads of a path, an image or pixels."""
        from PIL import Image

        if isinstance(x, np.ndarray):
            if x.dtype != np.uint8 or x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[2] not in (3, 4)):
                raise UserError(
                    f"an array to encode has floating-point numbers as the encoder reads them, or is an image of uint8 "
                    f"(h, w), (h, w, 3) or (h, w, 4), not {x.dtype} {x.shape}"
                )
            x = Image.fromarray(np.ascontiguousarray(x))
        elif isinstance(x, str | Path):
            if not Path(x).exists():
                raise UserError(f"{x} does not exist")
        elif not isinstance(x, Image.Image):
            raise UserError(f"a path, an image, a tensor or an array can be encoded, not {type(x).__name__}")
        try:
            domain = self.config.domain
            dataset = domain.dataset(domain.open(x), "all")
            if len(dataset) > 1:
                raise UserError(f"{x} holds {len(dataset)} items: name one")
            return dataset.inputs([0])
        except TypeError as error:
            raise UserError(f"this model's data cannot be read from {type(x).__name__}: {error}") from error

    def _checked(self, x: Tensor) -> Tensor:
        """A tensor as a batch of one."""
        axes = len(self.autoencoder.encoder.shape)
        if not x.is_floating_point():
            raise UserError(f"a tensor to encode has floating-point numbers in [-1, 1], not {x.dtype}")
        if x.dim() == axes:
            x = x[None]
        if x.dim() == 0 or len(x) != 1 or x[0].dim() != axes:
            raise UserError(f"encode reads one item, a tensor with {axes} axes, not of shape {tuple(x.shape)}")
        reach = float(x.abs().max()) if x.numel() else 0.0
        if reach > BEYOND * self.autoencoder.encoder.reach:
            raise UserError(f"a tensor to encode has numbers in [-1, 1], and these reach {reach:.4g}")
        return x

    @torch.no_grad()
    def posterior_modes(self, x: Tensor) -> Float[Tensor, "b c l"]:
        """Packed latents of a batch: the modes of their posteriors."""
        return pack(self.autoencoder.encode(x).mode, self.autoencoder.layout)

    def interpolate(self, a: Float[Tensor, "1 c l"], b: Float[Tensor, "1 c l"], count: int) -> list[Field[Any]]:
        """`count` fields on the great circle between two latents, ends included (spherical, in normalised latents)."""
        if count < 2:
            raise UserError(f"an interpolation has at least 2 frames, not {count}")
        return self.decode(torch.cat([self.between(a, b, k / (count - 1)) for k in range(count)]))

    def between(self, a: Float[Tensor, "1 c l"], b: Float[Tensor, "1 c l"], share: float) -> Float[Tensor, "1 c l"]:
        """The latent at this share of the way from a to b: 0 is a, 1 is b."""
        if self.diffusion is None:
            return slerp(a, b, share)
        return self.diffusion.restore(slerp(self.diffusion.normalise(a), self.diffusion.normalise(b), share))


def _shares(
    progress: Callable[[int, int], None] | None, start: int, count: int, samples: int
) -> Callable[[int, int], None] | None:
    """Progress within a batch as a share of its samples."""
    if progress is None:
        return None
    return lambda done, steps: progress(start + count * done // steps, samples)


def slerp(a: Float[Tensor, "1 c l"], b: Float[Tensor, "1 c l"], share: float) -> Float[Tensor, "1 c l"]:
    """Spherical interpolation (Shoemake 1985); a straight line where the two are (anti)parallel."""
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).clamp(-1, 1)
    angle = torch.acos(cosine)
    if float(torch.sin(angle)) < 1e-4:
        return torch.lerp(a, b, share)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def _spread(value: Any, count: int, name: str) -> list[Any]:
    """One value for each sample: as many as there are, or the one for all."""
    if isinstance(value, str | int):
        return [value] * count
    if len(value) != count:
        raise UserError(f"{name} has {len(value)} entries for {count} samples: give one, or one for each")
    return list(value)


def _local(path: str | Path) -> str | Path:
    """What is on this machine: the path or name itself, or a download of `hub:owner/name`."""
    name = hub.name_of(path) if isinstance(path, str) else None
    if name is None:
        return path
    from huggingface_hub import snapshot_download

    with _reached(f"the hub did not give {path}"):
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))


@contextmanager
def _reached(what: str) -> Iterator[None]:
    """Errors of the hub and of the network in one line."""
    try:
        yield
    except Exception as error:  # those of the network are of another library in each version of the hub's
        raise UserError(f"{what}: {type(error).__name__}, {str(error).partition(chr(10))[0]}".rstrip(", ")) from error
