"""How shapes are evaluated; every number beside the protocol it was taken with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ddmi.base.errors import UserError
from ddmi.base.randomness import derive, generator
from ddmi.domains.base import FieldLike, Metric
from ddmi.domains.gallery import Gallery
from ddmi.metrics.neighbours import memorised, nearest
from ddmi.metrics.points import compare, unit_sphere
from ddmi.metrics.uncertainty import share_error
from ddmi.metrics.volumes import f_score, iou, normal_consistency, total_mutual_difference

if TYPE_CHECKING:
    from trimesh import Trimesh

    from ddmi.domains.shape import Shape

CELLS = 32
"""Voxels along each axis."""
CLOUD = 2048
"""Points of a surface (section 4.2)."""
MESH = 64
"""Cells along each axis of the meshes that surfaces are taken from."""
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
"""Images of a sample that CLIP sees (section C.2)."""
PROMPTS = 100
"""Texts that name one attribute."""


class ShapeMetrics(Gallery["Shape"]):
    """Metrics of one piece of evidence. They share the voxels of its samples."""

    @classmethod
    def of(cls, domain: Shape) -> Mapping[str, Metric]:
        """Name -> function; the geometric test of attributes where the data has procedural furniture."""
        found = (cls.reconstruction, cls.point_sets, cls.memorisation, cls.diversity, cls.classification, cls.clip)
        return cls.shared(domain, *found, *((cls.attributes,) if domain.source != "folder" else ()))

    def reconstruction(self) -> dict[str, Any]:
        """Volumetric IoU, F-score and normal consistency of held-out shapes (Mescheder et al. 2019).

        `iou` is taken at points of the cube and points near the surface together, `iou_uniform` at the former alone,
        which is the share of volumes. Near the surface every error counts more.
        """
        held_out = self.evidence.held_out
        indices = list(range(min(len(held_out), RECONSTRUCTED)))
        if not indices:
            return {}
        values: dict[str, list[float]] = {"iou": [], "iou_uniform": [], "f_score": [], "normal_consistency": []}
        for i, field in zip(indices, self.evidence.reconstruct(held_out, indices), strict=True):
            points, inside = held_out.queries(i, QUERIES, QUERIES, i)
            true, made = inside[:, 0] > 0, field(points)[:, 0].cpu() > self.domain.level
            values["iou"].append(iou(made, true))
            values["iou_uniform"].append(iou(made[:QUERIES], true[:QUERIES]))
            mine, theirs = _surface(self.domain.render(field, 2 * MESH), SURFACE, i), held_out.surface(i, SURFACE)
            values["f_score"].append(0.0 if mine is None else f_score(mine[0], theirs[0], THRESHOLD).f)
            if mine is not None:
                values["normal_consistency"].append(normal_consistency(*mine, *theirs))
        protocol = {
            "shapes": len(indices),
            "latent": "mode",
            "queries": f"{QUERIES:,} uniform + {QUERIES:,} near the surface",
            "surface_points": SURFACE,
            "mesh": f"{2 * MESH} cells along each axis",
            "f_score_threshold": THRESHOLD,
        }
        result: dict[str, Any] = {name: sum(part) / len(part) for name, part in values.items() if part}
        if len(indices) > 1:
            deviation = float(torch.tensor(values["iou"], dtype=torch.float64).std())
            result["iou_standard_error"] = deviation / math.sqrt(len(indices))
        return {**result, "worst_iou": min(values["iou"]), "protocol": protocol}

    def point_sets(self) -> dict[str, Any]:
        """MMD, coverage and 1-NN accuracy of samples against held-out shapes, beside those of training shapes.

        Clouds are centred and scaled to the unit sphere. `training` shows what as many training shapes reach: a model
        cannot be expected to do better.
        """
        train, held_out = self.evidence.train, self.evidence.held_out
        count = min(len(self.evidence.samples), len(held_out), COMPARED)
        clouds = []
        for k, field in enumerate(self.evidence.samples[:count] if count > 1 else ()):
            found = _surface(self.domain.render(field, MESH), CLOUD, derive(self.evidence.seed, "surface", k) % 2**32)
            clouds += [] if found is None else [unit_sphere(found[0])]
        if len(clouds) < 2:
            return {}
        chosen = train.epoch(generator(self.evidence.seed, "point sets"))[:count]
        unseen = torch.stack([unit_sphere(held_out.surface(i, CLOUD)[0]) for i in range(count)])
        seen = torch.stack([unit_sphere(train.surface(i, CLOUD)[0]) for i in chosen])
        made = torch.stack(clouds)
        few = slice(None, MOVED), slice(None, EARTH)  # points of a cloud are in no order
        protocol = {
            "samples": len(made),
            "without_a_surface": count - len(made),
            "held_out": len(unseen),
            "points": CLOUD,
            "chamfer": "mean squared distance to the nearest point, both ways added, unit sphere",
            "emd": f"exact assignment of {EARTH} points, mean distance, at most {MOVED} shapes",
            "mesh": f"{MESH} cells along each axis",
        }
        return {
            "chamfer": asdict(compare(made, unseen, "chamfer")),
            "chamfer_of_training": asdict(compare(seen, unseen, "chamfer")),
            "emd": asdict(compare(made[few], unseen[few], "emd")),
            "emd_of_training": asdict(compare(seen[few], unseen[few], "emd")),
            "protocol": protocol,
        }

    def memorisation(self) -> dict[str, Any]:
        """Distance of samples to their nearest training shapes, against that of held-out shapes."""
        train, held_out = self.evidence.train, self.evidence.held_out
        if not len(self.evidence.samples) or not len(held_out):
            return {}
        seen = train.epoch(generator(self.evidence.seed, "memorisation"))[:TRAINING]
        unseen = range(min(len(held_out), len(self.evidence.samples)))
        references = train.voxels(seen, CELLS).flatten(1).half()
        mine, theirs = (  # distances have the type of the first
            nearest(voxels.flatten(1).float(), references) for voxels in (self.voxels, held_out.voxels(unseen, CELLS))
        )
        a, b = mine.distances[:, 0].double(), theirs.distances[:, 0].double()
        protocol = {
            "feature": f"occupancy of {CELLS} cells along each axis",
            "distance": "square root of the number of cells that differ",
            "training_shapes": len(seen),
            "held_out": len(unseen),
            "samples": len(a),
        }
        found = memorised(a, b, self.evidence.seed)
        return {**found, "neighbours": [seen[i] for i in mine.indices[:, 0].tolist()], "protocol": protocol}

    def diversity(self) -> dict[str, Any]:
        """Total mutual difference: the mean IoU of ten samples of one text with one another; less is more diverse."""
        if self.evidence.draw is None or not self.evidence.train.captions:
            return {}
        order = self.evidence.train.epoch(generator(self.evidence.seed, "diversity"))
        texts = list(dict.fromkeys(self.evidence.train.captions[i] for i in order))[:TEXTS]
        prompts = [text for text in texts for _ in range(VARIANTS)]
        groups = self._occupied(self.evidence.draw(prompts, 0)).flatten(1).split(VARIANTS)
        protocol = {"texts": len(texts), "samples_a_text": VARIANTS, "voxels": CELLS, "seed": self.evidence.seed}
        return {"total_mutual_difference": total_mutual_difference(groups), "protocol": protocol}

    def classification(self) -> dict[str, Any]:
        """Share of samples that a voxel classifier puts into the class that they were conditioned on (Table 7).

        A sample without a voxel inside is of no class, so it counts as wrong. Needs a classifier that
        `ddmi train-classifier` made.
        """
        file = self.evidence.evaluators.get("classifier", "")
        if not file or not self.evidence.asked or self.evidence.train.labels is None:
            return {}
        from ddmi.metrics.features.voxels import load_classifier

        model, classes = load_classifier(file)
        if classes != self.evidence.train.classes:
            raise UserError(
                f"{file} knows {', '.join(classes)}, but the data has {', '.join(self.evidence.train.classes)}"
            )
        voxels = self.voxels
        filled = voxels.flatten(1).any(dim=1)
        named = model.to(self.evidence.device).predict(voxels)
        wanted = torch.tensor([self.evidence.train.labels[i] for i in self.evidence.asked])
        share = float(((named == wanted) & filled).double().mean())
        protocol = {"classifier": file, "voxels": CELLS, "samples": len(named), "empty": int((~filled).sum())}
        return {"accuracy": share, "accuracy_standard_error": share_error(share, len(named)), "protocol": protocol}

    def clip(self) -> dict[str, Any]:
        """CLIP-S: the best cosine similarity of a text and five images of its sample (section C.2), times 100."""
        model = self.evidence.evaluators.get("clip", "")
        if not model or self.evidence.draw is None or not self.evidence.train.captions:
            return {}
        from ddmi.metrics.features.clip import ClipScorer, clip_s
        from ddmi.rendering.shader import turntable

        scorer, scores = ClipScorer(model, device=self.evidence.device), []
        for field, i in zip(self.evidence.samples, self.evidence.asked, strict=True):
            turning = turntable(self.domain.render(field, MESH), size=224, frames=VIEWS)
            views = [turning.image(k) for k in range(VIEWS)]
            scores.append(clip_s(scorer, views, self.evidence.train.captions[i]))
        protocol = {"model": model, "views": VIEWS, "pixels": 224, "samples": len(scores)}
        return {"clip_s": 100 * sum(scores) / len(scores), "protocol": protocol}

    def attributes(self) -> dict[str, Any]:
        """Share of samples that have the attribute which their text names, by a geometric test of their occupancy.

        `chance` is the share among the same samples after the texts have been dealt to others, `test` the share of
        pieces of the data that the test measures right. Only where there is procedural furniture in the data.
        """
        from ddmi.data.furniture import Furniture
        from ddmi.data.furniture.measure import accuracy, measured
        from ddmi.data.furniture.words import prompts
        from ddmi.domains.shape.joined import Joined

        whole = self.evidence.held_out.source
        sources = whole.sources if isinstance(whole, Joined) else (whole,)
        source = next((part for part in sources if isinstance(part, Furniture)), None)
        if self.evidence.draw is None or source is None:
            return {}
        texts, traits = zip(*prompts(PROMPTS, self.evidence.seed), strict=True)
        voxels = self._occupied(self.evidence.draw(texts, 0), 2 * CELLS).numpy()
        result: dict[str, Any] = {}
        for name in ("legs", "arm_rests"):
            mine = [k for k, wanted in enumerate(traits) if name in wanted]
            found, wanted = [measured(voxels[k], name) for k in mine], [traits[k][name] for k in mine]
            share = sum(a == b for a, b in zip(found, wanted, strict=True)) / len(mine)
            result[name] = {
                "share": share,
                "share_standard_error": share_error(share, len(mine)),
                "chance": sum(a == b for a in found for b in wanted) / len(mine) ** 2,
                "test": accuracy(source, name),
                "prompts": len(mine),
            }
        total = sum(part["share"] * part["prompts"] for part in result.values()) / len(texts)
        protocol = {"prompts": len(texts), "voxels": 2 * CELLS, "seed": self.evidence.seed}
        return {**result, "share": total, "share_standard_error": share_error(total, len(texts)), "protocol": protocol}

    @cached_property
    def voxels(self) -> Bool[Tensor, "s n n n"]:
        """Voxels of every sample."""
        return self._occupied(self.evidence.samples)

    def _occupied(self, fields: Sequence[FieldLike], size: int = CELLS) -> Bool[Tensor, "s n n n"]:
        """Which cell centres of a grid over the cube are inside each field; array order (z, y, x)."""
        from ddmi.rendering.mesh import inside

        def occupied(field: FieldLike) -> Tensor:
            return torch.from_numpy(inside(lambda points: field(points)[:, 0], size, level=self.domain.level))

        return torch.stack([occupied(field) for field in fields])


def _surface(mesh: Trimesh, count: int, seed: int) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]] | None:
    """Points of a mesh, uniform by area, and its normals there; None for a mesh without faces."""
    from trimesh.sample import sample_surface

    if not len(mesh.faces):
        return None
    points, faces = sample_surface(mesh, count, seed=seed)
    normals = mesh.face_normals[faces]
    return torch.from_numpy(np.asarray(points)).float(), torch.from_numpy(np.array(normals)).float()
