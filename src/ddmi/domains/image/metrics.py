"""Metrics of images, each number beside the protocol it was taken with."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import MissingPackage
from ddmi.base.randomness import generator
from ddmi.data.images import ImageFolder
from ddmi.domains.base import Evidence, FieldLike, Metric
from ddmi.domains.gallery import BATCH, Gallery, Renderings, data_digest
from ddmi.domains.image.dataset import ImageDataset
from ddmi.metrics import pixels
from ddmi.metrics.distributions import Gaussian, frechet, gaussian, kernel_distance, precision_recall
from ddmi.metrics.neighbours import memorised, nearest
from ddmi.metrics.sliced import sliced_wasserstein
from ddmi.metrics.uncertainty import jackknife, share_error
from ddmi.metrics.words import PEOPLE, nouns

if TYPE_CHECKING:
    from ddmi.domains.image import Image

log = logging.getLogger(__name__)

MEASURED = 256
"""Images that a metric of pixels looks at, at most."""
REAL = 50_000
"""Real images that features are taken of, at most (section C.1)."""
COMPARED = 1024
"""Samples, and held-out images, whose nearest training images are searched, at most."""
NEAREST, SHOWN = 7, 64
"""Training images named for a sample (Fig. 13), and the first samples that they are named for."""
PROMPTS = 100
"""Captions that samples are generated for and compared with, at most."""
RETRIEVED, POOL = 10, 1000
"""Nearest training images among which that of the prompt counts as found, and training images searched, at most."""
PART = 1 << 26
"""Values of images that the search in pixels holds at a time, and SSIM in all of its filters."""


@dataclass(frozen=True)
class Seen:
    """Real images as the network sees them: indices into their dataset, and features."""

    indices: list[int]
    features: Float[Tensor, "n f"]

    @cached_property
    def gaussian(self) -> Gaussian:
        """Of the features."""
        return gaussian(self.features)


class ImageMetrics(Gallery["Image"]):
    """Metrics of one piece of evidence. They share its images and features: each is rendered and seen once."""

    def __init__(self, domain: Image, evidence: Evidence[ImageDataset]) -> None:
        super().__init__(domain, evidence)
        self.train = evidence.train
        self.held_out = evidence.held_out
        self.size = evidence.size or domain.resolution
        self.seconds = 0.0  # that the network took over the samples, rendering included
        smallest = self.train.source.smallest
        if smallest is None:
            self.truth = "rendered exactly"
        elif smallest >= self.size:
            self.truth = "resized by Lanczos with antialiasing"
        else:
            self.truth = "enlarged by Lanczos where smaller"

    @classmethod
    def of(cls, domain: Image) -> Mapping[str, Metric]:
        """Name -> function."""
        return cls.shared(
            domain, cls.reconstruction, cls.sliced_wasserstein, cls.distributions, cls.memorisation, cls.prompts
        )

    @cached_property
    def samples(self) -> Renderings:
        """The samples, rendered at the size of the evidence with the sampling period that belongs to it."""
        return self.rendered(self.evidence.samples, self.size)

    @cached_property
    def features(self) -> Float[Tensor, "n f"]:
        """Features of all samples."""
        began = time.monotonic()
        found = self.seen.of(self.samples.batches())
        self.seconds = time.monotonic() - began
        return found

    @cached_property
    def real(self) -> Seen:
        """Training images: one of each subject, as in an epoch of training."""
        return self._seen("train", self.train)

    @cached_property
    def unseen(self) -> Seen:
        """Held-out images, chosen likewise."""
        return self._seen("held_out", self.held_out)

    def rendered(self, fields: Sequence[FieldLike], size: int) -> Renderings:
        """Fields as images of this size."""
        folder = self.evidence.cache
        return Renderings(lambda k: np.asarray(self.domain.render(fields[k], size)), len(fields), (size, size), folder)

    def reconstruction(self) -> dict[str, Any]:
        """PSNR and SSIM of held-out images at every scale, beside bicubic enlargement of the true image at 1x."""
        held_out, source = self.held_out, self.held_out.source
        indices = [group[0] for group in held_out.groups][: self.limited(MEASURED)]
        if not indices:
            return {}
        resolution, own = self.domain.resolution, self.size / self.domain.resolution
        fields = self.evidence.reconstruct(held_out, indices)
        small = held_out.inputs(indices)
        exact = source.smallest is None
        scales: dict[str, dict[str, float]] = {}
        for scale in sorted({1.0, own, *self.domain.scales, *((4.0,) if exact else ())}):
            size = round(resolution * scale)
            if source.smallest is not None and scale != own and size > source.smallest:
                continue
            rendered, step = self.rendered(fields, size), max(1, PART // (16 * size**2))
            parts: dict[str, list[Tensor]] = {"psnr": [], "ssim": [], "bicubic_psnr": []}
            for start in range(0, len(indices), step):
                stop = min(start + step, len(indices))
                true, ours = held_out.images(indices[start:stop], size), rendered.part(start, stop)
                parts["psnr"].append(pixels.psnr(ours, true))
                parts["ssim"].append(pixels.ssim(ours, true))
                if size != resolution:
                    enlarged = F.interpolate(small[start:stop], (size, size), mode="bicubic", align_corners=False)
                    parts["bicubic_psnr"].append(pixels.psnr(enlarged.clamp(-1, 1), true))
            values = {name: torch.cat(part) for name, part in parts.items() if part}
            found = scales[f"{scale:g}x"] = {name: float(each.mean()) for name, each in values.items()}
            if len(indices) > 1:
                found["psnr_standard_error"] = float(values["psnr"].std() / math.sqrt(len(indices)))
        protocol = {
            "pictures": len(indices),
            "latent": "mode",
            "size": self.size,
            "truth": "drawn exactly" if exact else "resized",
            "range": "8 bit",
        }
        at_size = {"psnr": scales[f"{own:g}x"]["psnr"]} if self.evidence.size else {}
        return {**at_size, "scales": scales, "protocol": protocol}

    def sliced_wasserstein(self) -> dict[str, Any]:
        """Sliced Wasserstein distance of samples to training images (x 1000), beside that of held-out ones."""
        if not self.evidence.samples or not len(self.held_out):
            return {}
        count = self.limited(min(len(self.evidence.samples), len(self.held_out.groups), MEASURED))
        seed = self.evidence.seed
        order = self.train.epoch(generator(seed, "sliced"))[: self.limited(4 * MEASURED)]
        real = self.train.images(order, self.size)
        unseen = self.held_out.images(self.held_out.epoch(generator(seed, "sliced"))[:count], self.size)
        settings = {"seed": seed, "directions": 128, "patches": 64}
        counts = {"samples": count, "held_out": len(unseen), "training_pictures": len(real)}
        return {
            "samples": sliced_wasserstein(self.samples.part(0, count), real, **settings),
            "held_out": sliced_wasserstein(unseen, real, **settings),
            "protocol": {**counts, "size": self.size, **settings},
        }

    def distributions(self) -> dict[str, Any]:
        """Fréchet and kernel distance, improved precision and recall, on features; beside those of held-out images.

        The Fréchet distance of all samples is called `fid` on Inception-v3 with its published weights, and on nothing
        else. Small sets have large distances: `held_out` and `as_many_samples` are of equally many images.
        """
        k, count = self.evidence.neighbours, len(self.evidence.samples)
        if not count:
            return {}
        real = self.real
        if min(count, len(real.indices)) <= k or len(real.indices) < 2:
            log.warning("distributions: %d samples and %d images are too few", count, len(real.indices))
            return {}
        features, network = self.features, self.seen.network
        distance = "fid" if network.fid else "frechet"
        first = self._compared(features)
        found: dict[str, Any] = {distance if name == "frechet" else name: value for name, value in first.items()}
        error = jackknife(count, lambda kept: frechet(gaussian(features[kept]), real.gaussian))
        if error is not None:
            found[f"{distance}_standard_error"] = error
        found["precision_standard_error"] = share_error(found["precision"], count)
        found["recall_standard_error"] = share_error(found["recall"], len(real.indices))
        beside = min(count, len(self.unseen.indices))
        if beside > k:
            found["held_out"] = {"pictures": beside, **self._compared(self.unseen.features[:beside])}
            as_many = first if beside == count else self._compared(features[:beside])
            found["as_many_samples"] = {"pictures": beside, **as_many}
        protocol = {
            "features": network.name,
            "samples": count,
            "training_pictures": len(real.indices),
            "size": self.size,
            "truth": self.truth,
            "range": "8 bit",
            "k": k,
            "seed": self.evidence.seed,
            "samples_rendered_and_seen_per_second": round(count / max(self.seconds, 1e-6), 1),
        }
        return {**found, "protocol": protocol}

    def memorisation(self) -> dict[str, Any]:
        """Distance of samples to their nearest training images, against that of held-out images (Fig. 13)."""
        if not self.evidence.samples or not len(self.held_out):
            return {}
        count, seed = min(len(self.evidence.samples), COMPARED), self.evidence.seed
        chosen = [group[0] for group in self.held_out.groups][: self.limited(COMPARED)]
        both = torch.cat([self.samples.part(0, count), self.held_out.images(chosen, self.size)])
        most, step = self.limited(len(self.train)), max(1, PART // both[0].numel())
        parts = (self.train.images(range(k, min(k + step, most)), self.size) for k in range(0, most, step))
        nearest_one = nearest(both, parts)
        mine, theirs = nearest_one.distances[:, 0].tensor_split([count])
        result: dict[str, Any] = memorised(mine, theirs, seed)
        result["neighbours"] = nearest_one.indices[:count, 0].tolist()
        protocol: dict[str, Any] = {"feature": "pixels", "distance": "l2", "size": self.size, "truth": self.truth}
        protocol |= {"training_pictures": most, "held_out": len(chosen), "samples": count}
        try:
            real = self.real  # of all that `distributions` looks at: one of each subject
            mine_seen = nearest(self.features[:count], real.features, min(NEAREST, len(real.indices)))
            theirs_seen = nearest(self.unseen.features, real.features)
            rows = [[real.indices[i] for i in row] for row in mine_seen.indices.tolist()]
            result["features"] = {
                **memorised(mine_seen.distances, theirs_seen.distances, seed),
                "neighbours": [row[0] for row in rows],
                "nearest": [[self.train.names[i] for i in row] for row in rows[:SHOWN]],
            }
            protocol["network"] = self.seen.network.name
            protocol["training_pictures_seen_by_the_network"] = len(real.indices)
        except MissingPackage as error:
            log.warning("memorisation in pixels alone: %s", error)
        return {**result, "protocol": protocol}

    def prompts(self) -> dict[str, Any]:
        """How well samples follow their prompts: by the nouns of the nearest training image, and by retrieval.

        Prompts are captions of training images, each of another subject and with at least one noun
        (`ddmi.metrics.words`). `share` is the share of prompts whose sample has a nearest training image, in features,
        with a noun of the prompt; `chance` is that share after each prompt was dealt to every other sample, and
        `true_pictures` holds the same numbers for the training images of the prompts, each with its own subject left
        out: what perfect new images reach.

        `retrieval` asks for the very image: its `share` is the share of prompts whose own training image is among the
        ten nearest, in features, of up to 1,000 training images to the sample of that prompt. Its `chance` is that of a
        random order, 10 / N. Only where the model takes text and the data has captions.
        """
        captions, generate = self.evidence.train.captions, self.evidence.draw
        if generate is None or not captions:
            return {}
        real = self.real  # one image of each subject, in an order that depends on the seed
        known = [nouns(captions[i]) for i in real.indices]
        prompted = [k for k, words in enumerate(known) if words][:PROMPTS]
        if len(prompted) < 2:
            log.warning("prompts: %d captions with a noun are too few", len(prompted))
            return {}
        parts = []
        for start in range(0, len(prompted), BATCH):
            texts = [captions[real.indices[k]] for k in prompted[start : start + BATCH]]
            parts.append(self.seen.of(self.rendered(generate(texts, start), self.size).batches()))
        features = torch.cat(parts)

        wanted = [known[k] for k in prompted]
        first = nearest(features, real.features).indices[:, 0].tolist()
        own = nearest(real.features[prompted], real.features, 2).indices.tolist()
        others = [a if a != k else b for k, (a, b) in zip(prompted, own, strict=True)]

        pool = [*prompted, *sorted(set(range(len(real.indices))) - set(prompted))][:POOL]
        most = min(RETRIEVED, len(pool))
        found = nearest(features, real.features[pool], most).indices
        share = float((found == torch.arange(len(prompted))[:, None]).any(dim=1).double().mean())
        retrieval = {"share": share, "share_standard_error": share_error(share, len(prompted))}
        protocol = {
            "prompts": len(prompted),
            "network": self.seen.network.name,
            "training_pictures": len(real.indices),
            "training_pictures_without_nouns": sum(not words for words in known),
            "retrieved": f"the {most} nearest of {len(pool)} training images",
            "size": self.size,
            "seed": self.evidence.seed,
        }
        return {
            **_agreement(wanted, [known[k] for k in first]),
            "true_pictures": _agreement(wanted, [known[k] for k in others]),
            "retrieval": {**retrieval, "chance": most / len(pool)},
            "protocol": protocol,
        }

    def limited(self, count: int) -> int:
        """As many real images, or the limit of the evidence."""
        return min(count, self.evidence.limit or count)

    def _seen(self, part: str, dataset: ImageDataset) -> Seen:
        order = dataset.epoch(generator(self.evidence.seed, "features", part))[: self.limited(REAL)]
        if not order:
            return Seen([], torch.zeros(0, self.seen.network.num_features))
        source = dataset.source
        files = [source.root / dataset.names[i] for i in order] if isinstance(source, ImageFolder) else []
        batches = (dataset.images(order[i : i + BATCH], self.size) for i in range(0, len(order), BATCH))
        protocol = {"pictures": len(order), "size": self.size, "seed": self.evidence.seed}
        return Seen(order, self.seen.kept(part, protocol, partial(data_digest, dataset, order, files), batches))

    def _compared(self, features: Float[Tensor, "n f"]) -> dict[str, Any]:
        """The four numbers of a set of features, and the spread of one of them."""
        kernel = kernel_distance(self.real.features, features, seed=self.evidence.seed)
        shares = precision_recall(self.real.features, features, k=self.evidence.neighbours)
        return {
            "frechet": frechet(gaussian(features), self.real.gaussian),
            "kernel_distance": kernel.mean,
            "kernel_distance_deviation": kernel.deviation,
            "precision": shares.precision,
            "recall": shares.recall,
        }


def _agreement(wanted: Sequence[Set[str]], seen: Sequence[Set[str]]) -> dict[str, Any]:
    """How often `seen[k]` has a word of `wanted[k]`; by chance, of `wanted[i]` for all i that are not k."""
    count, found = len(wanted), {}
    for name, ignored in (("", frozenset[str]()), ("_beyond_people", PEOPLE)):
        shared = torch.tensor([[bool((w & s) - ignored) for s in seen] for w in wanted]).double()
        hits = int(shared.trace())
        found[f"share{name}"] = hits / count
        found[f"share{name}_standard_error"] = share_error(hits / count, count)
        found[f"hits{name}"] = hits
        found[f"chance{name}"] = (float(shared.sum()) - hits) / (count * (count - 1))
    return found
