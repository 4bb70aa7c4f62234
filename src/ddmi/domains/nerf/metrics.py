"""How radiance fields are evaluated; every number beside the protocol it was taken with."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from ddmi.domains.nerf.dataset import ViewDataset
from ddmi.domains.nerf.shot import SURFACE, straight
from ddmi.metrics import pixels
from ddmi.metrics.distributions import frechet, gaussian, kernel_distance
from ddmi.metrics.neighbours import memorisation, nearest
from ddmi.metrics.pixels import CEILING
from ddmi.metrics.uncertainty import bootstrap, jackknife
from ddmi.rendering.cameras import Camera
from ddmi.rendering.grid import to_signal
from ddmi.rendering.volume import Occupancy, render_field

if TYPE_CHECKING:
    from ddmi.domains.nerf import Nerf
    from ddmi.rendering.shader import TracedMesh

log = logging.getLogger(__name__)

RECONSTRUCTED = 16
"""Held-out objects that are reconstructed, at most; FEW of all that is reconstructed are held at a time."""
FEW = 8
VIEWS = 4
"""Views of each of them, at most."""
RAYS = (48, 24)
"""Samples along a ray: evenly spread ones, and those where these found something."""
GRID = 32
"""Cells along each axis of the grid that tells where a field is empty: that of `render` costs more than a picture."""
SPLAT = 1
"""A point of a cloud covers its pixel and so many more on each side."""
SHOWN = 64
"""Pixels along the longer side of the pictures in which samples are compared, at most."""
FINER = 2
"""Rays along a pixel's side, at most, where the true picture has more pixels than that."""
PAIRED = 12
"""Samples, and held-out objects, that are looked at from a second camera, at most."""
APART = 10.0
"""Degrees between the two cameras."""
SOLID = 0.9
"""Opacity from which a pixel shows one point; and below 1 - SOLID it is empty."""
NEAR = 0.05
"""Two cameras see the same point where their distances to it differ by less: 2.5 % of the cube's side."""
LEAST = 8
"""Held-out objects below which the distance of their pictures says nothing and is left out."""
TRAINING = 192
"""Training objects among which the nearest is searched, at most."""
CELLS = 16
"""Cells along each axis of the volumes that are compared in that search."""
SUBCELLS = 2
"""Points along each side of such a cell: with one, two reconstructions of one object are 1.5 times as far apart."""
BATCH = 8
"""Pictures that the feature network sees at a time."""
SMALLEST = 32
"""Pixels a side below which pictures are enlarged for it."""
SIDE = 2.0
"""Of the cube: the unit of depth errors."""


