"""Metrics of radiance fields, each number beside the protocol it was taken with."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.base.coordinates import grid
from ddmi.base.randomness import generator
from ddmi.domains.base import Evidence, FieldLike, Metric
from ddmi.domains.gallery import Gallery
from ddmi.domains.nerf.camera_images import (
    NEAR,
    RAYS,
    SOLID,
    SPLAT,
    CameraImage,
    agreement,
    depth_error,
    of_cloud,
    of_field,
    of_mesh,
    orbited,
    semi_transparent,
    to_bits,
)
from ddmi.domains.nerf.dataset import ViewDataset
from ddmi.domains.nerf.field_view import SURFACE, straight
from ddmi.metrics import pixels
from ddmi.metrics.distributions import frechet, gaussian, kernel_distance
from ddmi.metrics.neighbours import memorised, nearest
from ddmi.metrics.pixels import CEILING
from ddmi.metrics.uncertainty import jackknife, mean_and_deviation
from ddmi.rendering.cameras import Camera
from ddmi.rendering.grid import to_signal
from ddmi.rendering.volume import Occupancy

if TYPE_CHECKING:
    from ddmi.domains.nerf import Nerf
    from ddmi.rendering.shader import TracedMesh

log = logging.getLogger(__name__)

RECONSTRUCTED = 16
"""Held-out objects that are reconstructed, at most; FEW of all that is reconstructed are held at a time."""
FEW = 8
VIEWS = 4
"""Views of each of them, at most."""
SHOWN = 64
"""Pixels along the longer side of the images in which samples are compared, at most."""
FINER = 2
"""Rays along a pixel's side, at most, where the true image has more pixels than that."""
PAIRED = 12
"""Samples, and held-out objects, that are rendered from a second camera, at most."""
APART = 10.0
"""Degrees between the two cameras."""
LEAST = 8
"""Held-out objects below which the distance of their images says nothing and is left out."""
TRAINING = 192
"""Training objects among which the nearest is searched, at most."""
CELLS = 16
"""Cells along each axis of the volumes that are compared in that search."""
SUBCELLS = 2
"""Points along each side of such a cell: with one, two reconstructions of one object are 1.5 times as far apart."""


class Stereo(NamedTuple):
    """An object from one camera of the data, and maybe from one beside it."""

    first: CameraImage
    second: CameraImage | None


