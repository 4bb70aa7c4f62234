"""How pictures are evaluated; every number beside the protocol it was taken with."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import MissingPackage
from ddmi.base.randomness import generator
from ddmi.domains.base import Evidence, Metric
from ddmi.domains.image.dataset import PictureDataset
from ddmi.domains.image.gallery import BATCH, Gallery, Rendered
from ddmi.metrics import pixels
from ddmi.metrics.distributions import frechet, gaussian, kernel_distance, precision_recall
from ddmi.metrics.neighbours import Neighbours, memorisation, nearest
from ddmi.metrics.sliced import sliced_wasserstein
from ddmi.metrics.uncertainty import bootstrap, jackknife, share_error
from ddmi.metrics.words import PEOPLE, nouns

if TYPE_CHECKING:
    from ddmi.domains.image import Image

log = logging.getLogger(__name__)

JUDGED = 256
"""Pictures that a metric of pixels looks at, at most."""
COMPARED = 1024
"""Samples, and held-out pictures, whose nearest training pictures are searched, at most."""
NEAREST, SHOWN = 7, 64
"""Training pictures named for a sample (Fig. 13), and the first samples that they are named for."""
PROMPTS = 100
"""Captions that samples are drawn for and compared with, at most."""


class PictureMetrics:
    """The metrics of a domain of pictures. Those that look at the same evidence share its pictures and features."""

    def __init__(self, domain: Image) -> None:
        self.domain = domain
        self._last: Gallery | None = None

    @property
    def all(self) -> Mapping[str, Metric]:
        """Name -> function."""
        return {
            "reconstruction": self.reconstruction,
            "sliced_wasserstein": self.sliced_wasserstein,
            "distributions": self.distributions,
            "memorisation": self.memorisation,
            "prompts": self.prompts,
        }

    def gallery(self, evidence: Evidence) -> Gallery:
        """The pictures of this evidence."""
        if self._last is None or self._last.evidence is not evidence:
            self._last = Gallery(self.domain, evidence)
        return self._last

    def reconstruction(self, evidence: Evidence) -> dict[str, Any]:
        """PSNR and SSIM of held-out pictures at every scale, beside bicubic enlargement of the true picture at 1x."""
        held_out: PictureDataset = evidence.held_out  # type: ignore[assignment]
        indices = [group[0] for group in held_out.groups][: min(JUDGED, evidence.limit or JUDGED)]
        if not indices:
            return {}
        own = (evidence.size or self.domain.resolution) / self.domain.resolution
        fields = evidence.reconstruct(held_out, indices)
        small = held_out.inputs(indices)
        exact = held_out.source.smallest is None
        scales: dict[str, dict[str, float]] = {}
        for scale in sorted({1.0, own, *self.domain.scales, *((4.0,) if exact else ())}):
            size = round(self.domain.resolution * scale)
            if not exact and scale != own and size > (held_out.source.smallest or 0):
                continue
            true = held_out.pictures(indices, size)
            drawn = Rendered(self.domain, fields, size, evidence.cache).first(len(fields))
            enlarged = F.interpolate(small, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)
            decibels = pixels.psnr(drawn, true)
            error = float(decibels.std() / math.sqrt(len(indices))) if len(indices) > 1 else None
            bicubic = {"bicubic_psnr": float(pixels.psnr(enlarged, true).mean())}
            scales[f"{scale:g}x"] = {
                "psnr": float(decibels.mean()),
                **({} if error is None else {"psnr_standard_error": error}),
                "ssim": float(pixels.ssim(drawn, true).mean()),
                **(bicubic if size != self.domain.resolution else {}),
            }
        protocol = {
            "pictures": len(indices),
            "latent": "mode",
            "size": evidence.size or self.domain.resolution,
            "truth": "drawn exactly" if exact else "resized",
            "range": "8 bit",
        }
        at_size = {"psnr": scales[f"{own:g}x"]["psnr"]} if evidence.size else {}
        return {**at_size, "scales": scales, "protocol": protocol}

    def sliced_wasserstein(self, evidence: Evidence) -> dict[str, Any]:
        """Sliced Wasserstein distance of samples to training pictures (x 1000), beside that of held-out ones."""
        if not evidence.samples or not len(evidence.held_out):
            return {}
        gallery = self.gallery(evidence)
        count = gallery.limited(min(len(evidence.samples), len(gallery.held_out.groups), JUDGED))
        size = gallery.size
        order = gallery.train.epoch(generator(evidence.seed, "sliced"))
        real = gallery.train.pictures(order[: gallery.limited(4 * JUDGED)], size)
        order = gallery.held_out.epoch(generator(evidence.seed, "sliced"))
        unseen = gallery.held_out.pictures(order[:count], size)
        settings = {"seed": evidence.seed, "directions": 128, "patches": 64}
        counts = {"samples": count, "held_out": len(unseen), "training_pictures": len(real)}
        return {
            "samples": sliced_wasserstein(gallery.samples.first(count), real, **settings),
            "held_out": sliced_wasserstein(unseen, real, **settings),
            "protocol": {**counts, "size": size, **settings},
        }

    def distributions(self, evidence: Evidence) -> dict[str, Any]:
        """Fréchet and kernel distance, improved precision and recall, on features; beside those of held-out pictures.

        The Fréchet distance of all samples is called `fid` on Inception-v3 with its published weights, and on nothing
        else. Small sets have large distances: `held_out` and `as_many_samples` are of equally many pictures.
        """
        k, count = evidence.neighbours, len(evidence.samples)
        if not count:
            return {}
        gallery = self.gallery(evidence)
        real = gallery.real
        if min(count, len(real.indices)) <= k or real.gaussian is None:
            log.warning("distributions: %d samples and %d pictures are too few", count, len(real.indices))
            return {}
        drawn, network = gallery.features, gallery.network
        compare = partial(self._compare, evidence, real.features, real.gaussian)
        first = compare(drawn)
        found = {"fid" if network.fid and name == "frechet" else name: value for name, value in first.items()}
        known = real.gaussian
        error = jackknife(count, lambda kept: frechet(gaussian(drawn[kept]), known))
        if error is not None:
            found["fid_standard_error" if network.fid else "frechet_standard_error"] = error
        found["precision_standard_error"] = share_error(found["precision"], count)
        found["recall_standard_error"] = share_error(found["recall"], len(real.indices))
        beside = min(count, len(gallery.unseen.indices))
        if beside > k:
            found["held_out"] = {"pictures": beside, **compare(gallery.unseen.features[:beside])}
            found["as_many_samples"] = {"pictures": beside, **(first if beside == count else compare(drawn[:beside]))}
        protocol = {
            "features": network.name,
            "samples": count,
            "training_pictures": len(real.indices),
            "size": gallery.size,
            "truth": gallery.truth,
            "range": "8 bit",
            "k": k,
            "seed": evidence.seed,
            "samples_rendered_and_seen_per_second": round(count / max(gallery.seconds, 1e-6), 1),
        }
        return {**found, "protocol": protocol}

    def _compare(self, evidence: Evidence, real: Tensor, known: Any, features: Tensor) -> dict[str, Any]:
        """The four numbers of a set of features, and the spread of one of them."""
        kernel = kernel_distance(real, features, seed=evidence.seed)
        shares = precision_recall(real, features, k=evidence.neighbours)
        return {
            "frechet": frechet(gaussian(features), known),
            "kernel_distance": kernel.mean,
            "kernel_distance_deviation": kernel.deviation,
            "precision": shares.precision,
            "recall": shares.recall,
        }

    def memorisation(self, evidence: Evidence) -> dict[str, Any]:
        """Distance of samples to their nearest training pictures, against that of held-out pictures (Fig. 13)."""
        if not evidence.samples or not len(evidence.held_out):
            return {}
        gallery = self.gallery(evidence)
        train, held_out = gallery.train, gallery.held_out
        drawn = gallery.samples.first(min(len(evidence.samples), COMPARED))
        most = gallery.limited(COMPARED)
        unseen = held_out.pictures([group[0] for group in held_out.groups][:most], gallery.size)
        both = torch.cat([drawn, unseen]).flatten(1)
        found = _nearest_in_parts(both, gallery, train)
        mine, theirs = found.distances[: len(drawn), 0], found.distances[len(drawn) :, 0]
        protocol: dict[str, Any] = {"feature": "pixels", "distance": "l2", "size": gallery.size, "truth": gallery.truth}
        protocol |= {"training_pictures": gallery.limited(len(train)), "held_out": len(unseen), "samples": len(drawn)}
        result = {**_ratio(mine, theirs, evidence.seed), "neighbours": found.indices[: len(drawn), 0].tolist()}
        try:
            result["features"] = self._in_features(gallery, len(drawn))
            protocol["network"] = gallery.network.name
            protocol["training_pictures_seen_by_the_network"] = len(gallery.real.indices)
        except MissingPackage as error:
            log.warning("memorisation in pixels alone: %s", error)
        return {**result, "protocol": protocol}

    def _in_features(self, gallery: Gallery, count: int) -> dict[str, Any]:
        """The same in features, among the training pictures of `distributions`: one of each subject."""
        real = gallery.real
        mine = nearest(gallery.features[:count], real.features, min(NEAREST, len(real.indices)))
        theirs = nearest(gallery.unseen.features, real.features)
        first = [real.indices[i] for i in mine.indices[:, 0].tolist()]
        shown = [[gallery.train.names[real.indices[i]] for i in row] for row in mine.indices[:SHOWN].tolist()]
        ratio = _ratio(mine.distances[:, 0], theirs.distances[:, 0], gallery.evidence.seed)
        return {**ratio, "neighbours": first, "nearest": shown}

    def prompts(self, evidence: Evidence) -> dict[str, Any]:
        """Share of prompts whose sample has a nearest training picture, in features, with a noun of the prompt.

        Prompts are captions of training pictures, each of another subject and with at least one noun
        (`ddmi.metrics.words`). `chance` is the share among the same samples after each prompt was dealt to every other
        sample, `true_pictures` the same numbers of the training pictures of the prompts, each with its own subject left
        out: what perfect new pictures reach. Only where the model takes text and the data has captions.
        """
        captions = evidence.train.captions
        if evidence.draw is None or not captions:
            return {}
        gallery = self.gallery(evidence)
        real = gallery.real  # one picture of each subject, in an order that the seed draws
        known = [nouns(captions[i]) for i in real.indices]
        asked = [k for k, words in enumerate(known) if words][:PROMPTS]
        if len(asked) < 2:
            log.warning("prompts: %d captions with a noun are too few", len(asked))
            return {}
        wanted, drawn = [known[k] for k in asked], []
        for start in range(0, len(asked), BATCH):
            texts = [captions[real.indices[k]] for k in asked[start : start + BATCH]]
            drawn.append(gallery.features_of(evidence.draw(texts, start)))
        found = nearest(torch.cat(drawn), real.features).indices[:, 0].tolist()
        own = nearest(real.features[asked], real.features, 2).indices.tolist()
        others = [first if first != k else second for k, (first, second) in zip(asked, own, strict=True)]
        protocol = {
            "prompts": len(asked),
            "network": gallery.network.name,
            "training_pictures": len(real.indices),
            "training_pictures_without_nouns": sum(not words for words in known),
            "size": gallery.size,
            "seed": evidence.seed,
        }
        truly = _agreement(wanted, [known[k] for k in others])
        return {**_agreement(wanted, [known[k] for k in found]), "true_pictures": truly, "protocol": protocol}


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


def _ratio(samples: Float[Tensor, " n"], held_out: Float[Tensor, " m"], seed: int) -> dict[str, Any]:
    error = bootstrap([samples, held_out], lambda a, b: memorisation(a, b).ratio, seed=seed)
    found = vars(memorisation(samples, held_out))
    return found if error is None else {**found, "ratio_standard_error": error}


def _nearest_in_parts(queries: Float[Tensor, "n f"], gallery: Gallery, dataset: PictureDataset) -> Neighbours:
    """The nearest item of a dataset to each query; only a part of the dataset is in memory at a time."""
    best: Neighbours | None = None
    first = 0
    for part in gallery.pictures_in_parts(dataset):
        here = nearest(queries, part.flatten(1))
        here = Neighbours(here.distances, here.indices + first)
        first += len(part)
        if best is not None:
            nearer = here.distances < best.distances
            distances = torch.where(nearer, here.distances, best.distances)
            here = Neighbours(distances, torch.where(nearer, here.indices, best.indices))
        best = here
    assert best is not None
    return best
