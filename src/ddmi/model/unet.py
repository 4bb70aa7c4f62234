"""The denoiser: one 2-D U-Net shared by all planes, with attention across them and to a condition (section B.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ddmi.base.errors import check_count, check_share
from ddmi.base.planes import Layout, Planes, each
from ddmi.model.nn.attention import PlaneAttention, TextAttention
from ddmi.model.nn.blocks import Downsample, ResidualBlock, Upsample, convolution, norm, zeroed
from ddmi.model.nn.embeddings import TimeEmbedding


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Table 9, rows "Latent diffusion model".

    Args:
        base: width of the finest level.
        multipliers: widths of the levels, as multiples of it, finest first.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: downsampling factors at which there is attention across all cells of all planes.
        head_width: channels of an attention head.
        film: time and pooled condition also scale the normalised features of a block, not only shift them (Perez et al.
            2018; adaptive group normalisation of Dhariwal & Nichol 2021).
        groups: largest number of groups of a normalisation. With at least eight channels each, CPUs are several times
            faster at it.
        patch: cells along each axis that are folded into channels at the entrance and unfolded at the exit: the same
            latent at a fraction of the cost. An axis that it does not divide is left alone.
        dropout: in the residual blocks.
    """

    base: int = 256
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (2, 4, 8)
    head_width: int = 32
    film: bool = False
    groups: int = 32
    patch: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_count("diffusion.unet.groups", self.groups)
        check_count("diffusion.unet.patch", self.patch)
        check_share("diffusion.unet.dropout", self.dropout)


@dataclass(frozen=True)
class Condition:
    """What a sample is asked to be: text states (tokens and mask), or labels, of which the last is the null class.

    `against` is what classifier-free guidance leads away from; None: the null condition.
    """

    tokens: Float[Tensor, "b m k"] | None = None
    mask: Bool[Tensor, "b m"] | None = None
    labels: Int[Tensor, "b"] | None = None
    against: Condition | None = None

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return self._changed(lambda part: part.to(device))

    def join(self, other: Condition) -> Condition:
        """Both batches behind one another; shorter texts are padded with masked tokens."""
        if self.labels is not None and other.labels is not None:
            return Condition(labels=torch.cat([self.labels, other.labels]))
        assert self.tokens is not None and other.tokens is not None and self.mask is not None and other.mask is not None
        length = max(self.tokens.shape[1], other.tokens.shape[1])
        tokens, masks = [], []
        for part in (self, other):
            assert part.tokens is not None and part.mask is not None
            pad = length - part.tokens.shape[1]
            tokens.append(nn.functional.pad(part.tokens, (0, 0, 0, pad)))
            masks.append(nn.functional.pad(part.mask, (0, pad)))
        return Condition(torch.cat(tokens), torch.cat(masks))

    def take(self, index: Tensor) -> Condition:
        """The rows `index` of the batch."""
        return self._changed(lambda part: part[index])

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Condition:
        tokens, mask, labels = (
            part if part is None else change(part) for part in (self.tokens, self.mask, self.labels)
        )
        return Condition(tokens, mask, labels, None if self.against is None else self.against._changed(change))


class _Stage(nn.Module):
    """A residual block on every plane, then attention across planes and to the condition where asked."""

    def __init__(self, inputs: int, outputs: int, embedding: int, attend: bool, text: int, config: UNetConfig) -> None:
        super().__init__()
        groups = config.groups
        self.block = ResidualBlock(inputs, outputs, embedding, config.dropout, config.film, groups)
        self.attention = PlaneAttention(outputs, config.head_width, groups) if attend else None
        self.text = TextAttention(outputs, text, config.head_width, groups) if attend and text else None

    def forward(self, planes: Planes, times: Planes, condition: Condition | None) -> Planes:
        planes = each(self.block, planes, times)
        if self.attention is not None:
            planes = self.attention(planes)
        if self.text is not None:
            assert condition is not None
            planes = {name: self.text(x, condition.tokens, condition.mask) for name, x in planes.items()}
        return planes


