"""Images: omega: (x, y) -> RGB, on one latent plane."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ddmi.base.coordinates import check_size, check_window
from ddmi.base.errors import UserError, check_share
from ddmi.base.planes import Layout, Plane
from ddmi.data.images import ImageSource, open_images
from ddmi.domains.base import Domain, FieldLike, Formats, Metrics, PixelBatch, Score, Split
from ddmi.domains.image.dataset import ImageDataset
from ddmi.model.encoders.image import ConvEncoderConfig, ImageEncoder
from ddmi.model.losses import laplace
from ddmi.model.observed import Observations
from ddmi.model.readout import ColourHead
from ddmi.model.signal import Signal
from ddmi.rendering.grid import image_rows
from ddmi.rendering.tiff import TIFF, StreamedImage

if TYPE_CHECKING:
    from PIL import Image as PILImage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Image(Domain["PILImage.Image | StreamedImage", ImageDataset]):
    """Images in [-1, 1], seen by the encoder at `resolution` and scored at `resolution * scales` (section B.1).

    Args:
        resolution: r: the encoder reads r x r pixels; a multiple of 2^(levels of the encoder - 1).
        source: "folder" (your own images, or CIFAR-10's batches) or "emoji" (the Twemoji drawings, exact at any size).
        scales: target resolutions as multiples of `resolution`, each at least 1; each batch uses one.
        equivariance: share of the steps that decode planes of half or a quarter of the size against the image at an
            equally reduced resolution (Kouzelis et al. 2025, arXiv:2502.09509), which makes a latent that is easier to
            denoise. 0: off, as in the paper.
        points: pixels of each target at which the read-out is evaluated in a step (Eq. 9 is an expectation over
            coordinates); 0: a full crop of resolution x resolution.
        sampling: "points" scattered over the whole frame, or one square "patch" of about as many.
        flip: also train on mirrored images.
        held_out: share of the images that training never sees, where the data does not say.
        on_bad: what to do with a file that is no image: "skip" it with a warning, or "stop".
        encode: the encoder.
    """

    resolution: int = 256
    source: Literal["folder", "emoji"] = "folder"
    scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    equivariance: float = 0.0
    points: int = 0
    sampling: Literal["points", "patch"] = "points"
    flip: bool = False
    held_out: float = 0.05
    on_bad: Literal["skip", "stop"] = "skip"
    encode: ConvEncoderConfig = field(default_factory=ConvEncoderConfig)

    periods = 1
    formats = Formats(
        files=(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", *TIFF),
        sheets=(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"),
        streamed=TIFF,
        options=("window", "period"),
        views=("zoom",),
    )

    def __post_init__(self) -> None:
        self.encode.cells(self.resolution)  # raises for what it does not allow
        if not self.scales or min(self.scales) < 1:
            raise UserError(f"domain.scales must be numbers of at least 1, not {list(self.scales)}")
        check_share("domain.equivariance", self.equivariance)
        if not 0 <= self.points <= self.resolution**2:
            raise UserError(f"domain.points must be from 0 (all) to {self.resolution**2}, not {self.points}")

    @property
    def layout(self) -> Layout:
        cells = self.encode.cells(self.resolution)
        return (Plane(name="xy", axes=(0, 1), size=(cells, cells)),)

    def encoder(self) -> ImageEncoder:
        return ImageEncoder(self.encode, "xy", self.resolution)

    def head(self, width: int) -> ColourHead:
        return ColourHead(width)

    @property
    def sizes(self) -> list[int]:
        """Pixels a side of the targets, one for each of `scales`."""
        return [round(self.resolution * scale) for scale in self.scales]

    def open(self, path: Any) -> ImageSource:  # a path, or a PIL image: a source of one
        if path is None and self.source == "emoji":
            from ddmi.data.emoji import Twemoji

            drawings = Twemoji()
            drawings.prefetch({self.resolution, *self.sizes})
            return drawings
        if path is None:
            raise UserError("--data is missing: name a folder of images (png, jpg, webp, bmp)")
        return open_images(path, on_bad=self.on_bad, sizes={self.resolution, *self.sizes})

    def dataset(self, source: ImageSource, split: Split) -> ImageDataset:
        return ImageDataset(self, source, split)

    def fitted(self, source: ImageSource) -> Image:
        smallest = source.smallest
        allowed = [smallest is None or size <= smallest for size in self.sizes]
        scales = tuple(scale for scale, fits in zip(self.scales, allowed, strict=True) if fits)
        left_out = [scale for scale in self.scales if scale not in scales]
        if not scales:
            log.warning(
                "the smallest image has %s pixels, fewer than %s: images are enlarged to that resolution",
                smallest,
                self.resolution,
            )
        elif left_out:
            log.warning("the smallest image has %s pixels: training without the scales %s", smallest, left_out)
        return replace(self, scales=scales or (1.0,))

    def likelihood(self, signal: Signal, batch: PixelBatch) -> Score:
        prediction = signal(batch.coordinates, batch.periods)
        loss = laplace(prediction, batch.targets)
        if batch.patch is None:
            return Score(loss)
        prediction, target = (
            values.float().transpose(1, 2).unflatten(2, batch.patch) for values in (prediction, batch.targets)
        )
        return Score(loss, prediction, target, period=float(batch.periods[0]))

    observable = ("image", "mask", "grey", "scattered")

    def observations(self, **files: Any) -> Observations:
        """Of the pixels of `image`: those that the white part of `mask` does not hide; their `grey` alone; so many
        `scattered` ones; or of an image smaller than `resolution` all, as means of the sample's pixels.
        """
        from ddmi.domains.image.observe import observations

        given = {"mask": None, "grey": False, "scattered": None, **files}
        if "image" not in given:
            raise UserError("--image is missing: name the image to be completed")
        return observations(self.resolution, **given)

    def period(self, size: tuple[int, int], window: Sequence[float]) -> float:
        """Sampling period s of a rendering: 1 at `resolution` over the whole frame, kept inside the trained range.

        Where x and y are sampled differently, their geometric mean.
        """
        spacing = [(window[2] - window[0]) / size[1], (window[3] - window[1]) / size[0]]
        period = math.sqrt(spacing[0] * spacing[1]) * self.resolution / 2
        return min(max(period, 1 / max(self.scales)), 1 / min(self.scales))

    def render(
        self,
        field: FieldLike,
        size: int | tuple[int, int] = 128,
        *,
        window: Sequence[float] | None = None,
        period: float | None = None,
        streamed: bool = False,
    ) -> PILImage.Image | StreamedImage:
        """An image of any size, of the whole frame or of a window.

        Args:
            size: pixels, one number or (height, width).
            window: (x0, y0, x1, y1) inside [-1, 1], y down; None for the whole frame.
            period: the sampling period that scale injection receives; None for the one of this rendering.
            streamed: for sizes beyond memory: the result is computed while it is saved as a tiled BigTIFF (.tif).

        Raises:
            UserError: a size below 1 or a window that leaves [-1, 1].
        """
        height, width = check_size(size)
        corners = check_window(window, 2)
        s = torch.tensor([self.period((height, width), corners) if period is None else period])
        rows = image_rows(field, (height, width), corners, s)
        if streamed:
            return StreamedImage(rows, (height, width))
        from PIL import Image as PILImage

        return PILImage.fromarray(np.concatenate(list(rows)))

    def metrics(self) -> Metrics:
        from ddmi.domains.image.metrics import ImageMetrics

        return Metrics(
            ImageMetrics.of(self),
            quality={
                "fid": "distributions/fid",
                "frechet": "distributions/frechet",
                "kernel_distance": "distributions/kernel_distance",
                "precision": "distributions/precision",
                "recall": "distributions/recall",
                "sliced_wasserstein": "sliced_wasserstein/samples/mean",
            },
            fidelity={
                "psnr": "reconstruction/psnr",
                **{f"psnr_{scale}": f"reconstruction/scales/{scale}/psnr" for scale in ("1x", "2x")},
            },
            sized=("reconstruction", "sliced_wasserstein", "distributions", "memorisation"),
        )


__all__ = ["Image", "ImageDataset"]
