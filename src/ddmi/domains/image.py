"""Images: omega: (x, y) -> RGB, on one latent plane."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.coordinates import check_size, check_window
from ddmi.data.pictures import PictureSource, open_pictures, split
from ddmi.domains.base import Batch, Domain, Evidence, FieldLike, Metric, Score, Split
from ddmi.encoders.image import ConvEncoderConfig, ImageEncoder
from ddmi.errors import UserError
from ddmi.losses import laplace
from ddmi.planes import Layout, Plane
from ddmi.randomness import generator
from ddmi.render.grid import picture_rows, to_pixels
from ddmi.signal import Signal

if TYPE_CHECKING:
    from PIL import Image as Pictures

log = logging.getLogger(__name__)

JUDGED = 256
"""Pictures that a metric looks at, at most."""


@dataclass(frozen=True, kw_only=True)
class Image(Domain):
    """Pictures in [-1, 1], seen by the encoder at `resolution` and scored at `resolution * scales` (section B.1).

    Args:
        source: "folder" (pictures of your own, or CIFAR-10's batches) or "emoji" (the Twemoji drawings, exact at any
            size).
        scales: target resolutions, as multiples of `resolution`; one is drawn for each batch.
        points: pixels of each target at which the read-out is evaluated in a step (Eq. 9 is an expectation over
            coordinates); 0 for a full crop of resolution x resolution.
        sampling: "points" scattered over the whole frame, or one square "patch" of about as many.
        flip: also show every picture mirrored.
        held_out: share of the pictures kept for testing.
        on_bad: what to do with a file that is no picture: "skip" it with a count, or "stop".
    """

    resolution: int = 256
    source: Literal["folder", "emoji"] = "folder"
    scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    points: int = 0
    sampling: Literal["points", "patch"] = "points"
    flip: bool = False
    held_out: float = 0.05
    on_bad: Literal["skip", "stop"] = "skip"
    encode: ConvEncoderConfig = field(default_factory=ConvEncoderConfig)

    periods = 1

    def __post_init__(self) -> None:
        factor = 2 ** (len(self.encode.multipliers) - 1)
        if self.resolution < 4 or self.resolution % factor:
            raise UserError(f"domain.resolution must be a multiple of {factor} and at least 4, not {self.resolution}")
        if not self.scales or min(self.scales) < 1:
            raise UserError(f"domain.scales must be numbers of at least 1, not {list(self.scales)}")
        if not 0 <= self.points <= self.resolution**2:
            raise UserError(f"domain.points must be from 0 (all) to {self.resolution**2}, not {self.points}")

    @property
    def layout(self) -> Layout:
        cells = self.resolution // 2 ** (len(self.encode.multipliers) - 1)
        return (Plane(name="xy", axes=(0, 1), size=(cells, cells)),)

    def encoder(self) -> ImageEncoder:
        return ImageEncoder(self.encode, "xy", self.resolution)

    def head(self, width: int) -> PixelHead:
        return PixelHead(width)

    def dataset(self, path: Any, split: Split) -> PictureDataset:  # a path, or a PIL image: a source of one
        if path is None and self.source == "emoji":
            from ddmi.data.emoji import Twemoji

            return PictureDataset(self, Twemoji(), split)
        if path is None:
            raise UserError("--data is missing: name a folder of pictures (png, jpg, webp, bmp)")
        return PictureDataset(self, open_pictures(path, on_bad=self.on_bad), split)

    def likelihood(self, signal: Signal, batch: Batch) -> Score:
        prediction = signal(batch.coordinates, batch.periods)
        loss = laplace(prediction, batch.targets)
        if batch.patch is None:
            return Score(loss)
        pictures = [values.float().transpose(1, 2).unflatten(2, batch.patch) for values in (prediction, batch.targets)]
        return Score(loss, *pictures)

    def period(self, size: tuple[int, int], window: Sequence[float]) -> float:
        """Sampling period s of a rendering: 1 at `resolution` over the whole frame, kept inside the trained range.

        Where x and y are sampled differently, their geometric mean.
        """
        spacing = [(window[2] - window[0]) / size[1], (window[3] - window[1]) / size[0]]
        period = math.sqrt(spacing[0] * spacing[1]) * self.resolution / 2
        return min(max(period, 1 / max(self.scales)), 1 / min(self.scales))

    def render(  # type: ignore[override]
        self,
        field: FieldLike,
        size: int | tuple[int, int] = 128,
        *,
        window: Sequence[float] | None = None,
        to: str | Path | None = None,
        period: float | None = None,
    ) -> Pictures.Image | Path:
        """A picture of any size, of the whole frame or of a window.

        Args:
            size: pixels, one number or (height, width).
            window: (x0, y0, x1, y1) inside [-1, 1], y down; None for the whole frame.
            to: stream into this tiled BigTIFF (.tif) instead, for sizes beyond memory; its path is returned.
            period: the sampling period that scale injection is told; None for the one of this rendering.

        Raises:
            UserError: a size below 1 or a window that leaves [-1, 1].
        """
        height, width = check_size(size)
        corners = check_window(window, 2)
        s = torch.tensor([self.period((height, width), corners) if period is None else period])
        rows = picture_rows(field, (height, width), corners, s)
        if to is not None:
            from ddmi.render.tiff import write_tiled

            return write_tiled(rows, (height, width), Path(to))
        from PIL import Image as Pictures

        return Pictures.fromarray(np.concatenate(list(rows)))

    def save(self, sample: Any, path: str | Path) -> None:
        from ddmi.render.grid import contact_sheet

        picture = contact_sheet(sample) if isinstance(sample, list | tuple) else sample
        try:
            picture.save(path)
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}: {Path(path).suffix or 'no ending'} is no picture format; use .png, .jpg, .webp or .tif"
            ) from error

    def metrics(self) -> Mapping[str, Metric]:
        return {
            "reconstruction": self._reconstruction,
            "sliced_wasserstein": self._sliced_wasserstein,
            "memorisation": self._memorisation,
        }

    def _rendered(self, fields: Sequence[FieldLike], size: int) -> Float[Tensor, "b 3 h w"]:
        pictures = [torch.from_numpy(np.array(self.render(field, size))) for field in fields]
        return to_signal(torch.stack(pictures)).permute(0, 3, 1, 2)

    def _reconstruction(self, evidence: Evidence) -> dict[str, Any]:
        """PSNR and SSIM of held-out pictures at every scale, beside bicubic enlargement of the true picture at 1x."""
        from ddmi.metrics import pixels

        held_out: PictureDataset = evidence.held_out  # type: ignore[assignment]
        indices = [group[0] for group in held_out.groups][:JUDGED]
        if not indices:
            return {}
        fields = evidence.reconstruct(held_out, indices)
        small = held_out.inputs(indices)
        exact = held_out.source.smallest is None
        scales: dict[str, dict[str, float]] = {}
        for scale in sorted({1.0, *self.scales, *((4.0,) if exact else ())}):
            size = round(self.resolution * scale)
            if not exact and size > (held_out.source.smallest or 0):
                continue
            true, drawn = held_out.pictures(indices, size), self._rendered(fields, size)
            enlarged = F.interpolate(small, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)
            decibels = pixels.psnr(drawn, true)
            error = float(decibels.std() / math.sqrt(len(indices))) if len(indices) > 1 else None
            scales[f"{scale:g}x"] = {
                "psnr": float(decibels.mean()),
                **({} if error is None else {"psnr_standard_error": error}),
                "ssim": float(pixels.ssim(drawn, true).mean()),
                **({"bicubic_psnr": float(pixels.psnr(enlarged, true).mean())} if size != self.resolution else {}),
            }
        protocol = {
            "pictures": len(indices),
            "latent": "mode",
            "truth": "drawn exactly" if exact else "resized",
            "range": "8 bit",
        }
        return {"scales": scales, "protocol": protocol}

    def _sliced_wasserstein(self, evidence: Evidence) -> dict[str, Any]:
        """Sliced Wasserstein distance of samples to training pictures (x 1000), beside that of held-out ones."""
        from ddmi.metrics.sliced import sliced_wasserstein

        if not evidence.samples or not len(evidence.held_out):
            return {}
        train: PictureDataset = evidence.train  # type: ignore[assignment]
        held_out: PictureDataset = evidence.held_out  # type: ignore[assignment]
        count = min(len(evidence.samples), len(held_out), JUDGED)
        order = train.epoch(generator(evidence.seed, "sliced"))
        real = train.pictures(order[: 4 * JUDGED], self.resolution)
        unseen = held_out.pictures(held_out.epoch(generator(evidence.seed, "sliced"))[:count], self.resolution)
        drawn = self._rendered(evidence.samples[:count], self.resolution)
        settings = {"seed": evidence.seed, "directions": 128, "patches": 64}
        return {
            "samples": sliced_wasserstein(drawn, real, **settings),
            "held_out": sliced_wasserstein(unseen, real, **settings),
            "protocol": {"samples": count, "held_out": len(unseen), "training_pictures": len(real), **settings},
        }

    def _memorisation(self, evidence: Evidence) -> dict[str, Any]:
        """Distance of samples to their nearest training pictures, against that of held-out pictures (Fig. 13)."""
        from ddmi.metrics.neighbours import memorisation, nearest

        if not evidence.samples or not len(evidence.held_out):
            return {}
        train: PictureDataset = evidence.train  # type: ignore[assignment]
        held_out: PictureDataset = evidence.held_out  # type: ignore[assignment]
        known = train.inputs(range(len(train))).flatten(1)
        drawn = self._rendered(evidence.samples, self.resolution).flatten(1)
        unseen = held_out.inputs([group[0] for group in held_out.groups]).flatten(1)
        mine, theirs = nearest(drawn, known), nearest(unseen, known)
        found = memorisation(mine.distances[:, 0], theirs.distances[:, 0])
        protocol = {"feature": "pixels", "distance": "l2", "training_pictures": len(train), "held_out": len(unseen)}
        return {**vars(found), "neighbours": mine.indices[:, 0].tolist(), "protocol": protocol}


class PixelHead(nn.Module):
    """Point features -> RGB, about [-1, 1], not clamped: the clamp belongs to the rendering."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, features: Float[Tensor, "b n c"], extras: Tensor | None = None) -> Float[Tensor, "b n 3"]:
        return self.linear(features.to(self.linear.weight.dtype))


