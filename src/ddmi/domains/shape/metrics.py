"""How shapes are evaluated; every number beside the protocol it was taken with."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.randomness import generator
from ddmi.domains.base import Evidence, FieldLike, Metric
from ddmi.domains.shape.solids import CELLS, CLOUD, MESH, Solids, occupied, surface
from ddmi.metrics.neighbours import memorisation, nearest
from ddmi.metrics.points import compare, unit_sphere
from ddmi.metrics.uncertainty import bootstrap, share_error
from ddmi.metrics.volumes import f_score, iou, normal_consistency, total_mutual_difference

if TYPE_CHECKING:
    from ddmi.domains.shape import Shape

log = logging.getLogger(__name__)

RECONSTRUCTED = 32
"""Held-out shapes that are reconstructed, at most."""
QUERIES = 50_000
"""Points of the cube, and as many near the surface, at which a reconstruction is compared."""
SURFACE = 40_000
"""Points of both surfaces there. With a quarter of them a true shape has an F-score of 0.7 to 0.97 with itself."""
THRESHOLD = 0.02
"""Distance within which a point counts in the F-score: about 1 % of the longest side of the box."""
COMPARED = 1355
"""Samples, and held-out shapes, of the distances between sets, at most (as many as published ones have)."""
MOVED = 24
"""Shapes of each set, at most, in the earth mover's distance, and points of each: an exact assignment is slow."""
EARTH = 256
TRAINING = 2000
"""Training shapes among which the nearest is searched, at most."""
TEXTS, VARIANTS = 4, 10
"""Texts of the total mutual difference, and samples of each (section C.2)."""
VIEWS = 5
"""Pictures of a sample that CLIP sees (section C.2)."""
PROMPTS = 100
"""Texts that name one attribute."""