class UNet(nn.Module):
    """(noisy planes, time, condition) -> planes. What the output means is known to `diffusion.py` alone.

    Args:
        channels: of the latent. text: width of the text states (0: no text). classes: number of classes (0: none).
        target: whether there is a second time, embedded like the first; at the beginning it has no effect.
    """

    def __init__(
        self, config: UNetConfig, layout: Layout, channels: int, text: int = 0, classes: int = 0, target: bool = False
    ) -> None:
        super().__init__()
        self.classes = classes
        embedding = 4 * config.base
        self.time = TimeEmbedding(config.base, embedding)
        self.target = TimeEmbedding(config.base, embedding, zero=True) if target else None
        self.planes = nn.ParameterDict(
            {plane.name: nn.Parameter(torch.zeros(embedding)) for plane in layout if len(layout) > 1}
        )
        context = text or (config.base if classes else 0)
        self.label = nn.Embedding(classes + 1, context) if classes else None
        self.pooled = nn.Sequential(nn.LayerNorm(context), nn.Linear(context, embedding)) if context else None
        self.activate = nn.SiLU()
        self.folds = {
            plane.name: (_factor(plane.shape[0], config.patch), _factor(plane.shape[1], config.patch))
            for plane in layout
        }
        area = max(h * w for h, w in self.folds.values())
        self.folded = channels * area
        self.enter = convolution(self.folded, config.base)

        widths = [config.base * multiplier for multiplier in config.multipliers]
        attends = [2**i in config.attention for i in range(len(widths))]

        def stage(inputs: int, outputs: int, attend: bool) -> _Stage:
            return _Stage(inputs, outputs, embedding, attend, context, config)

        width, skips = config.base, [config.base]
        self.down = nn.ModuleList()
        for i, outputs in enumerate(widths):
            stages = nn.ModuleList()
            for _ in range(config.blocks):
                stages.append(stage(width, outputs, attends[i]))
                width = outputs
                skips.append(width)
            if i < len(widths) - 1:
                stages.append(Downsample(width))
                skips.append(width)
            self.down.append(stages)
        self.middle = nn.ModuleList([stage(width, width, True), stage(width, width, False)])
        self.up = nn.ModuleList()
        for i, outputs in reversed(list(enumerate(widths))):
            stages = nn.ModuleList()
            for _ in range(config.blocks + 1):
                stages.append(stage(width + skips.pop(), outputs, attends[i]))
                width = outputs
            if i > 0:
                width = widths[i - 1]
                stages.append(Upsample(outputs, width))
            self.up.append(stages)
        self.exit = nn.Sequential(norm(width, config.groups), nn.SiLU(), zeroed(convolution(width, self.folded)))

    def forward(
        self,
        planes: Planes,
        t: Float[Tensor, "b"],
        condition: Condition | None = None,
        target: Float[Tensor, "b"] | None = None,
    ) -> Planes:
        """One evaluation. Raises ValueError when a conditional network is given no condition."""
        embedding = self.time(t)
        if self.target is not None:
            assert target is not None
            embedding = embedding + self.target(target)
        if self.pooled is not None:
            if condition is None:
                raise ValueError("this denoiser was built with a condition, and was given none")
            if self.label is not None:
                token = self.label(condition.labels)[:, None]
                condition = Condition(token, torch.ones(token.shape[:2], dtype=torch.bool, device=token.device))
            assert condition.tokens is not None and condition.mask is not None
            weight = condition.mask.to(condition.tokens.dtype)[:, :, None]
            embedding = embedding + self.pooled((condition.tokens * weight).sum(1) / weight.sum(1).clamp(min=1))
        times = {
            name: self.activate(embedding + self.planes[name] if name in self.planes else embedding) for name in planes
        }
        hidden = each(self.enter, {name: fold(x, self.folds[name], self.folded) for name, x in planes.items()})
        skips = [hidden]
        for stages in self.down:
            for part in stages:  # type: ignore[attr-defined]
                hidden = each(part, hidden) if isinstance(part, Downsample) else part(hidden, times, condition)
                skips.append(hidden)
        for part in self.middle:
            hidden = part(hidden, times, condition)
        for stages in self.up:
            for part in stages:  # type: ignore[attr-defined]
                if isinstance(part, Upsample):
                    hidden = {name: part(x, tuple(skips[-1][name].shape[2:])) for name, x in hidden.items()}
                else:
                    skip = skips.pop()
                    joined = {name: torch.cat([x, skip[name]], dim=1) for name, x in hidden.items()}
                    hidden = part(joined, times, condition)
        out = each(self.exit, hidden)
        return {name: unfold(x, self.folds[name], planes[name].shape[1]) for name, x in out.items()}


def _factor(cells: int, patch: int) -> int:
    return patch if cells % patch == 0 else 1


def fold(x: Float[Tensor, "b c h w"], by: tuple[int, int], channels: int) -> Float[Tensor, "b k h2 w2"]:
    """Blocks of cells as channels, filled up with zero channels where a plane folds less than others."""
    x = x.unflatten(3, (-1, by[1])).unflatten(2, (-1, by[0]))  # (b, c, h2, p, w2, q)
    x = x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    return nn.functional.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1])) if x.shape[1] < channels else x


def unfold(x: Float[Tensor, "b k h2 w2"], by: tuple[int, int], channels: int) -> Float[Tensor, "b c h w"]:
    """The inverse of `fold`."""
    x = x[:, : channels * by[0] * by[1]].unflatten(1, (channels, *by))  # (b, c, p, q, h2, w2)
    return x.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
