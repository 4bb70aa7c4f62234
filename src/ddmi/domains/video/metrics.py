"""How clips are evaluated; every number beside the protocol it was taken with."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ddmi.base.coordinates import axis, mesh
from ddmi.base.errors import MissingPackage
from ddmi.base.randomness import generator
from ddmi.base.storage import unnamed
from ddmi.domains.base import Evidence, FieldLike, Metric
from ddmi.domains.video.dataset import VideoDataset
from ddmi.metrics import pixels
from ddmi.metrics.distributions import frechet, gaussian, kernel_distance
from ddmi.metrics.neighbours import memorisation, nearest
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
JUDGED = 256
"""Samples, and held-out windows, whose patches are compared, at most; of training windows four times as many."""
COMPARED = 2048
"""Training windows, and held-out ones, that features and motion are taken of, at most."""
LEAST = 8
"""Held-out windows below which their distance to the training windows says nothing and is left out."""
SEARCHED = 10_000
"""Training windows among which the nearest is searched, at most."""
SEEN = 4
"""Frames of a clip, and differences of frames, that the network of pictures sees."""
THUMBNAIL = (8, 16, 16)
"""Frames, rows and columns to which clips are shrunk before the nearest is searched."""
SUBSETS = 25
"""Random subsets of a kernel distance, for each of the SEEN frames."""
PUBLISHED = 2048
"""Clips of both sets in published Fréchet video distances, and frames of each (Skorokhodov et al. 2022)."""
PUBLISHED_FRAMES = 16
BATCH = 8
"""Clips that are held as numbers at a time."""
IN_MEMORY = 1 << 30
"""Bytes of 8-bit clips beyond which they are kept in a file without a name instead."""
SMALLEST = 32
"""Pixels a side below which frames are enlarged for a network of pictures."""


class VideoMetrics:
    """The metrics of a domain of clips. Those that look at the same evidence share its clips and features."""

    def __init__(self, domain: Video) -> None:
        self.domain = domain
        self._last: Screening | None = None

    @property
    def all(self) -> Mapping[str, Metric]:
        """Name -> function."""
        return {
            "reconstruction": self.reconstruction,
            "motion": self.motion,
            "sliced_wasserstein": self.sliced_wasserstein,
            "distributions": self.distributions,
            "memorisation": self.memorisation,
        }

    def screening(self, evidence: Evidence) -> Screening:
        """The clips of this evidence."""
        if self._last is None or self._last.evidence is not evidence:
            self._last = Screening(self.domain, evidence)
        return self._last

    def reconstruction(self, evidence: Evidence) -> dict[str, Any]:
        """PSNR and SSIM of held-out windows: `seen` at the encoder's frames, `left_out` at those of the source between.

        Both at the encoder's size; `scales` at larger ones. Beside them what needs no model: `time_mean`, the mean of
        the true frames that the encoder saw, at every time; for the frames between, `blend`, the true neighbours
        mixed in proportion; at larger scales `bicubic`, the true frames at 1x enlarged. Frames are scored one by one
        and averaged over a window, then over windows; `clips` is the PSNR of `seen`, clip by clip.
        """
        held_out: VideoDataset = evidence.held_out  # type: ignore[assignment]
        count = min(len(held_out), RECONSTRUCTED)
        indices = [k * len(held_out) // count for k in range(count)]
        if not indices:
            return {}
        scales = sorted({1.0, *held_out.domain.scales})
        scores: dict[tuple[float, str, str], list[Score]] = defaultdict(list)
        for start in range(0, count, FEW):
            part = indices[start : start + FEW]
            for index, field in zip(part, evidence.reconstruct(held_out, part), strict=True):
                for scale in scales:
                    for frames, source, score in self._compared(field, held_out, index, scale):
                        scores[scale, frames, source].append(score)
        clips = [held_out.source.names[held_out.window(i).clip] for i in indices]
        result: dict[float, dict[str, Any]] = {scale: {} for scale in scales}
        for (scale, frames, source), found in scores.items():
            if source == "model":
                result[scale][frames] = _summary(found, clips)
            else:
                result[scale][frames][source] = {
                    name: v for name, v in _summary(found, clips).items() if "_" not in name
                }
        larger = {f"{scale:g}x": result[scale] for scale in scales if scale != 1}
        own: dict[str, list[float]] = defaultdict(list)
        for clip, score in zip(clips, scores[1.0, "seen", "model"], strict=True):
            own[clip].append(score.psnr)
        domain = held_out.domain
        protocol = {
            "windows": count,
            "clips": len(own),
            "latent": "mode",
            "size": list(domain.size),
            "frames": domain.frames,
            "stride": domain.stride,
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

    def _compared(
        self, field: FieldLike, dataset: VideoDataset, index: int, scale: float
    ) -> Iterator[tuple[str, str, Score]]:
        """Scores of one reconstructed window and of what needs no model: (which frames, whose, score)."""
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
            drawn = frames_at(self.domain, field, dataset.times(rate)[between], size, rate)
            behind = torch.tensor(between) - known[0]
            before, part = behind // rate, (behind % rate / rate)[:, None, None, None]
            yield "left_out", "model", _score(drawn, true)
            yield "left_out", "time_mean", _score(mean.expand_as(true), true)
            yield "left_out", "blend", _score(torch.lerp(seen[before], seen[before + 1], part), true)

    def motion(self, evidence: Evidence) -> dict[str, Any]:
        """How much frames differ from the next: the mean absolute change in 8-bit levels, over clips.

        `ratio` is the mean of the samples over that of training windows. `still` is the share of samples that change
        less than 95 % of the training windows do, which is 0.05 for real ones.
        """
        shown = self.screening(evidence)
        if self.domain.frames < 2 or not len(shown.train):
            return {}
        known = shown.change(shown.train)
        calm = known.quantile(0.05)
        result: dict[str, Any] = {"training": _spread(known)}
        protocol: dict[str, Any] = {"change": "mean absolute difference of successive frames, in levels of 0..255"}
        protocol |= {"frames": self.domain.frames, "training_windows": len(known)}
        for name, reel in (("samples", shown.samples), ("held_out", shown.held_out)):
            if not len(reel):
                continue
            own = shown.change(reel)
            before = "" if name == "samples" else "held_out_"
            still = float((own < calm).double().mean())
            result[name] = _spread(own)
            result |= {f"{before}still": still, f"{before}still_standard_error": share_error(still, len(own))}
            if known.mean() > 0:
                result[f"{before}ratio"] = float(own.mean() / known.mean())
                error = bootstrap([own, known], lambda a, b: float(a.mean() / b.mean()), seed=evidence.seed)
                result |= {} if error is None else {f"{before}ratio_standard_error": error}
            protocol[name] = len(own)
        return {**result, "protocol": protocol}

    def sliced_wasserstein(self, evidence: Evidence) -> dict[str, Any]:
        """Sliced Wasserstein distance of space-time patches to training windows (x 1000), beside held-out ones.

        Small sets are further away: `held_out` compares with `as_many_samples`. `differences` is the same of
        differences of frames: frames in a wrong order, or blended ones, show only there.
        """
        shown = self.screening(evidence)
        if not len(shown.samples) or not len(shown.train):
            return {}
        count, real = min(len(shown.samples), JUDGED), min(len(shown.train), 4 * JUDGED)
        beside = min(count, len(shown.held_out))
        settings = {"seed": evidence.seed, "directions": 128, "patches": 64}
        sets = {"samples": (shown.samples, count)}
        if beside:
            sets |= {"held_out": (shown.held_out, beside), "as_many_samples": (shown.samples, beside)}

        def distances(moved: int) -> dict[str, dict[str, float]]:
            def clips(reel: Reel, number: int) -> Iterator[Tensor]:
                return (x.diff(n=moved, dim=2) for x in reel.batches(number))

            return {
                name: sliced_clips(clips(*chosen), clips(shown.train, real), **settings)
                for name, chosen in sets.items()
            }

        protocol = {"samples": count, "held_out": beside, "training_windows": real, "patch": "4 frames of 7x7 pixels"}
        differences = {"differences": distances(1)} if self.domain.frames > 1 else {}
        return {**distances(0), **differences, "protocol": {**protocol, **settings}}

    def distributions(self, evidence: Evidence) -> dict[str, Any]:
        """Kernel distances of features of frames, and of differences of frames, to training windows; FVD with I3D.

        A clip's frames are alike, so each kernel distance compares one frame of every clip, the k-th of the samples
        with the k-th of the data, and is averaged over four k: with several frames of a clip in one set it would not
        be unbiased. Differences, (next - frame) / 2, show motion alone. These are no FVD and no FID. `fvd` needs the
        weights of I3D as a judge.
        """
        shown = self.screening(evidence)
        if not len(shown.samples):
            return {}
        if min(len(shown.samples), len(shown.train)) < 2:
            log.warning("distributions: %d samples and %d windows are too few", len(shown.samples), len(shown.train))
            return {}
        evaluated = shown.i3d is not None  # loaded first: a wrong file is told before any work
        found: dict[str, Any] = {}
        protocol: dict[str, Any] = {
            "samples": len(shown.samples),
            "training_windows": len(shown.train),
            "held_out": len(shown.held_out),
            "size": list(self.domain.size),
            "range": "8 bit",
            "seed": evidence.seed,
        }
        try:
            found = self._kernel_distances(shown)
            protocol |= {"features": shown.network.name, "frames_a_clip": min(SEEN, self.domain.frames)}
        except MissingPackage as error:
            if not evaluated:
                raise
            log.warning("distributions without those of frames: %s", error)
        if evaluated:
            found |= self._fvd(shown)
            protocol["fvd"] = {
                "network": shown.i3d.name,
                "weights": evidence.evaluators["i3d"],
                "frames": self.domain.frames,
                "clips": len(shown.samples),
                "training_clips": len(shown.train),
                "as": f"StyleGAN-V: {PUBLISHED:,} clips of {PUBLISHED_FRAMES} frames, 8 bit, resized to 224x224",
            }
        return {**found, "protocol": protocol}

    def _kernel_distances(self, shown: Screening) -> dict[str, Any]:
        real, drawn = shown.features(shown.train), shown.features(shown.samples)
        unseen = shown.features(shown.held_out) if len(shown.held_out) >= LEAST else {}
        seed, found = shown.evidence.seed, {}
        for name, features in drawn.items():
            found[name] = {"kernel_distance": _kernel_distance(real[name], features, seed)}
            if unseen:
                found[name]["held_out"] = _kernel_distance(real[name], unseen[name], seed)
        return found

    def _fvd(self, shown: Screening) -> dict[str, Any]:
        """Fréchet distance of I3D's logits, of all samples, and of as many held-out windows and samples."""
        count, real = len(shown.samples), len(shown.train)
        if min(count, real) < PUBLISHED or self.domain.frames != PUBLISHED_FRAMES:
            log.warning(
                "fvd of %d samples and %d training windows of %d frames: published ones are of %d clips of %d frames, "
                "and fewer clips give larger distances",
                *(count, real, self.domain.frames, PUBLISHED, PUBLISHED_FRAMES),
            )
        known, drawn = gaussian(shown.logits(shown.train)), shown.logits(shown.samples)
        found: dict[str, Any] = {"fvd": frechet(gaussian(drawn), known)}
        error = jackknife(count, lambda kept: frechet(gaussian(drawn[kept]), known))
        if error is not None:
            found["fvd_standard_error"] = error
        beside = min(count, len(shown.held_out))
        if beside >= LEAST:
            unseen = shown.logits(shown.held_out)[:beside]
            found["fvd_of_as_many"] = {
                "clips": beside,
                "held_out": frechet(gaussian(unseen), known),
                "samples": frechet(gaussian(drawn[:beside]), known),
            }
        return found

    def memorisation(self, evidence: Evidence) -> dict[str, Any]:
        """Distance of samples to their nearest training windows, against that of held-out windows, as small clips."""
        shown = self.screening(evidence)
        if not len(shown.samples) or not len(shown.held_out) or not len(shown.train):
            return {}
        indices = shown.order("train", shown.train_data)[:SEARCHED]
        parts = (shown.train_data.inputs(indices[k : k + BATCH]) for k in range(0, len(indices), BATCH))
        references = _thumbnails(parts)
        mine = nearest(_thumbnails(shown.samples.batches()).float(), references)
        theirs = nearest(_thumbnails(shown.held_out.batches()).float(), references)
        a, b = mine.distances[:, 0].double(), theirs.distances[:, 0].double()
        error = bootstrap([a, b], lambda x, y: memorisation(x, y).ratio, seed=evidence.seed)
        frames, height, width = _thumbnail(self.domain.frames, *self.domain.size)
        protocol = {
            "feature": f"pixels of {frames} frames of {width}x{height}",
            "distance": "l2",
            "training_windows": len(indices),
            "held_out": len(b),
            "samples": len(a),
        }
        found = {**vars(memorisation(a, b)), **({} if error is None else {"ratio_standard_error": error})}
        return {**found, "neighbours": [indices[i] for i in mine.indices[:, 0].tolist()], "protocol": protocol}


