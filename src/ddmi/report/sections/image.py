"""What the report of images shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ddmi.field import Field
from ddmi.metrics.neighbours import nearest
from ddmi.metrics.pixels import psnr
from ddmi.metrics.spectra import log_spectrum, radial_spectrum, spectral_centroid
from ddmi.report.content import Block, Figure, Inline, Pair, Row, Section, figure, to_image, to_tensor
from ddmi.report.plots import chart
from ddmi.report.scene import PARTS, Scene

if TYPE_CHECKING:
    from PIL import Image

RECONSTRUCTED, SCALES = 6, (1, 2, 4)
LARGEST = 1024
ZOOMED, SHARES = 320, (1.0, 0.5, 0.25, 0.125)
"""Pixels a side of a window, and the shares of the frame that windows have."""
AMONG = 16
"""Fields among which the one with the busiest window is searched."""
NEIGHBOURS, NEAREST = 8, 5
AVERAGED = 8
"""Fields of the mean spectrum."""


class Report(Scene):
    """A run of the image domain."""

    sheet = 48

    @property
    def base(self) -> int:
        """Pixels a side of what the encoder reads: the size called 1x."""
        return self.domain.resolution

    @property
    def small(self) -> int:
        """Pixels a side of an image among many."""
        return 128 if self.base <= 128 else 256

    @cached_property
    def subjects(self) -> list[int]:
        """One held-out image of each subject, in an order drawn by the seed."""
        firsts = [group[0] for group in self.held_out.groups]
        return [firsts[i] for i in self.shuffled(len(firsts))]

    def show(self, field: Field, alt: str, caption: Inline = "") -> Figure:
        return figure(field.render(self.small), alt, caption)

    def true(self, dataset: object, index: int, size: int) -> Image.Image:
        """An image of the data."""
        from PIL import Image

        return Image.fromarray(dataset.pixels(index, size))  # type: ignore[attr-defined]

    def sections(self) -> Iterator[Section | None]:
        if self.domain.source == "emoji":
            self.own_prompts = ("red apple", "smiling face with sunglasses", "cat face")
        if self.subjects:
            yield self.reconstructions()
        if self.samples:
            yield self.samples_section()
            yield self.sizes()
        if self.anything:
            yield self.zoom()
        if self.samples:
            yield self.prompts_section()
            yield self.interpolation_section()
        if self.anything:
            yield self.basis_section(self.spectra())
        if self.samples:
            yield self.nearest()

    def reconstructions(self) -> Section:
        """Truth, reconstruction, and the enlarged truth of 1x, with PSNR under each."""
        indices = self.subjects[:RECONSTRUCTED]
        known, rows = self.held_out.source.smallest, []
        sizes = {s: s * self.base for s in SCALES if s == 1 or known is None or s * self.base <= known}
        small = self.held_out.inputs(indices)
        for k, (index, field) in enumerate(
            zip(indices, self.evaluated.reconstruct(self.held_out, indices), strict=True)
        ):
            name, at, shown = self.name(self.held_out, index), f"report/reconstructions/{k}", []
            self.numbers.put(f"{at}/image", name)
            for scale, size in sizes.items():
                true, ours = self.true(self.held_out, index, size), field.render(size)
                bicubic = F.interpolate(small[k : k + 1], (size, size), mode="bicubic", align_corners=False)[0]
                images = {"ours": ours, **({"bicubic": to_image(bicubic.clamp(-1, 1))} if scale > 1 else {})}
                shown.append(figure(true, f"{name}, true image, {size} pixels", f"truth, {scale}x", pixels=scale < 4))
                for which, image in images.items():
                    place = f"{at}/{scale}x/{'psnr' if which == 'ours' else 'bicubic_psnr'}"
                    self.numbers.put(place, float(psnr(to_tensor([image]), to_tensor([true]))))
                    caption = (f"{which} ", self.numbers.show(place, ".1f", " dB"))
                    shown.append(figure(image, f"{name}, {which}, {size} pixels", caption, pixels=scale < 4))
            rows.append(Row(shown, len(shown), name))
        truth = "rendered exactly at each size" if known is None else "resized from the file, to at most its own size"
        return self.section("reconstructions", rows, base=self.base, truth=truth)

    def sizes(self) -> Section:
        """One sample rendered at several sizes."""
        sizes = [s for s in (self.base, 2 * self.base, 4 * self.base, 16 * self.base) if s <= LARGEST]
        shown = [
            figure(self.samples[0].render(s), f"sample 0 at {s} pixels", f"{s}×{s}", pixels=s < min(4 * self.base, 256))
            for s in sizes
        ]
        scale = max(self.domain.scales)
        return self.section("sizes", [Row(shown, len(shown))], scale=scale, base=self.base)

    def zoom(self) -> Section:
        """Windows of 1, 1/2, 1/4 and 1/8 around the busiest detail, beside the enlarged 1x rendering."""
        fields, kind = self.first(AMONG), "sample" if self.samples else "reconstruction"
        found = [busiest(field, 4 * self.base if self.base <= 64 else self.base) for field in fields]
        chosen = max(range(len(fields)), key=lambda k: found[k][0])
        field, (_, x, y) = fields[chosen], found[chosen]
        small, sharp, coarse = field.render(self.base), [], []
        windows = [around(x, y, share) for share in SHARES]
        for window, inner, share in zip(windows, [*windows[1:], None], SHARES, strict=True):
            where = f"1/{round(1 / share)} of the frame" if share < 1 else "the whole frame"
            view = outlined(field.render(ZOOMED, window=window), window, inner)
            sharp.append(figure(view, f"{kind} {chosen}, {where}", where))
            cut = small.resize((ZOOMED, ZOOMED), 0, box=tuple((v + 1) / 2 * self.base for v in window))
            coarse.append(figure(cut, f"1x rendering of {kind} {chosen}, {where}", where, pixels=True))
        below = f"The same windows, cut from its {self.base}×{self.base} rendering"
        rows = [Row(sharp, 4, "Windows of the function"), Row(coarse, 4, below)]
        return self.section("zoom", rows, count=len(fields), kind=kind, chosen=chosen, side=ZOOMED)

    def part(self, field: Field, whole: Field, place: str, alt: str, name: str) -> Figure:
        image = field.render(self.small)
        x = to_tensor([image])
        self.numbers.put(f"{place}/spectral_centroid", float(spectral_centroid(x).mean()))
        self.numbers.put(f"{place}/contrast", float(x.std()))
        show = self.numbers.show
        centroid = show(f"{place}/spectral_centroid", ".2f", " cycles, contrast ")
        return figure(image, alt, (f"{name}: centroid ", centroid, show(f"{place}/contrast", ".3f")))

    def spectra(self) -> Sequence[Block]:
        """Mean log spectra of the first fields, and of each scale alone: as images and against the frequency."""
        import matplotlib
        from PIL import Image

        fields = self.first(max(PARTS, AVERAGED))
        groups = {"all scales": fields}
        groups |= {f"scale {k + 1} alone": [f.isolated(k) for f in fields] for k in range(fields[0].scales)}
        images = {name: to_tensor([f.render(self.small) for f in group]) for name, group in groups.items()}
        logs = {name: log_spectrum(x).mean(0) for name, x in images.items()}
        low, high = (float(s) for s in torch.stack([*logs.values()]).aminmax())
        shown, lines = [], {}
        for name, x in images.items():
            share = ((logs[name] - low) / max(high - low, 1e-9)).numpy()
            heat = Image.fromarray(matplotlib.colormaps["magma"](share, bytes=True)[..., :3])
            shown.append(figure(heat, f"log spectrum, {name}", name, pixels=True))
            radial = radial_spectrum(x)
            inside = radial.frequency <= self.small // 2  # beyond, rings are cut by the corners
            lines[name] = radial.frequency[inside].tolist(), radial.power.mean(0)[inside].tolist()
        power = chart(lines, "frequency (cycles per image)", "power (no unit)", log_x=True, log_y=True)
        title = f"Log magnitude of the spectrum, mean of {len(fields)} fields"
        return [Row(shown, len(shown), title), Row([power], 1, kind="charts")]

    def nearest(self) -> Section:
        """The first samples, each with its nearest training images and their distances (Fig. 13)."""
        count, rows = min(NEIGHBOURS, len(self.samples)) // 2 * 2 or 1, []
        known = self.train.inputs(range(len(self.train)))
        images = to_tensor([field.render(self.base) for field in self.samples[:count]])
        found = nearest(images, known, min(NEAREST, len(known)))
        size = self.base
        for k in range(count):
            at, indices = f"report/neighbours/{k}", found.indices[k].tolist()
            self.numbers.put(f"{at}/distances", found.distances[k].tolist())
            self.numbers.put(f"{at}/images", [self.name(self.train, i) for i in indices])
            shown = [self.sample(k)]
            for i, index in enumerate(indices):
                name = self.name(self.train, index)
                caption = (self.numbers.show(f"{at}/distances/{i}", ".2f"), f" {name}")
                shown.append(figure(self.true(self.train, index, size), name, caption))
            rows.append(Row(shown, len(shown), f"Sample {k} and its neighbours"))
        return self.section("neighbours", [Pair(rows)], kind="images", count=len(known))

    def credits(self) -> list[str]:
        from ddmi.data import emoji

        if not isinstance(self.train.source, emoji.Twemoji):
            return []
        return [f"Drawings in the data: {emoji.ATTRIBUTION} (creativecommons.org/licenses/by/4.0)."]


def busiest(field: Field, size: int) -> tuple[float, float, float]:
    """Highest variance in a window of 1/8 of a rendering of `size` pixels, and (x, y) in [-1, 1] of its centre."""
    x = to_tensor([field.render(size)])
    side = max(2, round(size * SHARES[-1]))
    mean, square = F.avg_pool2d(x, side, 1), F.avg_pool2d(x.square(), side, 1)
    variance = (square - mean.square()).sum(1)[0]  # (size - side + 1, the same)
    row, column = divmod(int(variance.argmax()), variance.shape[1])
    return float(variance.max()), (2 * column + side) / size - 1, (2 * row + side) / size - 1


def around(x: float, y: float, share: float) -> tuple[float, float, float, float]:
    """The window of this share of the frame's side around a point, moved inside [-1, 1]."""
    x, y = (min(max(v, share - 1), 1 - share) for v in (x, y))
    return max(x - share, -1.0), max(y - share, -1.0), min(x + share, 1.0), min(y + share, 1.0)


def outlined(image: Image.Image, outer: Sequence[float], inner: Sequence[float] | None) -> Image.Image:
    """The image of the outer window, with the inner one outlined."""
    from PIL import ImageDraw

    if inner is not None:
        box = [(v - outer[k % 2]) / (outer[2] - outer[0]) * image.width for k, v in enumerate(inner)]
        ImageDraw.Draw(image).rectangle(box, outline=(208, 79, 88), width=2)
    return image