class PictureDataset:
    """Multi-scale batches out of a source of pictures."""

    def __init__(self, domain: Image, source: PictureSource, part: Split) -> None:
        self.source = source
        self.kept = split(source, part, domain.held_out)
        kept = set(self.kept)
        position = {index: i for i, index in enumerate(self.kept)}
        self.groups = [[position[i] for i in group if i in kept] for group in source.groups]
        self.groups = [group for group in self.groups if group]
        shown = self.kept * (2 if domain.flip else 1)  # the second half is mirrored
        self.names = [source.names[i] for i in shown]
        self.captions = None if source.captions is None else [source.captions[i] for i in shown]
        self.labels = None if source.labels is None else [source.labels[i] for i in shown]
        self.classes = source.classes
        fit = tuple(
            scale
            for scale in domain.scales
            if source.smallest is None or round(domain.resolution * scale) <= source.smallest
        )
        if not fit and part == "train":
            log.warning(
                "the smallest picture has %s pixels, fewer than %s: pictures are enlarged to that resolution",
                source.smallest,
                domain.resolution,
            )
        elif len(fit) < len(domain.scales) and part == "train":
            left_out = [scale for scale in domain.scales if scale not in fit]
            log.warning("the smallest picture has %s pixels: training without the scales %s", source.smallest, left_out)
        self.domain = replace(domain, scales=fit or (1.0,))
        self.sizes = [round(domain.resolution * scale) for scale in self.domain.scales]
        source.prefetch({domain.resolution, *self.sizes})

    def __len__(self) -> int:
        return len(self.kept) * (2 if self.domain.flip else 1)

    def epoch(self, generator: torch.Generator) -> list[int]:
        """Every subject once, each as one of its variants, so that no subject outweighs the others by its variants."""
        order = torch.randperm(len(self.groups), generator=generator).tolist()
        draws = torch.rand(len(order), 2, generator=generator).tolist()
        chosen = [self.groups[g][int(u * len(self.groups[g]))] for g, (u, _) in zip(order, draws, strict=True)]
        if self.domain.flip:
            chosen = [i + len(self.kept) * (v < 0.5) for i, (_, v) in zip(chosen, draws, strict=True)]
        return chosen

    def pixels(self, index: int, size: int) -> np.ndarray:
        """Item `index` at size x size, uint8 (size, size, 3); the second half of the items are mirrored."""
        n = len(self.kept)
        picture = self.source.read(self.kept[index % n], size)
        return picture[:, ::-1] if index >= n else picture

    def pictures(self, indices: Sequence[int], size: int) -> Float[Tensor, "b 3 h w"]:
        """Items at size x size in [-1, 1]."""
        stacked = np.stack([self.pixels(i, size) for i in indices])
        return to_signal(torch.from_numpy(stacked)).permute(0, 3, 1, 2).contiguous()

    def inputs(self, indices: Sequence[int]) -> Float[Tensor, "b 3 r r"]:
        return self.pictures(indices, self.domain.resolution)

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> Batch:
        """One target resolution for the batch; in it, for each picture, a random crop, patch or set of pixels."""
        domain = self.domain
        size = self.sizes[int(torch.randint(len(self.sizes), (), generator=choice))]
        scattered = domain.points > 0 and domain.sampling == "points"
        edge = round(math.sqrt(domain.points)) if domain.points else domain.resolution
        rows, columns, targets = [], [], []
        for index, seed in zip(indices, seeds, strict=True):
            own = generator(seed, "pixels")
            if scattered:
                y, x = (torch.randint(size, (domain.points,), generator=own) for _ in range(2))
            else:
                corner = torch.randint(size - edge + 1, (2,), generator=own)
                window = torch.arange(edge)
                y, x = (t.flatten() for t in torch.meshgrid(corner[0] + window, corner[1] + window, indexing="ij"))
            rows.append(y)
            columns.append(x)
            targets.append(torch.from_numpy(self.pixels(index, size)[y.numpy(), x.numpy()]))
        at = torch.stack([torch.stack(columns), torch.stack(rows)], dim=2)  # (b, n, 2), x first
        return Batch(
            x=self.inputs(indices),
            coordinates=(2 * at + 1) / size - 1,  # the exact cell centres of the size x size grid
            targets=to_signal(torch.stack(targets)),
            periods=torch.tensor([domain.resolution / size]),
            patch=None if scattered else (edge, edge),
            seeds=tuple(seeds),
        )


def to_signal(pixels: Tensor) -> Float[Tensor, "..."]:
    """uint8 pixels to [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


__all__ = ["Image", "PictureDataset", "PixelHead", "to_pixels", "to_signal"]