class ViewMetrics:
    """The metrics of a domain of radiance fields. Those that look at the same evidence share its pictures."""

    def __init__(self, domain: Nerf) -> None:
        self.domain = domain
        self._last: Album | None = None

    @property
    def all(self) -> Mapping[str, Metric]:
        """Name -> function."""
        return {
            "reconstruction": self.reconstruction,
            "renderings": self.renderings,
            "consistency": self.consistency,
            "opacity": self.opacity,
            "memorisation": self.memorisation,
        }

    def album(self, evidence: Evidence) -> Album:
        """The pictures of this evidence."""
        if self._last is None or self._last.evidence is not evidence:
            self._last = Album(self.domain, evidence)
        return self._last

    def reconstruction(self, evidence: Evidence) -> dict[str, Any]:
        """PSNR and SSIM of views of held-out objects, of which the encoder read points alone.

        `psnr_inside` counts the pixels where the true view shows the object: on the background errors are small.
        `points` needs no model: the encoder's cloud, nearest points in front. `depth_error` is the mean absolute one,
        in sides of the cube, of pixels that are opaque in truth and here; `depth_missed` is the share of the former
        that are not opaque here. Views are averaged over an object, then over objects.
        """
        held_out: ViewDataset = evidence.held_out  # type: ignore[assignment]
        indices = _evenly(len(held_out), RECONSTRUCTED)
        if not indices:
            return {}
        scores: dict[str, list[dict[str, float]]] = {"model": [], "points": []}
        views, behind = 0, self.domain.background
        for i, field in _reconstructed(evidence, held_out, indices):
            subject, cloud = _subject(held_out, i), held_out.inputs([i])[0]
            chosen = _evenly(held_out.views(i), VIEWS)
            views += len(chosen)
            cameras = [held_out.camera(i, view) for view in chosen]
            drawn, splatted = [], []
            for seen, true in zip(looks(self.domain, field, cameras), held_out.pictures(i, chosen), strict=True):
                drawn.append(_score(seen.colour, true, behind))
                splatted.append(_score(splat(cloud, seen.camera, behind), true, behind))
                if subject is not None:
                    drawn[-1] |= depth_error(seen, photographed(subject, seen.camera))
            scores["model"].append(_mean(drawn))
            scores["points"].append(_mean(splatted))
        protocol = {
            "objects": len(indices),
            "views": views,
            "latent": "mode",
            "size": list(held_out.camera(indices[0], 0).size),
            "range": "8 bit",
            "samples_a_ray": sum(RAYS),
            "background": behind,
            "highest_psnr": round(CEILING, 1),
            "points": f"the {self.domain.cloud} points that the encoder reads, {2 * SPLAT + 1}x{2 * SPLAT + 1} pixels",
            "standard_errors": "over objects",
        }
        return {**_summary(scores["model"]), "points": _mean(scores["points"]), "protocol": protocol}

    def renderings(self, evidence: Evidence) -> dict[str, Any]:
        """Kernel and Fréchet distance of features of samples' pictures to as many views of training objects.

        Each sample is drawn once, from the camera of a view of the training data, and each view is of another object
        as long as there are others. `held_out` compares views of held-out objects, one of each, with
        `as_many_samples`: the Fréchet distance of few pictures is larger. It is called `fid` on Inception-v3 with its
        published weights, and on nothing else.
        """
        album = self.album(evidence)
        count = len(evidence.samples)
        if not count or not len(album.train):
            return {}
        if count < 2:
            log.warning("renderings: %d sample is too few", count)
            return {}
        real = album.features(album.views(album.train, count, "pictures"))
        drawn = album.features(shown.first.colour for shown in album.samples)
        beside = min(count, len(album.held_out))
        unseen = album.features(album.views(album.held_out, beside, "pictures")) if beside >= LEAST else drawn[:0]
        everything = torch.cat([real, drawn, unseen]).double()
        basis = torch.linalg.qr(everything.T).Q  # of the space that they span: distances stay, and few are quick
        known = gaussian(real.double() @ basis)

        def far(features: Float[Tensor, "n f"]) -> float:
            return frechet(gaussian(features.double() @ basis), known)

        def near(features: Float[Tensor, "n f"], others: Float[Tensor, "m f"] = real) -> float:
            return kernel_distance(others, features, size=count, seed=evidence.seed).mean

        distance = "fid" if album.network.fid else "frechet"
        found: dict[str, Any] = {"kernel_distance": near(drawn), distance: far(drawn)}
        errors = {
            "kernel_distance": jackknife(count, lambda kept: near(drawn[kept], real[kept])),
            distance: jackknife(count, lambda kept: far(drawn[kept])),
        }
        found |= {f"{name}_standard_error": error for name, error in errors.items() if error is not None}
        if len(unseen):
            for name, features in (("held_out", unseen), ("as_many_samples", drawn[:beside])):
                found[name] = {"pictures": beside, "kernel_distance": near(features), distance: far(features)}
        protocol = {
            "features": album.network.name,
            "samples": count,
            "training_pictures": len(real),
            "cameras": "of views of training objects, drawn at random, one a sample",
            "size": list(album.samples[0].first.camera.size),
            "samples_a_ray": sum(RAYS),
            "range": "8 bit",
            "seed": evidence.seed,
        }
        return {**found, "protocol": protocol}

    def consistency(self, evidence: Evidence) -> dict[str, Any]:
        """How much colours of one point differ between two cameras: the mean absolute difference, in levels of 0..255.

        The points that one camera sees are carried into the picture of another by their depth and compared where that
        sees a point at the same distance; `seen_in_both` is the share of those in its picture. A radiance field has
        one shape from everywhere, so all that can differ is what its colours owe to the direction, beside what the
        interpolation between pixels costs, which `true_views`, photographs from the same cameras, have too. Fog of one
        colour is perfectly consistent: this number is no measure of quality by itself.
        """
        album = self.album(evidence)
        found: dict[str, Any] = {}
        shares, protocol = {}, {"degrees": APART, "same_point": f"distances within {NEAR}, opacity above {SOLID}"}
        for name, group in album.groups:
            pairs = [shown for shown in group if shown.second is not None]
            compared = [pair for pair in (agreement(a, b) for a, b in pairs if b is not None) if pair is not None]
            if not compared:
                continue
            found |= _moments(name, [pair.difference for pair in compared])
            shares[name] = sum(pair.share for pair in compared) / len(compared)
            protocol |= {name: len(compared), f"{name}_without_a_point": len(pairs) - len(compared)}
        if not found:
            return {}
        return {**found, "seen_in_both": shares, "protocol": {**protocol, **album.protocol}}

    def opacity(self, evidence: Evidence) -> dict[str, Any]:
        """Share of fog: of the pixels that see something (opacity above 0.1), those that see through it (below 0.9).

        The borders of an object are such pixels too: `reconstructions` of held-out objects tell how many.
        """
        album = self.album(evidence)
        found: dict[str, Any] = {}
        protocol: dict[str, Any] = {"fog": f"opacity between {1 - SOLID:.1f} and {SOLID}"}
        for name, group in album.groups:
            if name == "true_views":
                continue
            shares = [share for share in (foggy(shown.first.opacity) for shown in group) if share is not None]
            protocol |= {name: len(shares), f"{name}_empty": len(group) - len(shares)}
            found |= _moments(name, shares) if shares else {}
        return {**found, "protocol": {**protocol, **album.protocol}} if found else {}

    def memorisation(self, evidence: Evidence) -> dict[str, Any]:
        """Distance of samples to the nearest reconstructions of training objects, against that of held-out objects.

        All are volumes of cells that hold how much of them is solid and, times that, its colour.
        """
        train: ViewDataset = evidence.train  # type: ignore[assignment]
        held_out: ViewDataset = evidence.held_out  # type: ignore[assignment]
        if not len(evidence.samples) or not len(held_out) or not len(train):
            return {}
        seen = train.epoch(generator(evidence.seed, "memorisation"))[:TRAINING]
        unseen = _evenly(len(held_out), len(evidence.samples))
        references = _stacked(field for _, field in _reconstructed(evidence, train, seen))
        mine = nearest(_stacked(evidence.samples).float(), references)  # distances have the type of the first
        theirs = nearest(_stacked(f for _, f in _reconstructed(evidence, held_out, unseen)).float(), references)
        a, b = mine.distances[:, 0].double(), theirs.distances[:, 0].double()
        error = bootstrap([a, b], lambda x, y: memorisation(x, y).ratio, seed=evidence.seed)
        protocol = {
            "feature": f"solid part, and its colour, of {CELLS} cells along each axis",
            "solid": f"density above {SURFACE:g}, at {SUBCELLS}^3 points of a cell",
            "distance": "l2",
            "latent": "mode",
            "training_objects": len(seen),
            "held_out": len(b),
            "samples": len(a),
        }
        found = {**vars(memorisation(a, b)), **({} if error is None else {"ratio_standard_error": error})}
        return {**found, "neighbours": [seen[i] for i in mine.indices[:, 0].tolist()], "protocol": protocol}


