"""Metrics of clips, each number beside the protocol it was taken with."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.coordinates import axis, mesh
from ddmi.base.errors import MissingPackage
from ddmi.base.randomness import generator
from ddmi.domains.base import Evidence, FieldLike, Metric
from ddmi.domains.gallery import Gallery, Renderings
from ddmi.domains.video.dataset import VideoDataset
from ddmi.metrics import pixels
from ddmi.metrics.distributions import frechet, gaussian, kernel_distance
from ddmi.metrics.features.cache import FeatureCache
from ddmi.metrics.neighbours import memorised, nearest
from ddmi.metrics.pixels import CEILING
from ddmi.metrics.sliced import sliced_clips
from ddmi.metrics.uncertainty import bootstrap, jackknife, share_error
from ddmi.rendering.grid import to_pixels, to_signal

if TYPE_CHECKING:
    from ddmi.domains.video import Video

log = logging.getLogger(__name__)

RECONSTRUCTED = 64
"""Held-out windows that are reconstructed, at most; FEW of them are held at a time."""
FEW = 4
MEASURED = 256
"""Samples, and held-out windows, whose patches are compared, at most; of training windows four times as many."""
COMPARED = 2048
"""Training windows, and held-out ones, that features and motion are taken of, at most."""
LEAST = 8
"""Held-out windows below which their distance to the training windows says nothing and is left out."""
SEARCHED = 10_000
"""Training windows among which the nearest is searched, at most."""
SEEN = 4
"""Frames of a clip, and differences of frames, that the network of images sees."""
EXACT = 16
"""Held-out windows that are compared with exact clips, at most."""
FINER = (2, 4)
"""Multiples of the encoder's size, and of its frame rate, at which they are."""
THUMBNAIL = (8, 16, 16)
"""Frames, rows and columns to which clips are shrunk before the nearest is searched."""
SUBSETS = 25
"""Random subsets of a kernel distance, for each of the SEEN frames."""
PUBLISHED = 2048
"""Clips of both sets in published Fréchet video distances, and frames of each (Skorokhodov et al. 2022)."""
PUBLISHED_FRAMES = 16
BATCH = 8
"""Clips that are held as numbers at a time."""


class Score(NamedTuple):
    """Of the frames of one window, averaged; PSNR in dB."""

    psnr: float
    ssim: float