class ShapeMetrics:
    """The metrics of a domain of shapes. Those that look at the same evidence share its clouds and voxels."""

    def __init__(self, domain: Shape) -> None:
        self.domain = domain
        self._last: Solids | None = None

    @property
    def all(self) -> Mapping[str, Metric]:
        """Name -> function; the geometric test of attributes where the data is furniture made by rule."""
        known: dict[str, Metric] = {
            "reconstruction": self.reconstruction,
            "point_sets": self.point_sets,
            "memorisation": self.memorisation,
            "diversity": self.diversity,
            "classification": self.classification,
            "clip": self.clip,
        }
        if self.domain.source != "folder":
            known["attributes"] = self.attributes
        return known

    def solids(self, evidence: Evidence) -> Solids:
        """The shapes of this evidence."""
        if self._last is None or self._last.evidence is not evidence:
            self._last = Solids(self.domain, evidence)
        return self._last

    def reconstruction(self, evidence: Evidence) -> dict[str, Any]:
        """Volumetric IoU, F-score and normal consistency of held-out shapes (Mescheder et al. 2019).

        `iou` is taken at points of the cube and points near the surface together, `iou_uniform` at the former alone,
        which is the share of volumes. Near the surface every error counts more.
        """
        held_out = self.solids(evidence).held_out
        indices = list(range(min(len(held_out), RECONSTRUCTED)))
        if not indices:
            return {}
        found: dict[str, list[float]] = {"iou": [], "iou_uniform": [], "f_score": [], "normal_consistency": []}
        for i, field in zip(indices, evidence.reconstruct(held_out, indices), strict=True):
            points, inside = held_out.queries(i, QUERIES, QUERIES, i)
            true, drawn = inside[:, 0] > 0, field(points)[:, 0].cpu() > self.domain.level
            found["iou"].append(iou(drawn, true))
            found["iou_uniform"].append(iou(drawn[:QUERIES], true[:QUERIES]))
            mine, theirs = surface(self.domain.render(field, 2 * MESH), SURFACE, i), held_out.surface(i, SURFACE)
            if mine is None:
                found["f_score"].append(0.0)
                continue
            found["f_score"].append(f_score(mine[0], theirs[0], THRESHOLD).f)
            found["normal_consistency"].append(normal_consistency(*mine, *theirs))
        protocol = {
            "shapes": len(indices),
            "latent": "mode",
            "queries": f"{QUERIES:,} uniform + {QUERIES:,} near the surface",
            "surface_points": SURFACE,
            "mesh": f"{2 * MESH} cells along each axis",
            "f_score_threshold": THRESHOLD,
        }
        values = torch.tensor(found["iou"], dtype=torch.float64)
        result: dict[str, Any] = {name: sum(part) / len(part) for name, part in found.items() if part}
        if len(indices) > 1:
            result["iou_standard_error"] = float(values.std()) / math.sqrt(len(indices))
        result["worst_iou"] = float(values.min())
        return {**result, "protocol": protocol}

    def point_sets(self, evidence: Evidence) -> dict[str, Any]:
        """MMD, coverage and 1-NN accuracy of samples against held-out shapes, beside those of training shapes.

        Clouds are centred and scaled to the unit sphere. `training` shows what as many training shapes reach: a model
        cannot be expected to do better.
        """
        solids = self.solids(evidence)
        count = min(len(evidence.samples), len(solids.held_out), COMPARED)
        clouds = solids.sampled_clouds(count) if count > 1 else []
        if len(clouds) < 2:
            return {}
        chosen = solids.train.epoch(generator(evidence.seed, "point sets"))[:count]
        unseen = _stack(solids.clouds(solids.held_out, range(count)))
        drawn, seen = _stack(clouds), _stack(solids.clouds(solids.train, chosen))
        few = slice(None, MOVED), slice(None, EARTH)  # points of a cloud are in no order
        protocol = {
            "samples": len(drawn),
            "without_a_surface": count - len(drawn),
            "held_out": len(unseen),
            "points": CLOUD,
            "chamfer": "mean squared distance to the nearest point, both ways added, unit sphere",
            "emd": f"exact assignment of {EARTH} points, mean distance, at most {MOVED} shapes",
            "mesh": f"{MESH} cells along each axis",
        }
        return {
            "chamfer": asdict(compare(drawn, unseen, "chamfer")),
            "chamfer_of_training": asdict(compare(seen, unseen, "chamfer")),
            "emd": asdict(compare(drawn[few], unseen[few], "emd")),
            "emd_of_training": asdict(compare(seen[few], unseen[few], "emd")),
            "protocol": protocol,
        }

    def memorisation(self, evidence: Evidence) -> dict[str, Any]:
        """Distance of samples to their nearest training shapes, against that of held-out shapes."""
        solids = self.solids(evidence)
        if not len(evidence.samples) or not len(solids.held_out):
            return {}
        seen = solids.train.epoch(generator(evidence.seed, "memorisation"))[:TRAINING]
        unseen = range(min(len(solids.held_out), len(evidence.samples)))
        references = _flat(solids.voxels(solids.train, seen))
        mine = nearest(_flat(solids.sampled_voxels).float(), references)  # distances have the type of the first
        theirs = nearest(_flat(solids.voxels(solids.held_out, unseen)).float(), references)
        a, b = mine.distances[:, 0].double(), theirs.distances[:, 0].double()
        error = bootstrap([a, b], lambda x, y: memorisation(x, y).ratio, seed=evidence.seed)
        protocol = {
            "feature": f"occupancy of {CELLS} cells along each axis",
            "distance": "square root of the number of cells that differ",
            "training_shapes": len(seen),
            "held_out": len(unseen),
            "samples": len(a),
        }
        found = {**vars(memorisation(a, b)), **({} if error is None else {"ratio_standard_error": error})}
        return {**found, "neighbours": [seen[i] for i in mine.indices[:, 0].tolist()], "protocol": protocol}

    def diversity(self, evidence: Evidence) -> dict[str, Any]:
        """Total mutual difference: the mean IoU of ten samples of one text with one another; less is more diverse."""
        solids = self.solids(evidence)
        if evidence.draw is None or not evidence.train.captions:
            return {}
        order = solids.train.epoch(generator(evidence.seed, "diversity"))
        texts = list(dict.fromkeys(evidence.train.captions[i] for i in order))[:TEXTS]
        asked = [text for text in texts for _ in range(VARIANTS)]
        drawn = self._occupied(evidence.draw(asked, 0))
        groups = [drawn[k : k + VARIANTS].flatten(1) for k in range(0, len(asked), VARIANTS)]
        protocol = {"texts": len(texts), "samples_a_text": VARIANTS, "voxels": CELLS, "seed": evidence.seed}
        return {"total_mutual_difference": total_mutual_difference(groups), "protocol": protocol}

    def classification(self, evidence: Evidence) -> dict[str, Any]:
        """Share of samples that a voxel classifier puts into the class of what they were asked for (Table 7).

        A sample without a voxel inside is of no class, so it counts as wrong. Needs a classifier that
        `ddmi train-classifier` made.
        """
        file, solids = evidence.evaluators.get("classifier", ""), self.solids(evidence)
        if not file or not evidence.asked or evidence.train.labels is None:
            return {}
        from ddmi.metrics.features.voxels import load_classifier

        model, classes = load_classifier(file)
        model = model.to(evidence.device)
        if classes != evidence.train.classes:
            raise UserError(f"{file} tells {', '.join(classes)}, but the data has {', '.join(evidence.train.classes)}")
        drawn = torch.from_numpy(solids.sampled_voxels)
        filled = drawn.flatten(1).any(dim=1)
        told = model.predict(drawn)
        wanted = torch.tensor([evidence.train.labels[i] for i in evidence.asked])
        share = float(((told == wanted) & filled).double().mean())
        protocol = {"classifier": file, "voxels": CELLS, "samples": len(told), "empty": int((~filled).sum())}
        return {"accuracy": share, "accuracy_standard_error": share_error(share, len(told)), "protocol": protocol}

    def clip(self, evidence: Evidence) -> dict[str, Any]:
        """CLIP-S: the best cosine similarity of a text and five pictures of its sample (section C.2), times 100."""
        model = evidence.evaluators.get("clip", "")
        if not model or evidence.draw is None or not evidence.train.captions:
            return {}
        from ddmi.metrics.features.clip import ClipScorer, clip_s
        from ddmi.rendering.shader import turntable

        scorer, scores = ClipScorer(model, device=evidence.device), []
        for field, i in zip(evidence.samples, evidence.asked, strict=True):
            turning = turntable(self.domain.render(field, MESH), size=224, frames=VIEWS)
            views = [turning.image(k) for k in range(VIEWS)]
            scores.append(clip_s(scorer, views, evidence.train.captions[i]))
        protocol = {"model": model, "views": VIEWS, "pixels": 224, "samples": len(scores)}
        return {"clip_s": 100 * sum(scores) / len(scores), "protocol": protocol}

    def attributes(self, evidence: Evidence) -> dict[str, Any]:
        """Share of samples that have the attribute which their text names, by a geometric test of their occupancy.

        `chance` is the share among the same samples after the texts have been dealt to others, `test` the share of
        pieces of the data that the test tells rightly. Only where there is furniture made by rule in the data.
        """
        from ddmi.data.furniture import Furniture
        from ddmi.data.furniture.measure import accuracy, measured
        from ddmi.data.furniture.words import prompts

        whole = self.solids(evidence).held_out.source
        source = next((part for part in getattr(whole, "sources", (whole,)) if isinstance(part, Furniture)), None)
        if evidence.draw is None or source is None:
            return {}
        asked = prompts(PROMPTS, evidence.seed)
        drawn = self._occupied(evidence.draw([text for text, _ in asked], 0), 2 * CELLS).numpy()
        found: dict[str, Any] = {}
        for name in ("legs", "arm_rests"):
            mine = [k for k, (_, wanted) in enumerate(asked) if name in wanted]
            told = [measured(drawn[k], name) for k in mine]
            wanted = [asked[k][1][name] for k in mine]
            hits = sum(a == b for a, b in zip(told, wanted, strict=True))
            dealt = sum(a == b for a in told for b in wanted) / len(mine) ** 2
            found[name] = {
                "share": hits / len(mine),
                "share_standard_error": share_error(hits / len(mine), len(mine)),
                "chance": dealt,
                "test": accuracy(source, name),
                "prompts": len(mine),
            }
        total = sum(part["share"] * part["prompts"] for part in found.values()) / len(asked)
        protocol = {"prompts": len(asked), "voxels": 2 * CELLS, "seed": evidence.seed}
        return {**found, "share": total, "share_standard_error": share_error(total, len(asked)), "protocol": protocol}

    def _occupied(self, fields: Sequence[FieldLike], size: int = CELLS) -> Tensor:
        return torch.stack([torch.from_numpy(occupied(field, size, self.domain.level)) for field in fields])


def _stack(clouds: Sequence[Float[Tensor, "n 3"]]) -> Float[Tensor, "s n 3"]:
    return torch.stack([unit_sphere(points) for points in clouds])


def _flat(solids: Any) -> Float[Tensor, "s l"]:
    return torch.from_numpy(solids).flatten(1).half()