@dataclass(frozen=True, eq=False)
class Look:
    """What a camera of this size sees: 8-bit colours, opacity, distance along the ray (0 where there is nothing)."""

    camera: Camera
    colour: UInt8[np.ndarray, "h w 3"]
    opacity: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]


def looks(domain: Nerf, field: FieldLike, cameras: Iterable[Camera], finer: int = 1) -> list[Look]:
    """What cameras see of a field, with so many rays along a pixel's side."""
    found, device = [], getattr(field, "device", torch.device("cpu"))
    occupancy = Occupancy(field, GRID)
    for camera in cameras:
        (height, width), (even, fine) = camera.size, RAYS
        shot = domain.render(field, (height * finer, width * finer), camera=camera, samples=even, fine=fine)
        view = render_field(field, shot.camera.to(device), shot.quadrature, occupancy=occupancy)
        far = view.opacity * view.depth
        values = torch.cat([view.colour, view.opacity[..., None], far[..., None]], dim=2).permute(2, 0, 1).cpu()
        *colour, opacity, far = F.avg_pool2d(values[None], finer)[0]
        found.append(Look(camera, _bits(torch.stack(colour, dim=2)), opacity, far / opacity.clamp(min=1e-6)))
    return found


class Shown(NamedTuple):
    """An object from one camera of the data, and maybe from one beside it."""

    first: Look
    second: Look | None