class ViewMetrics(Gallery["Nerf"]):
    """Metrics of one piece of evidence. They share its images: each is rendered once."""

    def __init__(self, domain: Nerf, evidence: Evidence[ViewDataset]) -> None:
        super().__init__(domain, evidence)
        self.train = evidence.train
        self.held_out = evidence.held_out

    @classmethod
    def of(cls, domain: Nerf) -> Mapping[str, Metric]:
        """Name -> function."""
        return cls.shared(domain, cls.reconstruction, cls.renderings, cls.consistency, cls.opacity, cls.memorisation)

    def reconstruction(self) -> dict[str, Any]:
        """PSNR and SSIM of views of held-out objects, of which the encoder read points alone.

        `psnr_inside` counts the pixels where the true view shows the object: on the background errors are small.
        `points` needs no model: the encoder's cloud, nearest points in front. `depth_error` is the mean absolute one,
        in sides of the cube, of pixels that are opaque in truth and here; `depth_missed` is the share of the former
        that are not opaque here. Views are averaged over an object, then over objects.
        """
        held_out, background = self.held_out, self.domain.background
        indices = _evenly(len(held_out), RECONSTRUCTED)
        if not indices:
            return {}
        scores: list[dict[str, float]] = []
        points: list[dict[str, float]] = []
        views = 0
        for i, field in self._reconstructed(held_out, indices):
            mesh, cloud = _mesh(held_out, i), held_out.inputs([i])[0]
            chosen = _evenly(held_out.views(i), VIEWS)
            views += len(chosen)
            cameras = [held_out.camera(i, view) for view in chosen]
            own, splatted = [], []
            rendered = of_field(field, cameras, background)
            for image, true in zip(rendered, held_out.images(i, chosen), strict=True):
                depths = {} if mesh is None else depth_error(image, of_mesh(mesh, image.camera))
                own.append({**_score(image.colour, true, background), **depths})
                splatted.append(_score(of_cloud(cloud, image.camera, background), true, background))
            for rows, objects in ((own, scores), (splatted, points)):
                objects.append({name: sum(values) / len(values) for name, values in _columns(rows).items()})
        protocol = {
            "objects": len(indices),
            "views": views,
            "latent": "mode",
            "size": list(held_out.camera(indices[0], 0).size),
            "range": "8 bit",
            "samples_a_ray": sum(RAYS),
            "background": background,
            "highest_psnr": round(CEILING, 1),
            "points": f"the {self.domain.cloud} points that the encoder reads, {2 * SPLAT + 1}x{2 * SPLAT + 1} pixels",
            "standard_errors": "over objects",
        }
        return {**_means(_columns(scores)), "points": _means(_columns(points)), "protocol": protocol}

    def renderings(self) -> dict[str, Any]:
        """Kernel and Fréchet distance of features of samples' images to as many views of training objects.

        Each sample is rendered once, from the camera of a view of the training data, and each view is of another object
        as long as there are others. `held_out` compares views of held-out objects, one of each, with
        `as_many_samples`: the Fréchet distance of few images is larger. It is called `fid` on Inception-v3 with its
        published weights, and on nothing else.
        """
        count, seed = len(self.evidence.samples), self.evidence.seed
        if not count or not len(self.train):
            return {}
        if count < 2:
            log.warning("renderings: %d sample is too few", count)
            return {}
        real = self._features(self.views(self.train, count, "pictures"))
        own = self._features(stereo.first.colour for stereo in self.samples)
        beside = min(count, len(self.held_out))
        unseen = self._features(self.views(self.held_out, beside, "pictures")) if beside >= LEAST else own[:0]
        everything = torch.cat([real, own, unseen]).double()
        basis = torch.linalg.qr(everything.T).Q  # of the space that they span: distances stay, and few are quick
        known = gaussian(real.double() @ basis)

        def fid(features: Float[Tensor, "n f"]) -> float:
            return frechet(gaussian(features.double() @ basis), known)

        def kid(features: Float[Tensor, "n f"], others: Float[Tensor, "m f"] = real) -> float:
            return kernel_distance(others, features, size=count, seed=seed).mean

        distance = "fid" if self.seen.network.fid else "frechet"
        found: dict[str, Any] = {"kernel_distance": kid(own), distance: fid(own)}
        errors = {
            "kernel_distance": jackknife(count, lambda kept: kid(own[kept], real[kept])),
            distance: jackknife(count, lambda kept: fid(own[kept])),
        }
        found |= {f"{name}_standard_error": error for name, error in errors.items() if error is not None}
        if len(unseen):
            for name, features in (("held_out", unseen), ("as_many_samples", own[:beside])):
                found[name] = {"pictures": beside, "kernel_distance": kid(features), distance: fid(features)}
        protocol = {
            "features": self.seen.network.name,
            "samples": count,
            "training_pictures": len(real),
            "cameras": "of views of training objects, chosen at random, one a sample",
            "size": list(self.samples[0].first.camera.size),
            "samples_a_ray": sum(RAYS),
            "range": "8 bit",
            "seed": seed,
        }
        return {**found, "protocol": protocol}

    def consistency(self) -> dict[str, Any]:
        """How much colours of one point differ between two cameras: the mean absolute difference, in levels of 0..255.

        The points that one camera sees are carried into the image of another by their depth and compared where that
        sees a point at the same distance; `seen_in_both` is the share of those in its image. A radiance field has one
        shape from everywhere, so all that can differ is what its colours owe to the direction, beside what the
        interpolation between pixels costs, which `true_views`, true images from the same cameras, have too.
        Semi-transparent density of one colour is perfectly consistent: this number is no measure of quality by itself.
        """
        found: dict[str, Any] = {}
        shares: dict[str, float] = {}
        counts: dict[str, int] = {}
        for name, group in self.groups.items():
            pairs = [(a, b) for a, b in group if b is not None]
            compared = [result for result in (agreement(a, b) for a, b in pairs) if result is not None]
            if compared:
                found |= _means({name: [result.difference for result in compared]})
                shares[name] = sum(result.share for result in compared) / len(compared)
                counts |= {name: len(compared), f"{name}_without_a_point": len(pairs) - len(compared)}
        if not found:
            return {}
        about = {"degrees": APART, "same_point": f"distances within {NEAR}, opacity above {SOLID}"}
        return {**found, "seen_in_both": shares, "protocol": {**about, **counts, **self.protocol}}

    def opacity(self) -> dict[str, Any]:
        """Share of the pixels that see something (opacity above 0.1) that see through it (below 0.9).

        The borders of an object are such pixels too: `reconstructions` of held-out objects tell how many.
        """
        found: dict[str, Any] = {}
        counts: dict[str, Any] = {}
        for name in ("samples", "reconstructions"):
            group = self.groups.get(name, [])
            shares = [share for share in (semi_transparent(s.first.opacity) for s in group) if share is not None]
            if group:
                counts |= {name: len(shares), f"{name}_empty": len(group) - len(shares)}
            found |= _means({name: shares}) if shares else {}
        about = {"semi_transparent": f"opacity between {1 - SOLID:.1f} and {SOLID}"}
        return {**found, "protocol": {**about, **counts, **self.protocol}} if found else {}

    def memorisation(self) -> dict[str, Any]:
        """Distance of samples to the nearest reconstructions of training objects, against that of held-out objects.

        All are volumes of cells that hold how much of them is solid and, times that, its colour.
        """
        samples, seed = self.evidence.samples, self.evidence.seed
        if not len(samples) or not len(self.held_out) or not len(self.train):
            return {}
        seen = self.train.epoch(generator(seed, "memorisation"))[:TRAINING]
        unseen = _evenly(len(self.held_out), len(samples))
        references = _volumes(field for _, field in self._reconstructed(self.train, seen))
        mine = nearest(_volumes(samples).float(), references)  # distances have the type of the first
        theirs = nearest(_volumes(field for _, field in self._reconstructed(self.held_out, unseen)).float(), references)
        protocol = {
            "feature": f"solid part, and its colour, of {CELLS} cells along each axis",
            "solid": f"density above {SURFACE:g}, at {SUBCELLS}^3 points of a cell",
            "distance": "l2",
            "latent": "mode",
            "training_objects": len(seen),
            "held_out": len(unseen),
            "samples": len(samples),
        }
        found = memorised(mine.distances.double(), theirs.distances.double(), seed)
        return {**found, "neighbours": [seen[i] for i in mine.indices[:, 0].tolist()], "protocol": protocol}

    # what they share

    @cached_property
    def samples(self) -> list[Stereo]:
        """All samples, each from the camera of some view of a training object; the first of them from two."""
        if not len(self.train):
            return []
        chosen = self.chosen(self.train, len(self.evidence.samples), "cameras")
        cameras = [self.train.camera(item, view) for item, view in chosen]
        fields = zip(self.evidence.samples, cameras, strict=True)
        return [self._stereo(field, camera, k < PAIRED) for k, (field, camera) in enumerate(fields)]

    @cached_property
    def groups(self) -> dict[str, list[Stereo]]:
        """What there is of samples; of held-out objects' reconstructions; and of true images from the same cameras."""
        held_out = self.held_out
        chosen = self.chosen(held_out, min(len(held_out), PAIRED), "cameras")
        cameras = [held_out.camera(item, view) for item, view in chosen]
        fields = self._reconstructed(held_out, [item for item, _ in chosen])
        reconstructions = [
            self._stereo(field, camera, True) for (_, field), camera in zip(fields, cameras, strict=True)
        ]
        true_views = []
        for (item, _), camera in zip(chosen, cameras, strict=True):
            if (mesh := _mesh(held_out, item)) is not None:
                true_views.append(Stereo(*(of_mesh(mesh, place) for place in _beside(camera))))
        found = {"samples": self.samples, "reconstructions": reconstructions, "true_views": true_views}
        return {name: group for name, group in found.items() if group}

    @property
    def protocol(self) -> dict[str, Any]:
        """Of the images in `groups`."""
        return {
            "cameras": "of views of the data, chosen at random",
            "size": list(next(iter(self.groups.values()))[0].first.camera.size),
            "samples_a_ray": sum(RAYS),
            "latent": "mode",
            "seed": self.evidence.seed,
        }

    def views(self, dataset: ViewDataset, count: int, name: str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """True views of objects, chosen at random and shrunk as those of samples are."""
        for item, view in self.chosen(dataset, count, name):
            true = dataset.images(item, [view])[0]
            size, _ = small(true.shape[:2])
            if size != true.shape[:2]:
                values = torch.from_numpy(true).permute(2, 0, 1)[None].float() / 255
                values = F.interpolate(values, size, mode="bicubic", antialias=True, align_corners=False)
                true = to_bits(values[0].permute(1, 2, 0))
            yield true

    def chosen(self, dataset: ViewDataset, count: int, name: str) -> list[tuple[int, int]]:
        """(item, view) at random, no item twice before all others were there."""
        own = generator(self.evidence.seed, "views", name)
        order = dataset.epoch(own)
        items = [order[k % len(order)] for k in range(count)]
        return [(item, int(torch.randint(dataset.views(item), (), generator=own))) for item in items]

    def _features(self, images: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "n f"]:
        """What the network sees in images; they need not be of one size."""
        alike = groupby(images, key=lambda image: image.shape)
        return self.seen.of(torch.cat([_signal(image) for image in group]) for _, group in alike)

    def _stereo(self, field: FieldLike, camera: Camera, twice: bool) -> Stereo:
        _, finer = small(camera.size)
        first, *second = of_field(field, _beside(camera)[: 1 + twice], self.domain.background, finer)
        return Stereo(first, second[0] if second else None)

    def _reconstructed(self, dataset: ViewDataset, indices: Sequence[int]) -> Iterator[tuple[int, FieldLike]]:
        """Items and their fields, of which only a few are held at a time."""
        for start in range(0, len(indices), FEW):
            part = indices[start : start + FEW]
            yield from zip(part, self.evidence.reconstruct(dataset, part), strict=True)


def volume(field: FieldLike) -> Float[Tensor, "4 z y x"]:
    """How much of each cell is solid, and that times its red, green and blue in [0, 1]."""
    size = (CELLS * SUBCELLS,) * 3
    points = grid(size)
    asked = ~Occupancy(field, CELLS).skip(points)
    values = torch.zeros(len(points), 4)
    values[asked] = field(points[asked], None, straight(points[asked])).float().cpu()
    solid = (values[:, 3:] > SURFACE).float()
    return F.avg_pool3d(torch.cat([solid, solid * values[:, :3]], dim=1).T.unflatten(1, size), SUBCELLS)


def small(size: tuple[int, ...]) -> tuple[tuple[int, int], int]:
    """The size of images in which samples are compared with those of this size, and rays along a pixel's side."""
    height, width = size
    scale = max(1.0, max(height, width) / SHOWN)
    return (max(1, round(height / scale)), max(1, round(width / scale))), min(FINER, math.ceil(scale))


def _volumes(fields: Iterable[FieldLike]) -> Float[Tensor, "n f"]:
    return torch.stack([volume(field).flatten().half() for field in fields])


def _beside(camera: Camera) -> list[Camera]:
    """A camera at the size of comparisons, and the one beside it."""
    first = camera.resized(small(camera.size)[0])
    return [first, orbited(first, APART)]


def _mesh(dataset: ViewDataset, index: int) -> TracedMesh | None:
    """What can be rendered from anywhere: procedural furniture."""
    from ddmi.domains.nerf.photography import FurnitureViews

    if not isinstance(dataset.source, FurnitureViews):
        return None
    from ddmi.rendering.shader import TracedMesh

    return TracedMesh(dataset.source.furniture.mesh(dataset.kept[index]))


def _score(image: UInt8[np.ndarray, "h w 3"], true: UInt8[np.ndarray, "h w 3"], background: float) -> dict[str, float]:
    """PSNR in dB and SSIM of a view, and PSNR where the true one shows the object, if it does."""
    a, b = _signal(image), _signal(true)
    found = {"psnr": float(pixels.psnr(a, b).clamp(max=CEILING)), "ssim": float(pixels.ssim(a, b))}
    inside = (true != round(255 * background)).any(axis=2)
    if inside.any():
        a, b = _signal(image[inside][None]), _signal(true[inside][None])
        found["psnr_inside"] = float(pixels.psnr(a, b).clamp(max=CEILING))
    return found


def _signal(image: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
    """8 bits to [-1, 1]."""
    return to_signal(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def _columns(scores: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """The values of each number, of those that have it."""
    names = dict.fromkeys(name for score in scores for name in score)
    return {name: [score[name] for score in scores if name in score] for name in names}


def _means(columns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means of independent numbers, each with its standard error where there are two or more."""
    found: dict[str, float] = {}
    for name, values in columns.items():
        found[name], deviation = mean_and_deviation(values)
        if deviation is not None:
            found[f"{name}_standard_error"] = deviation / math.sqrt(len(values))
    return found


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers 0 ... count - 1, evenly spread."""
    return [k * count // min(count, most) for k in range(min(count, most))]