class VideoMetrics(Gallery["Video"]):
    """Metrics of one piece of evidence. They share its clips, which are rendered or read once, as the encoder's are."""

    def __init__(self, domain: Video, evidence: Evidence[VideoDataset]) -> None:
        super().__init__(domain, evidence)
        self.train_data = evidence.train
        self.held_out_data = evidence.held_out
        self.seed = evidence.seed

    @classmethod
    def of(cls, domain: Video) -> Mapping[str, Metric]:
        """Name -> function."""
        finer = (cls.exact,) if domain.source == "emoji" else ()
        own = (cls.motion, cls.sliced_wasserstein, cls.distributions, cls.memorisation)
        return cls.shared(domain, cls.reconstruction, *finer, *own)

    @cached_property
    def samples(self) -> Renderings:
        """All samples at the size and frame rate of the encoder."""
        domain, fields = self.domain, self.evidence.samples
        shape = (domain.frames, *domain.size)
        return Renderings(
            lambda k: domain.render(fields[k], domain.size, frames=domain.frames).array(),
            len(fields),
            shape,
            self.evidence.cache,
        )

    @cached_property
    def train(self) -> Renderings:
        """Training windows, in the order of an epoch."""
        return self._windows("train", self.train_data)

    @cached_property
    def held_out(self) -> Renderings:
        """Held-out windows, chosen likewise."""
        return self._windows("held_out", self.held_out_data)

    def _order(self, part: str, dataset: VideoDataset) -> list[int]:
        return dataset.epoch(generator(self.seed, "windows", part))

    def _windows(self, part: str, dataset: VideoDataset) -> Renderings:
        indices = self._order(part, dataset)[:COMPARED]
        return Renderings(
            lambda k: to_pixels(dataset.inputs([indices[k]])[0].permute(1, 2, 3, 0)),
            len(indices),
            (self.domain.frames, *self.domain.size),
            self.evidence.cache,
        )

    @cached_property
    def i3d(self) -> FeatureCache | None:
        """The network of FVD; None where its weights were not given."""
        from ddmi.metrics.features.i3d import I3D

        file = self.evidence.evaluators.get("i3d")
        return FeatureCache(I3D.load(file), self.evidence.device, self.evidence.cache) if file else None

    def reconstruction(self) -> dict[str, Any]:
        """PSNR and SSIM of held-out windows: `seen` at the encoder's frames, `left_out` at those of the source between.

        Both at the encoder's size; `scales` at larger ones. Beside them what needs no model: `time_mean`, the mean of
        the true frames that the encoder saw, at every time; for the frames between, `blend`, the true neighbours
        mixed in proportion; at larger scales `bicubic`, the true frames at 1x enlarged. Frames are scored one by one
        and averaged over a window, then over windows; `clips` is the PSNR of `seen`, clip by clip.
        """
        held_out, count = self.held_out_data, min(len(self.held_out_data), RECONSTRUCTED)
        if not count:
            return {}
        indices = [k * len(held_out) // count for k in range(count)]
        scales = sorted({1.0, *held_out.domain.scales})
        scores: dict[tuple[float, str, str], list[Score]] = defaultdict(list)
        for start in range(0, count, FEW):
            part = indices[start : start + FEW]
            for index, field in zip(part, self.evidence.reconstruct(held_out, part), strict=True):
                for scale in scales:
                    for frames, source, score in self._compared(field, index, scale):
                        scores[scale, frames, source].append(score)
        clips = [held_out.source.names[held_out.window(i).clip] for i in indices]
        result: dict[float, dict[str, Any]] = {scale: {} for scale in scales}
        for (scale, frames, source), found in scores.items():
            summary = _summary(found, clips)
            if source == "model":
                result[scale][frames] = summary
            else:
                result[scale][frames][source] = {name: summary[name] for name in Score._fields}
        larger = {f"{scale:g}x": result[scale] for scale in scales if scale != 1}
        own: dict[str, list[float]] = defaultdict(list)
        for clip, score in zip(clips, scores[1.0, "seen", "model"], strict=True):
            own[clip].append(score.psnr)
        protocol = {
            "windows": count,
            "clips": len(own),
            "latent": "mode",
            "size": list(held_out.domain.size),
            "frames": held_out.domain.frames,
            "stride": held_out.domain.stride,
            "range": "8 bit",
            "highest_psnr": round(CEILING, 1),
            "standard_errors": "over clips" if len(own) > 1 else "over the windows of one clip",
        }
        return {
            **result[1.0],
            **({"scales": larger} if larger else {}),
            "clips": [{"clip": clip, "psnr": sum(values) / len(values)} for clip, values in own.items()],
            "protocol": protocol,
        }

    def _compared(self, field: FieldLike, index: int, scale: float) -> Iterator[tuple[str, str, Score]]:
        """Scores of one reconstructed window and of what needs no model: (which frames, whose, score)."""
        dataset = self.held_out_data
        seen, rate = dataset.truth(index, scale), dataset.domain.stride
        size = (seen.shape[2], seen.shape[3])
        mean = seen.mean(dim=0, keepdim=True)
        yield "seen", "model", _score(frames_at(self.domain, field, dataset.times(), size), seen)
        yield "seen", "time_mean", _score(mean.expand_as(seen), seen)
        if scale != 1:
            enlarged = F.interpolate(dataset.truth(index), size, mode="bicubic", align_corners=False)
            yield "seen", "bicubic", _score(enlarged, seen)
        known = dataset.offsets()
        between = [k for k in dataset.offsets(rate) if known[0] < k < known[-1] and k not in known]
        if between:
            true = dataset.pixels(dataset.window(index), between, scale)
            rendered = frames_at(self.domain, field, dataset.times(rate)[between], size, rate)
            behind = torch.tensor(between) - known[0]
            before, part = behind // rate, (behind % rate / rate)[:, None, None, None]
            yield "left_out", "model", _score(rendered, true)
            yield "left_out", "time_mean", _score(mean.expand_as(true), true)
            yield "left_out", "blend", _score(torch.lerp(seen[before], seen[before + 1], part), true)

    def exact(self) -> dict[str, Any]:
        """PSNR and SSIM of held-out windows at 2 and 4 times the size and the frame rate, against the exact clip.

        `sizes` are of a few of the encoder's frames, beside the true ones enlarged by bicubic interpolation; `rates` of
        a few frames between them, beside a blend of the two true neighbours.
        """
        dataset = self.held_out_data
        if not len(dataset):
            return {}
        indices = _evenly(len(dataset), EXACT).tolist()
        scores: dict[tuple[str, str], list[tuple[Score, Score]]] = defaultdict(list)
        for index in indices:
            (field,) = self.evidence.reconstruct(dataset, [index])
            for factor in FINER:
                compared = self._finer(index, field, factor)
                for kind, pair in zip(("sizes", "rates"), compared, strict=True):
                    scores[kind, f"{factor}x"].append(pair)
        result: dict[str, dict[str, Any]] = {"sizes": {}, "rates": {}}
        for (kind, name), pairs in scores.items():
            model, simple = (_summary([pair[k] for pair in pairs], [str(i) for i in indices]) for k in range(2))
            without = {key: simple[key] for key in Score._fields}
            result[kind][name] = {**model, {"sizes": "bicubic", "rates": "blend"}[kind]: without}
        protocol = {"windows": len(indices), "frames": SEEN, "latent": "mode", "range": "8 bit"}
        return {**result, "protocol": protocol | {"size": list(self.domain.size), "trained": list(self.domain.scales)}}

    def _finer(self, index: int, field: FieldLike, factor: int) -> Iterator[tuple[Score, Score]]:
        """(model, what needs no model): at larger size, then at higher frame rate."""
        dataset, domain = self.held_out_data, self.domain
        window, known = dataset.window(index), dataset.times()

        def true(times: Float[Tensor, " k"], scale: int) -> Float[Tensor, "k 3 h w"]:
            frames = ((times.double() + 1) * domain.frames - 1) / 2 * domain.stride + dataset.offsets()[0]
            return dataset.pixels(window, frames.tolist(), scale)

        times = known[_evenly(len(known), SEEN)]
        large, size = true(times, factor), (domain.size[0] * factor, domain.size[1] * factor)
        enlarged = F.interpolate(true(times, 1), size, mode="bicubic", align_corners=False)
        yield _score(frames_at(domain, field, times, size), large), _score(enlarged, large)

        between = axis(domain.frames * factor)
        between = between[(between > known[0]) & (between < known[-1])]
        between = between[_evenly(len(between), SEEN)]
        place = (between - known[0]) / (known[1] - known[0])
        before, truth, seen = place.long(), true(between, 1), true(known, 1)
        blend = torch.lerp(seen[before], seen[before + 1], (place - before)[:, None, None, None])
        yield _score(frames_at(domain, field, between, domain.size, factor), truth), _score(blend, truth)

    def motion(self) -> dict[str, Any]:
        """How much frames differ from the next: the mean absolute change in 8-bit levels, over clips.

        `ratio` is the mean of the samples over that of training windows. `still` is the share of samples that change
        less than 95 % of the training windows do, which is 0.05 for real ones.
        """
        if self.domain.frames < 2 or not len(self.train):
            return {}
        known = _change(self.train)
        calm = known.quantile(0.05)
        result: dict[str, Any] = {"training": _spread(known)}
        protocol: dict[str, Any] = {"change": "mean absolute difference of successive frames, in levels of 0..255"}
        protocol |= {"frames": self.domain.frames, "training_windows": len(known)}
        for name, before, clips in (("samples", "", self.samples), ("held_out", "held_out_", self.held_out)):
            if not len(clips):
                continue
            own = _change(clips)
            still = float((own < calm).double().mean())
            result[name] = _spread(own)
            result |= {f"{before}still": still, f"{before}still_standard_error": share_error(still, len(own))}
            if known.mean() > 0:
                result[f"{before}ratio"] = float(own.mean() / known.mean())
                error = bootstrap([own, known], lambda a, b: float(a.mean() / b.mean()), seed=self.seed)
                result |= {} if error is None else {f"{before}ratio_standard_error": error}
            protocol[name] = len(own)
        return {**result, "protocol": protocol}

    def sliced_wasserstein(self) -> dict[str, Any]:
        """Sliced Wasserstein distance of space-time patches to training windows (x 1000), beside held-out ones.

        Small sets are further away: `held_out` compares with `as_many_samples`. `differences` is the same of
        differences of frames: frames in a wrong order, or blended ones, show only there.
        """
        if not len(self.samples) or not len(self.train):
            return {}
        count, real = min(len(self.samples), MEASURED), min(len(self.train), 4 * MEASURED)
        beside = min(count, len(self.held_out))
        settings = {"seed": self.seed, "directions": 128, "patches": 64}
        sets = {"samples": (self.samples, count)}
        if beside:
            sets |= {"held_out": (self.held_out, beside), "as_many_samples": (self.samples, beside)}

        def distances(moved: int) -> dict[str, Any]:
            def clips(chosen: Renderings, number: int) -> Iterator[Tensor]:
                return (x.diff(n=moved, dim=2) for x in chosen.batches(number, BATCH))

            return {name: sliced_clips(clips(*own), clips(self.train, real), **settings) for name, own in sets.items()}

        protocol = {"samples": count, "held_out": beside, "training_windows": real, "patch": "4 frames of 7x7 pixels"}
        differences = {"differences": distances(1)} if self.domain.frames > 1 else {}
        return {**distances(0), **differences, "protocol": {**protocol, **settings}}

    def distributions(self) -> dict[str, Any]:
        """Kernel distances of features of frames, and of differences of frames, to training windows; FVD with I3D.

        A clip's frames are alike, so each kernel distance compares one frame of every clip, the k-th of the samples
        with the k-th of the data, and is averaged over four k: with several frames of a clip in one set it would not
        be unbiased. Differences, (next - frame) / 2, show motion alone. These are no FVD and no FID. `fvd` needs the
        weights of I3D as an evaluator.
        """
        count, real = len(self.samples), len(self.train)
        if not count:
            return {}
        if min(count, real) < 2:
            log.warning("distributions: %d samples and %d windows are too few", count, real)
            return {}
        i3d = self.i3d  # loaded first: a wrong file is an error before any work
        found: dict[str, Any] = {}
        protocol: dict[str, Any] = {
            "samples": count,
            "training_windows": real,
            "held_out": len(self.held_out),
            "size": list(self.domain.size),
            "range": "8 bit",
            "seed": self.seed,
        }
        try:
            protocol["features"] = self.seen.network.name
            for name in ("frames", "differences")[: self.domain.frames]:
                known = self._frames(name, "train", self.train)
                found[name] = {
                    "kernel_distance": _kernel_distance(known, self._frames(name, "", self.samples), self.seed)
                }
                if len(self.held_out) >= LEAST:
                    unseen = self._frames(name, "held_out", self.held_out)
                    found[name]["held_out"] = _kernel_distance(known, unseen, self.seed)
            protocol["frames_a_clip"] = min(SEEN, self.domain.frames)
        except MissingPackage as error:
            if i3d is None:
                raise
            log.warning("distributions without those of frames: %s", error)
        if i3d is not None:
            found |= self._fvd(i3d)
            protocol["fvd"] = {
                "network": i3d.network.name,
                "weights": self.evidence.evaluators["i3d"],
                "frames": self.domain.frames,
                "clips": count,
                "training_clips": real,
                "as": f"StyleGAN-V: {PUBLISHED:,} clips of {PUBLISHED_FRAMES} frames, 8 bit, resized to 224x224",
            }
        return {**found, "protocol": protocol}

    def _frames(self, kind: str, part: str, clips: Renderings) -> Float[Tensor, "n k f"]:
        """Features of a few frames of each clip, or of a few differences of successive ones; data has a part."""

        def chosen(x: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b k 3 h w"]:
            x = x if kind == "frames" else x.diff(dim=2) / 2
            return x[:, :, _evenly(x.shape[2], SEEN)].transpose(1, 2)

        batches = (chosen(x).flatten(0, 1) for x in clips.batches(size=BATCH))
        protocol = {"frames": SEEN, "kind": kind}
        found = self.seen.kept(part, protocol, clips.digest, batches) if part else self.seen.of(batches)
        return found.unflatten(0, (len(clips), -1))

    def _fvd(self, i3d: FeatureCache) -> dict[str, Any]:
        """Fréchet distance of I3D's logits, of all samples, and of as many held-out windows and samples."""
        count, real = len(self.samples), len(self.train)
        if min(count, real) < PUBLISHED or self.domain.frames != PUBLISHED_FRAMES:
            log.warning(
                "fvd of %d samples and %d training windows of %d frames: published ones are of %d clips of %d frames, "
                "and fewer clips give larger distances",
                *(count, real, self.domain.frames, PUBLISHED, PUBLISHED_FRAMES),
            )
        known = gaussian(i3d.kept("train", {}, self.train.digest, self.train.batches(size=BATCH)))
        generated = i3d.of(self.samples.batches(size=BATCH))
        found: dict[str, Any] = {"fvd": frechet(gaussian(generated), known)}
        error = jackknife(count, lambda kept: frechet(gaussian(generated[kept]), known))
        if error is not None:
            found["fvd_standard_error"] = error
        beside = min(count, len(self.held_out))
        if beside >= LEAST:
            unseen = i3d.kept("held_out", {}, self.held_out.digest, self.held_out.batches(size=BATCH))[:beside]
            found["fvd_of_as_many"] = {
                "clips": beside,
                "held_out": frechet(gaussian(unseen), known),
                "samples": frechet(gaussian(generated[:beside]), known),
            }
        return found

    def memorisation(self) -> dict[str, Any]:
        """Distance of samples to their nearest training windows, against that of held-out windows, as small clips."""
        if not len(self.samples) or not len(self.held_out) or not len(self.train):
            return {}
        indices = self._order("train", self.train_data)[:SEARCHED]
        parts = (self.train_data.inputs(indices[k : k + BATCH]) for k in range(0, len(indices), BATCH))
        references = torch.cat([_thumbnails(x) for x in parts])
        mine, theirs = (
            nearest(torch.cat([_thumbnails(x) for x in clips.batches(size=BATCH)]).float(), references)
            for clips in (self.samples, self.held_out)
        )
        frames, height, width = _thumbnail(self.domain.frames, *self.domain.size)
        protocol = {
            "feature": f"pixels of {frames} frames of {width}x{height}",
            "distance": "l2",
            "training_windows": len(indices),
            "held_out": len(self.held_out),
            "samples": len(self.samples),
        }
        found = memorised(mine.distances.double(), theirs.distances.double(), self.seed)
        return {**found, "neighbours": [indices[i] for i in mine.indices[:, 0].tolist()], "protocol": protocol}


def frames_at(
    domain: Video, field: FieldLike, times: Float[Tensor, " k"], size: tuple[int, int], rate: int = 1
) -> Float[Tensor, "k 3 h w"]:
    """Frames of a field at these times of [-1, 1], 8-bit values in [-1, 1].

    `rate` is how many frames are rendered for one of the encoder's; the temporal period follows from it.
    """
    height, width = size
    periods = domain.told(size, (-1.0, -1.0, 1.0, 1.0), 2 / (domain.frames * rate))
    lines = [axis(width), axis(height)]
    rendered = [to_pixels(field(mesh([*lines, t[None]]), periods)).reshape(height, width, 3) for t in times]
    return to_signal(np.stack(rendered)).permute(0, 3, 1, 2)


def _score(a: Float[Tensor, "k 3 h w"], b: Float[Tensor, "k 3 h w"]) -> Score:
    a = (a.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1  # 8 bits, as rendered frames
    return Score(float(pixels.psnr(a, b).clamp_max(CEILING).mean()), float(pixels.ssim(a, b).mean()))


def _kernel_distance(real: Float[Tensor, "n k f"], other: Float[Tensor, "m k f"], seed: int) -> float:
    """The mean over the k frames of a clip of the distance between the sets of those frames."""
    pairs = zip(real.unbind(1), other.unbind(1), strict=True)
    parts = [kernel_distance(a, b, subsets=SUBSETS, seed=seed).mean for a, b in pairs]
    return sum(parts) / len(parts)


def _summary(scores: Sequence[Score], clips: Sequence[str]) -> dict[str, float]:
    """Means over windows, with standard errors."""
    found: dict[str, float] = {}
    for name in Score._fields:
        values = torch.tensor([getattr(score, name) for score in scores], dtype=torch.float64)
        found[name] = float(values.mean())
        error = _clustered_error(values, clips)
        if error is not None:
            found[f"{name}_standard_error"] = error
    return found


def _clustered_error(values: Float[Tensor, " n"], clips: Sequence[str]) -> float | None:
    """Standard error of a mean over windows, of which those of one clip are alike (Liang and Zeger 1986).

    sqrt(C / (C - 1)) / n times the root of the sum over the C clips of their squared sums of deviations. With one
    window a clip that is the usual standard error. The windows of one clip alone count as independent.
    """
    groups = list(clips) if len(set(clips)) > 1 else [str(k) for k in range(len(clips))]
    sums: dict[str, float] = defaultdict(float)
    for group, deviation in zip(groups, (values - values.mean()).tolist(), strict=True):
        sums[group] += deviation
    count = len(sums)
    if count < 2:
        return None
    return math.sqrt(count / (count - 1) * sum(v**2 for v in sums.values())) / len(values)


def _change(clips: Renderings) -> Float[Tensor, " n"]:
    """Mean absolute difference of successive frames of each clip, in levels of 0..255."""
    parts = [x.diff(dim=2).abs().mean(dim=(1, 2, 3, 4)) * 127.5 for x in clips.batches(size=BATCH)]
    return torch.cat(parts).double()


def _spread(values: Float[Tensor, " n"]) -> dict[str, float]:
    low, median, high = values.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)).tolist()
    return {"mean": float(values.mean()), "median": median, "percentile_5": low, "percentile_95": high}


def _evenly(count: int, shown: int) -> Tensor:
    """At most `shown` of the numbers 0 ... count - 1, evenly spread from the first to the last."""
    return torch.linspace(0, count - 1, min(shown, count)).round().long()


def _thumbnail(frames: int, height: int, width: int) -> tuple[int, int, int]:
    return min(frames, THUMBNAIL[0]), min(height, THUMBNAIL[1]), min(width, THUMBNAIL[2])


def _thumbnails(x: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b f"]:
    """Clips shrunk in space, and of their frames a few."""
    size = _thumbnail(*x.shape[2:])
    return F.adaptive_avg_pool3d(x[:, :, _evenly(x.shape[2], size[0])], size).flatten(1).half()