class Album:
    """The pictures of one piece of evidence, each drawn when it is first asked for, and their features."""

    def __init__(self, domain: Nerf, evidence: Evidence) -> None:
        self.domain, self.evidence = domain, evidence
        self.train: ViewDataset = evidence.train  # type: ignore[assignment]
        self.held_out: ViewDataset = evidence.held_out  # type: ignore[assignment]

    @cached_property
    def samples(self) -> list[Shown]:
        """All samples, each from the camera of some view of a training object; the first of them from two."""
        if not len(self.train):
            return []
        chosen = self._chosen(self.train, len(self.evidence.samples), "cameras")
        places = [self.train.camera(item, view) for item, view in chosen]
        fields = zip(self.evidence.samples, places, strict=True)
        return [self._shown(field, camera, k < PAIRED) for k, (field, camera) in enumerate(fields)]

    @cached_property
    def reconstructions(self) -> list[Shown]:
        """Held-out objects, from two cameras each."""
        fields = _reconstructed(self.evidence, self.held_out, [item for item, _ in self._others])
        places = (self.held_out.camera(item, view) for item, view in self._others)
        return [self._shown(field, camera, True) for (_, field), camera in zip(fields, places, strict=True)]

    @cached_property
    def true_views(self) -> list[Shown]:
        """Photographs from the same cameras; none where the source cannot take any."""
        found = []
        for item, view in self._others:
            subject, camera = _subject(self.held_out, item), self.held_out.camera(item, view)
            if subject is not None:
                small = camera.resized(_small(camera.size)[0])
                found.append(Shown(*(photographed(subject, place) for place in (small, orbited(small, APART)))))
        return found

    @property
    def groups(self) -> Iterator[tuple[str, list[Shown]]]:
        """What there is of samples, reconstructions and true views."""
        for name in ("samples", "reconstructions", "true_views"):
            if group := getattr(self, name):
                yield name, group

    @property
    def protocol(self) -> dict[str, Any]:
        """Of these pictures."""
        shown = (self.samples or self.reconstructions)[0]
        told = "of views of the data, drawn at random"
        return {
            "cameras": told,
            "size": list(shown.first.camera.size),
            "samples_a_ray": sum(RAYS),
            "latent": "mode",
            "seed": self.evidence.seed,
        }

    def views(self, dataset: ViewDataset, count: int, name: str) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """True views of objects, drawn at random and shrunk as those of samples are."""
        for item, view in self._chosen(dataset, count, name):
            true = dataset.pictures(item, [view])[0]
            size, _ = _small(true.shape[:2])
            if size != true.shape[:2]:
                values = torch.from_numpy(true).permute(2, 0, 1)[None].float() / 255
                values = F.interpolate(values, size, mode="bicubic", antialias=True, align_corners=False)
                true = _bits(values[0].permute(1, 2, 0))
            yield true

    @cached_property
    def network(self) -> Any:
        """The feature network that was asked for."""
        from ddmi.metrics import features

        network: Any = features.load(self.evidence.features)
        return network.to(self.evidence.device)

    @torch.no_grad()
    def features(self, pictures: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "n f"]:
        """What the network sees in pictures; they need not be of one size."""
        found = []
        for _, group in groupby(pictures, key=lambda picture: picture.shape):
            x = torch.cat([_signal(picture) for picture in group])
            if min(x.shape[-2:]) < SMALLEST:
                size = [max(side, SMALLEST) for side in x.shape[-2:]]
                x = F.interpolate(x, size, mode="bicubic", align_corners=False).clamp(-1, 1)
            found += [self.network(few).float().cpu() for few in x.to(self.evidence.device).split(BATCH)]
        return torch.cat(found)

    @cached_property
    def _others(self) -> list[tuple[int, int]]:
        return self._chosen(self.held_out, min(len(self.held_out), PAIRED), "cameras")

    def _chosen(self, dataset: ViewDataset, count: int, name: str) -> list[tuple[int, int]]:
        """(item, view) at random, no item twice before all others were there."""
        own = generator(self.evidence.seed, "views", name)
        order = dataset.epoch(own)
        items = [order[k % len(order)] for k in range(count)]
        return [(item, int(torch.randint(dataset.views(item), (), generator=own))) for item in items]

    def _shown(self, field: FieldLike, camera: Camera, twice: bool) -> Shown:
        size, finer = _small(camera.size)
        small = camera.resized(size)
        first, *second = looks(self.domain, field, [small, orbited(small, APART)][: 1 + twice], finer)
        return Shown(first, second[0] if second else None)