class Reel:
    """8-bit clips of one size, in their order, each made when it is first asked for and then kept."""

    def __init__(
        self,
        make: Callable[[int], UInt8[np.ndarray, "t h w 3"]],
        count: int,
        shape: tuple[int, int, int],
        folder: Path | None,
    ) -> None:
        self.make, self.done = make, 0
        whole = (count, *shape, 3)
        if math.prod(whole) <= IN_MEMORY:
            self.kept: np.ndarray = np.empty(whole, np.uint8)
            return
        self.kept = unnamed(whole, folder)

    def __len__(self) -> int:
        return len(self.kept)

    def batches(self, count: int | None = None) -> Iterator[Float[Tensor, "_ 3 t h w"]]:
        """The first clips, or all, in [-1, 1], a few at a time."""
        count = len(self) if count is None else count
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            for k in range(self.done, stop):
                self.kept[k] = self.make(k)
            self.done = max(self.done, stop)
            yield to_signal(np.array(self.kept[start:stop])).permute(0, 4, 1, 2, 3)


class Screening:
    """The clips of one piece of evidence, at the size and frame rate of the encoder, and their features."""

    def __init__(self, domain: Video, evidence: Evidence) -> None:
        self.domain, self.evidence = domain, evidence
        self.train_data: VideoDataset = evidence.train  # type: ignore[assignment]
        self.held_out_data: VideoDataset = evidence.held_out  # type: ignore[assignment]
        self._features: dict[Reel, dict[str, Tensor]] = {}
        self._logits: dict[Reel, Tensor] = {}

    @cached_property
    def samples(self) -> Reel:
        """All samples."""

        def make(k: int) -> UInt8[np.ndarray, "t h w 3"]:
            field = self.evidence.samples[k]
            return self.domain.render(field, self.domain.size, frames=self.domain.frames).array()

        return self._reel(make, len(self.evidence.samples))

    @cached_property
    def train(self) -> Reel:
        """Training windows, in the order of an epoch."""
        return self._windows("train", self.train_data)

    @cached_property
    def held_out(self) -> Reel:
        """Held-out windows, chosen likewise."""
        return self._windows("held_out", self.held_out_data)

    @cached_property
    def network(self) -> Any:
        """The feature network of pictures that was asked for."""
        from ddmi.metrics import features

        network: Any = features.load(self.evidence.features)
        return network.to(self.evidence.device)

    @cached_property
    def i3d(self) -> Any:
        """The network of FVD; None where its weights were not given."""
        from ddmi.metrics.features.i3d import I3D

        file = self.evidence.evaluators.get("i3d")
        return I3D.load(file).to(self.evidence.device) if file else None

    def order(self, part: str, dataset: VideoDataset) -> list[int]:
        """The windows of a dataset as an epoch of training would show them."""
        return dataset.epoch(generator(self.evidence.seed, "windows", part))

    def change(self, reel: Reel) -> Float[Tensor, " n"]:
        """Mean absolute difference of successive frames of each clip, in levels of 0..255."""
        return torch.cat([x.diff(dim=2).abs().mean(dim=(1, 2, 3, 4)) * 127.5 for x in reel.batches()]).double()

    def features(self, reel: Reel) -> dict[str, Float[Tensor, "n _ f"]]:
        """Features of a few frames of each clip, and of a few differences of successive ones: (n, frames, features)."""
        if reel not in self._features:
            found: dict[str, list[Tensor]] = defaultdict(list)
            for x in reel.batches():
                found["frames"].append(self._seen(x))
                if x.shape[2] > 1:
                    found["differences"].append(self._seen(x.diff(dim=2) / 2))
            self._features[reel] = {name: torch.cat(parts) for name, parts in found.items()}
        return self._features[reel]

    @torch.no_grad()
    def logits(self, reel: Reel) -> Float[Tensor, "n f"]:
        """The class scores that I3D gives each clip."""
        if reel not in self._logits:
            found = [self.i3d(x.to(self.evidence.device)).float().cpu() for x in reel.batches()]
            self._logits[reel] = torch.cat(found)
        return self._logits[reel]

    @torch.no_grad()
    def _seen(self, x: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b _ f"]:
        frames = x[:, :, _evenly(x.shape[2], SEEN)].transpose(1, 2)
        pictures = frames.flatten(0, 1)
        if min(pictures.shape[-2:]) < SMALLEST:
            size = [max(side, SMALLEST) for side in pictures.shape[-2:]]
            pictures = F.interpolate(pictures, size, mode="bicubic", align_corners=False).clamp(-1, 1)
        found = [self.network(few).float().cpu() for few in pictures.to(self.evidence.device).split(BATCH)]
        return torch.cat(found).unflatten(0, frames.shape[:2])

    def _windows(self, part: str, dataset: VideoDataset) -> Reel:
        indices = self.order(part, dataset)[:COMPARED]
        return self._reel(lambda k: to_pixels(dataset.inputs([indices[k]])[0].permute(1, 2, 3, 0)), len(indices))

    def _reel(self, make: Callable[[int], UInt8[np.ndarray, "t h w 3"]], count: int) -> Reel:
        return Reel(make, count, (self.domain.frames, *self.domain.size), self.evidence.cache)


class Score(NamedTuple):
    """Of the frames of one window, averaged; PSNR in dB."""

    psnr: float
    ssim: float


def frames_at(
    domain: Video, field: FieldLike, times: Float[Tensor, " k"], size: tuple[int, int], rate: int = 1
) -> Float[Tensor, "k 3 h w"]:
    """Frames of a field at these times of [-1, 1], 8-bit values in [-1, 1].

    `rate` is how many frames are drawn for one of the encoder's, which the field is told as its temporal period.
    """
    height, width = size
    periods = domain.told(size, (-1.0, -1.0, 1.0, 1.0), 2 / (domain.frames * rate))
    lines = [axis(width), axis(height)]
    drawn = [to_pixels(field(mesh([*lines, t[None]]), periods)).reshape(height, width, 3) for t in times]
    return to_signal(np.stack(drawn)).permute(0, 3, 1, 2)


def _score(a: Float[Tensor, "k 3 h w"], b: Float[Tensor, "k 3 h w"]) -> Score:
    a = (a.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1  # 8 bits, as what the field drew
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


def _spread(values: Float[Tensor, " n"]) -> dict[str, float]:
    low, median, high = values.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)).tolist()
    return {"mean": float(values.mean()), "median": median, "percentile_5": low, "percentile_95": high}


def _evenly(count: int, shown: int) -> Tensor:
    """At most `shown` of the numbers 0 ... count - 1, evenly spread from the first to the last."""
    return torch.linspace(0, count - 1, min(shown, count)).round().long()


def _thumbnail(frames: int, height: int, width: int) -> tuple[int, int, int]:
    return min(frames, THUMBNAIL[0]), min(height, THUMBNAIL[1]), min(width, THUMBNAIL[2])


def _thumbnails(batches: Iterable[Float[Tensor, "_ 3 t h w"]]) -> Float[Tensor, "n f"]:
    """Clips shrunk in space, and of their frames a few."""
    found = []
    for x in batches:
        size = _thumbnail(*x.shape[2:])
        found.append(F.adaptive_avg_pool3d(x[:, :, _evenly(x.shape[2], size[0])], size).flatten(1).half())
    return torch.cat(found)
