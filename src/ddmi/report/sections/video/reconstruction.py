"""Held-out windows: truth beside reconstruction, in step, and the frames that the encoder did not see."""

from __future__ import annotations

from html import escape

import torch
from jaxtyping import Float
from torch import Tensor

from ddmi.domains.video.metrics import frames_at
from ddmi.field import Field
from ddmi.metrics.pixels import CEILING, psnr
from ddmi.rendering.clip import tiled
from ddmi.report import pictures
from ddmi.report.page import Section
from ddmi.report.playing import figure
from ddmi.report.sections.video.scene import Scene, blocks

SHOWN = 6
SIDE = 160
AMPLIFIED = 4
PLACE = "report/reconstructions"


def section(scene: Scene) -> Section:
    """Windows, playing; below, one left-out frame of each."""
    indices = scene.subjects[:SHOWN]
    fields = scene.evaluated.reconstruct(scene.held_out, indices)
    domain, numbers = scene.held_out.domain, scene.numbers
    found = [(k, indices[k], field) for k, field in enumerate(fields)]
    body = blocks([beside(scene, *one) for one in found])
    if domain.stride > 1 and domain.frames > 1:
        rows = [left_out(scene, *one) for one in found]
        told = ""
        if numbers.get("reconstruction/left_out/psnr") is not None:
            told = f" Over all left-out frames, ours have {numbers.show('reconstruction/left_out/psnr', '.2f')} dB, "
            told += f"blends {numbers.show('reconstruction/left_out/blend/psnr', '.2f')} dB."
        body += (
            f"<h3>Frames that the encoder did not see</h3><p>It reads one of {domain.stride} frames; the function is "
            "asked at the time of one between, where its neighbours differ most. The blend mixes the true neighbours, "
            f"which is what a frame rate is raised with where nothing is known of motion.{told}</p>"
            f"{''.join(rows)}"
        )
    mean = ""
    if numbers.get("reconstruction/seen/psnr") is not None:
        mean = f", {numbers.show('reconstruction/seen/psnr', '.2f')} dB in the mean over the held-out windows"
        mean += (
            f"; one still frame, the mean of the true ones, has "
            f"{numbers.show('reconstruction/seen/time_mean/psnr', '.2f')} dB"
        )
    height, width = domain.size
    lead = (
        "Clips that training never saw, left the truth, right ours, playing in step. The encoder reads "
        f"{domain.frames} frames of {width}×{height}, which is 1x. PSNR is of these frames{mean}."
    )
    return Section("reconstructions", "Reconstructions of held-out windows", lead, body, "Reconstructions")


def beside(scene: Scene, k: int, index: int, field: Field) -> str:
    """One playing picture of a window and its reconstruction, with PSNR at 1x and at the size shown."""
    data, at, name = scene.held_out, f"{PLACE}/{k}", scene.name(scene.held_out, index)
    scene.numbers.put(f"{at}/window", data.names[index])
    scale = max(1.0, scene.scale(SIDE))
    read = data.truth(index)
    ours = frames_at(scene.domain, field, data.times(), scene.size(1))
    scene.numbers.put(f"{at}/psnr", quality(ours, read))
    told, true = f"<b>{scene.numbers.show(f'{at}/psnr', '.1f')}</b> dB", read
    if scale > 1:
        true, ours = data.truth(index, scale), frames_at(scene.domain, field, data.times(), scene.size(scale))
        scene.numbers.put(f"{at}/psnr_{scale:g}x", quality(ours, true))
        told = f"1x {told}, {scale:g}x {scene.numbers.show(f'{at}/psnr_{scale:g}x', '.1f')} dB"
    clip = tiled([scene.clip(true), scene.clip(ours)], 2, 4)
    hard = max(true.shape) < pictures.PIXELS_SHOW
    return figure(clip, f"{name}, truth and reconstruction", f"{escape(name)}: {told}", pixels=hard)


def left_out(scene: Scene, k: int, index: int, field: Field) -> str:
    """Of the frames between those that the encoder read, the one whose neighbours differ most."""
    data, at, name = scene.held_out, f"{PLACE}/{k}/left_out", scene.name(scene.held_out, index)
    rate = data.domain.stride
    known = data.truth(index)
    gap = int(known.diff(dim=0).abs().mean(dim=(1, 2, 3)).argmax())
    step = rate // 2
    number = data.offsets()[gap] + step
    before, after, true = known[gap], known[gap + 1], data.pixels(data.window(index), [number], 1.0)
    time = data.times()[gap : gap + 1] + 2 * step / rate / data.domain.frames
    ours = frames_at(scene.domain, field, time, scene.size(1), rate)
    blend = torch.lerp(before, after, step / rate)[None]
    scene.numbers.put(f"{at}/frame", data.window(index).start + number)
    for key, frames in (("psnr", ours), ("blend_psnr", blend)):
        scene.numbers.put(f"{at}/{key}", quality(frames, true))
    frame = scene.numbers.show(f"{at}/frame")
    shown = {
        "read, before": before,
        f"left out: frame {frame}": true[0],
        f"ours <b>{scene.numbers.show(f'{at}/psnr', '.1f')}</b> dB": ours[0],
        f"blend {scene.numbers.show(f'{at}/blend_psnr', '.1f')} dB": blend[0],
        f"ours − truth, ×{AMPLIFIED}": amplified(ours[0], true[0]),
        f"blend − truth, ×{AMPLIFIED}": amplified(blend[0], true[0]),
        "read, after": after,
    }
    figures = [pictures.figure(pictures.to_picture(x), name, caption) for caption, x in shown.items()]
    return pictures.row(figures, len(figures), "sheet tight")


def quality(drawn: Float[Tensor, "k 3 h w"], true: Float[Tensor, "k 3 h w"]) -> float:
    """PSNR in dB of what 8 bits hold, frame by frame, averaged, as the metric does."""
    drawn = (drawn.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    return float(psnr(drawn, true).clamp_max(CEILING).mean())


def amplified(a: Float[Tensor, "3 h w"], b: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """The absolute difference, black where there is none, so many times brighter."""
    return (AMPLIFIED * (a - b).abs() - 1).clamp(-1, 1)