class Agreement(NamedTuple):
    """Of two cameras: mean absolute difference of colours in 8-bit levels, and the share of points both see."""

    difference: float
    share: float


def agreement(one: Look, other: Look) -> Agreement | None:
    """Colours of the points that one camera sees, in the other's picture; None where no point is in both."""
    origins, directions = one.camera.rays()
    seen = one.opacity.flatten() > SOLID
    points = (origins + one.depth.flatten()[:, None] * directions)[seen]
    places, distances = project(other.camera, points)
    height, width = other.camera.size
    where = 2 * places / places.new_tensor([width, height]) - 1
    there = (where.abs() <= 1).all(dim=1) & (distances > 0)
    known = [torch.from_numpy(other.colour).float(), other.opacity[..., None], other.depth[..., None]]
    values = torch.cat(known, dim=2).permute(2, 0, 1)[None]
    found = F.grid_sample(values, where[None, None], align_corners=False)[0, :, 0].T
    both = there & (found[:, 3] > SOLID) & ((found[:, 4] - distances).abs() < NEAR)
    if not both.any():
        return None
    mine = torch.from_numpy(one.colour).float().flatten(0, 1)[seen]
    difference = (found[both, :3] - mine[both]).abs().mean()
    return Agreement(float(difference), float(both.sum() / there.sum()))


def project(camera: Camera, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """(column, row) of points in a picture, and their distance from the camera, negative for those behind it."""
    pose = camera.pose.to(points)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    ahead = -local[:, 2]
    x, y = camera.middle
    across = local[:, :2] / torch.where(ahead == 0, 1e-9, ahead)[:, None] * camera.focal
    places = torch.stack([x + across[:, 0], y - across[:, 1]], dim=1)
    return places, local.norm(dim=1) * ahead.sign()


def orbited(camera: Camera, degrees: float) -> Camera:
    """The camera moved around the origin, about the axis that points upwards in its picture, and turned with it."""
    x, y, z = (math.radians(degrees) * camera.pose[:3, 1].double()).tolist()
    around = torch.eye(4, dtype=torch.float64)
    around[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    return replace(camera, pose=(around @ camera.pose.double()).to(camera.pose))


def splat(cloud: Float[Tensor, "n 6"], camera: Camera, background: float) -> UInt8[np.ndarray, "h w 3"]:
    """A cloud of points (xyz, then rgb in [-1, 1]) as squares of a few pixels, near ones in front of far ones."""
    (height, width), (places, distances) = camera.size, project(camera, cloud[:, :3])
    order = distances.argsort(descending=True)
    order = order[distances[order] > 0]
    line = torch.arange(-SPLAT, SPLAT + 1)
    around = torch.cartesian_prod(line, line)
    column, row = (places[order].floor().long()[:, None] + around).flatten(0, 1).T.numpy()
    there = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    colours = _bits((cloud[order, 3:] + 1) / 2).repeat(len(around), axis=0)
    picture = np.full((height, width, 3), round(255 * background), np.uint8)
    picture[row[there], column[there]] = colours[there]  # of those at one place the last, the nearest, stays
    return picture


def photographed(subject: TracedMesh, camera: Camera) -> Look:
    """The truth, where it can be asked for."""
    from ddmi.rendering.shader import render_view

    taken = render_view(subject, camera)
    return Look(camera, taken.colour, torch.from_numpy(taken.opacity), torch.from_numpy(taken.depth))


def depth_error(drawn: Look, true: Look) -> dict[str, float]:
    """Mean absolute error of the depth in sides of the cube, and the share of true pixels without one."""
    solid = true.opacity > SOLID
    both = solid & (drawn.opacity > SOLID)
    missed = {"depth_missed": 1 - float(both.sum() / solid.sum())} if solid.any() else {}
    if not both.any():
        return missed
    return {"depth_error": float((drawn.depth - true.depth)[both].abs().mean() / SIDE), **missed}


def foggy(opacity: Float[Tensor, "h w"]) -> float | None:
    """Share of the pixels that see something that see through it; None where all are empty."""
    seen = opacity > 1 - SOLID
    return float((opacity[seen] < SOLID).double().mean()) if seen.any() else None


def volume(field: FieldLike) -> Float[Tensor, "4 z y x"]:
    """How much of each cell is solid, and that times its red, green and blue in [0, 1]."""
    size = (CELLS * SUBCELLS,) * 3
    points = grid(size)
    asked = ~Occupancy(field, CELLS).skip(points)
    values = torch.zeros(len(points), 4)
    values[asked] = field(points[asked], None, straight(points[asked])).float().cpu()
    solid = (values[:, 3:] > SURFACE).float()
    return F.avg_pool3d(torch.cat([solid, solid * values[:, :3]], dim=1).T.unflatten(1, size), SUBCELLS)


def _stacked(fields: Iterable[FieldLike]) -> Float[Tensor, "n f"]:
    return torch.stack([volume(field).flatten().half() for field in fields])


def _reconstructed(evidence: Evidence, dataset: ViewDataset, indices: Sequence[int]) -> Iterator[tuple[int, FieldLike]]:
    """Items and their fields, of which only a few are held at a time."""
    for start in range(0, len(indices), FEW):
        part = indices[start : start + FEW]
        yield from zip(part, evidence.reconstruct(dataset, part), strict=True)


def _subject(dataset: ViewDataset, index: int) -> TracedMesh | None:
    """What can be photographed from anywhere: furniture made by rule."""
    from ddmi.domains.nerf.photography import FurnitureViews

    if not isinstance(dataset.source, FurnitureViews):
        return None
    from ddmi.rendering.shader import TracedMesh

    return TracedMesh(dataset.source.furniture.mesh(dataset.kept[index]))


def _score(drawn: UInt8[np.ndarray, "h w 3"], true: UInt8[np.ndarray, "h w 3"], background: float) -> dict[str, float]:
    """PSNR in dB and SSIM of a view, and PSNR where the true one shows the object, if it does."""
    a, b = _signal(drawn), _signal(true)
    found = {"psnr": _capped(pixels.psnr(a, b)), "ssim": float(pixels.ssim(a, b))}
    inside = (true != round(255 * background)).any(axis=2)
    if inside.any():
        mine, theirs = (_signal(picture[inside][None]) for picture in (drawn, true))
        found["psnr_inside"] = _capped(pixels.psnr(mine, theirs))
    return found


def _capped(decibels: Float[Tensor, "1"]) -> float:
    return min(float(decibels), CEILING)


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each number, over those that have it."""
    names = dict.fromkeys(name for score in scores for name in score)
    values = {name: [score[name] for score in scores if name in score] for name in names}
    return {name: sum(known) / len(known) for name, known in values.items()}


def _summary(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over objects, with standard errors."""
    found: dict[str, float] = {}
    for name in _mean(scores):
        found |= _moments(name, [score[name] for score in scores if name in score])
    return found


def _moments(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean of independent numbers and its standard error."""
    told = torch.tensor(values, dtype=torch.float64)
    error = {f"{name}_standard_error": float(told.std()) / math.sqrt(len(told))} if len(told) > 1 else {}
    return {name: float(told.mean()), **error}


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of the numbers 0 ... count - 1, evenly spread."""
    return [k * count // min(count, most) for k in range(min(count, most))]


def _small(size: tuple[int, ...]) -> tuple[tuple[int, int], int]:
    """The size of pictures in which samples are compared with those of this size, and rays along a pixel's side."""
    height, width = size
    scale = max(1.0, max(height, width) / SHOWN)
    return (max(1, round(height / scale)), max(1, round(width / scale))), min(FINER, math.ceil(scale))


def _bits(colours: Float[Tensor, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """[0, 1] to 8 bits."""
    return (255 * colours.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()


def _signal(picture: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
    """8 bits to [-1, 1]."""
    return to_signal(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
