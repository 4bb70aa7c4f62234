"""What a domain is: eight questions, and nothing more."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmi.base.errors import UserError
from ddmi.base.planes import Layout, dimensions
from ddmi.model.encoders.base import Encoder
from ddmi.model.observed import Observations
from ddmi.model.signal import Signal

Split = Literal["train", "test", "all"]
Own = TypeVar("Own", bound="Batch")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one training step sees. Each domain adds what its likelihood reads; the rest of training needs this alone.

    Args:
        x: what the encoder reads.
        seeds: one number a signal; all noise of the step derives from it, whatever process the signal lands on.
        shrink: factor by which the latent planes are reduced, low-pass filtered, before they are decoded; the targets
            are then those of the signal at equally reduced resolution (scale equivariance).
    """

    x: Tensor
    seeds: tuple[int, ...]
    shrink: float = 1.0

    def to(self: Own, device: torch.device | str) -> Own:
        """The same on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class PointBatch(Batch):
    """A batch of signals whose values at some points are known.

    Args:
        coordinates: where, in [-1, 1].
        targets: the values there.
    """

    coordinates: Float[Tensor, "#b n d"]
    targets: Float[Tensor, "b n c"]


@dataclass(frozen=True, kw_only=True)
class PixelBatch(PointBatch):
    """A batch of images or clips.

    Args:
        periods: sampling periods of the targets, one set for the whole batch.
        patch: (height, width) when the points of each signal, or of each of its frames, form an image, else None.
    """

    periods: Float[Tensor, "p"]
    patch: tuple[int, int] | None = None


SHRINKAGES = (0.5, 0.25)
"""Factors by which planes are reduced in the steps of scale equivariance."""


def shrinkage(share: float, choice: torch.Generator) -> float:
    """The `Batch.shrink` of a step: one of SHRINKAGES in this share of the steps, else 1."""
    if not share:
        return 1.0
    u, v = torch.rand(2, generator=choice).tolist()
    return SHRINKAGES[int(v * len(SHRINKAGES))] if u < share else 1.0


@dataclass(frozen=True)
class Score:
    """Answer to question 5: the negative log-likelihood a value, and the images it was read from where there are any.

    `prediction` and `target` are (b, 3, h, w) in [-1, 1]; perceptual and adversarial losses look at them. `period` is
    their sampling period, on which the discriminator is conditioned.
    """

    loss: Float[Tensor, ""]
    prediction: Float[Tensor, "b 3 h w"] | None = None
    target: Float[Tensor, "b 3 h w"] | None = None
    period: float = 1.0


B = TypeVar("B", bound=Batch, covariant=True)


@runtime_checkable
class Dataset(Protocol[B]):
    """Answer to question 4."""

    names: list[str]  # of the items, stable
    captions: list[str] | None
    phrasings: list[list[str]] | None  # all captions of an item that has several; training draws one at each visit
    labels: list[int] | None
    classes: list[str]

    def __len__(self) -> int: ...

    def epoch(self, generator: torch.Generator) -> list[int]:
        """The indices of one pass over the data, in their order."""
        ...

    def inputs(self, indices: Sequence[int]) -> Tensor:
        """x of these items: what the encoder reads."""
        ...

    def batch(self, indices: Sequence[int], choice: torch.Generator, seeds: Sequence[int]) -> B:
        """A training batch. `choice` draws what the whole batch shares, `seeds[k]` what item k has for itself."""
        ...


LOOKED_AT = 64
"""Items, spread over the data, whose content tells data of the same names apart."""


def fingerprint(dataset: Dataset[Any], indices: Sequence[int]) -> str:
    """SHA-256 of the data's names, labels and captions, of which items are meant, and of what some of these hold."""
    told = (dataset.names, dataset.labels, dataset.phrasings or dataset.captions, list(indices))
    found = hashlib.sha256(repr(told).encode())
    for k in sorted({i * len(indices) // LOOKED_AT for i in range(LOOKED_AT)} if len(indices) else ()):
        found.update(dataset.inputs([indices[k]]).contiguous().numpy().tobytes())
    return found.hexdigest()


FieldLike = Callable[..., Tensor]
"""field(coordinates (n, d), periods=None, extras=None) -> (n, c), without gradients unless the caller wants them."""


D = TypeVar("D", bound=Dataset[Any])
"""The data set of a domain."""


@dataclass(frozen=True)
class Evidence(Generic[D]):
    """What a metric may look at.

    Args:
        train, held_out: the data, seen and unseen in training.
        reconstruct: (dataset, indices) -> fields of their posteriors' modes.
        samples: fields that the model drew, which may be decoded only when they are asked for; empty before stage 2.
        asked: the training items whose captions or labels the samples were asked for; empty without a condition.
        draw: (texts, first) -> samples `first`, `first + 1`, ... of the seed, one a text; None where the model takes no
            text.
        seed: of whatever a metric draws.
        features: the feature network, by name or by the file of its weights.
        neighbours: k of metrics that look at the k-th nearest neighbour.
        size: at which samples are rendered and real items resized for `Metrics.sized`; 0: the domain's own.
        limit: real items of each part that these metrics look at, at most; 0: no limit of the user's.
        evaluators: other networks that metrics look with: name -> file, folder or hub id.
        cache: a folder for what is slow to compute and depends on the data alone; None keeps nothing.
        device: where networks of metrics run.
    """

    train: D
    held_out: D
    reconstruct: Callable[[D, Sequence[int]], Sequence[FieldLike]]
    samples: Sequence[FieldLike]
    seed: int = 0
    asked: Sequence[int] = ()
    draw: Callable[[Sequence[str], int], Sequence[FieldLike]] | None = None
    features: str = "efficientnet-lite0"
    neighbours: int = 3
    size: int = 0
    limit: int = 0
    evaluators: Mapping[str, str] = field(default_factory=dict)
    cache: Path | None = None
    device: str = "cpu"


Metric = Callable[[Evidence[Any]], dict[str, Any]]
"""Numbers, and beside them the protocol they were taken with."""


@dataclass(frozen=True)
class Metrics:
    """Answer to question 8.

    Args:
        functions: the metrics by name.
        quality: numbers that compare sets of samples (Tables 8 and 12): name -> its place, "metric/key/key".
        fidelity: numbers that compare reconstructions, likewise.
        sized: the metrics that can be taken at any size (Tables 1, 3 and 4).
    """

    functions: Mapping[str, Metric]
    quality: Mapping[str, str] = field(default_factory=dict)
    fidelity: Mapping[str, str] = field(default_factory=dict)
    sized: Sequence[str] = ()


@runtime_checkable
class Rendering(Protocol):
    """Answer to question 6: what a person can look at. An image field gives an image of PIL, whose `save` this is."""

    def save(self, path: str | Path, /) -> None:
        """Write it in the format that the ending of the name says."""


R = TypeVar("R", bound=Rendering, covariant=True)


@dataclass(frozen=True)
class Formats:
    """Answer to question 7: which files a rendering can become.

    Args:
        files: endings of one rendering, the default first.
        sheets: endings of several in one file, the default first.
        streamed: endings that `render(..., streamed=True)` can be written with, for sizes beyond memory.
        options: which of window, period, frames, fps, time and view `render` takes.
        views: how a person explores one in the application: "zoom" (an image without an end), "film" (a clip, through
            continuous time), "mesh" (an object to turn), "camera" (images from any side); none: it stands still.
        layers: further images of an object, attributes of the rendering.
    """

    files: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".webp")
    sheets: tuple[str, ...] = ()
    streamed: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


class Domain(ABC, Generic[R, D]):
    """A kind of signal. Subclasses are frozen dataclasses: their fields are the domain's settings."""

    periods: int = 0
    """How many sampling periods a query of this domain has (section B.1); 0 for none."""

    formats: Formats = Formats()
    """Which files a rendering can become."""

    # 1
    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Which planes, over which axes, at which latent size."""

    # 2
    @abstractmethod
    def encoder(self) -> Encoder:
        """x -> {plane: features}."""

    # 3
    @abstractmethod
    def head(self, width: int) -> nn.Module:
        """(point features (b, n, width), extras) -> signal (b, n, c)."""

    # 4
    @abstractmethod
    def open(self, path: Any) -> Any:
        """A source of data: every file is opened and checked here, once for all parts that are made of it.

        Args:
            path: a folder, or a file that is one item; None for data that the domain brings itself.

        Raises:
            UserError: nothing there that this domain can be trained on.
        """

    @abstractmethod
    def dataset(self, source: Any, split: Split) -> D:
        """One part of what `open` returned: where batches come from."""

    def fitted(self, source: Any) -> Domain[R, D]:
        """The settings that this data allows: without scales, say, that its images are too small for."""
        return self

    # 5
    @property
    def points(self) -> int:
        """At how many points a step evaluates each signal; 0: at as many as the encoder reads."""
        return 0

    @abstractmethod
    def likelihood(self, signal: Signal, batch: Any) -> Score:
        """Evaluate the signal where a batch of the domain's own data set says, and score the values."""

    observable: tuple[str, ...] = ()
    """What `observations` takes: the options of `ddmi complete` that have a meaning here."""

    def observations(self, **files: Any) -> Observations:
        """What files tell of one signal. Raises UserError for files that do not fit, or that leave nothing open."""
        raise UserError("samples of this model cannot be completed from files")

    @property
    def evaluations(self) -> int:
        """Evaluations of the field for one observed value."""
        return 1

    def within(self, observed: Observations) -> Observations:
        """The same, checked to be of this domain. Raises UserError."""
        return observed.within(dimensions(self.layout))

    def predicted(self, signal: Signal, coordinates: Float[Tensor, "n d"]) -> Float[Tensor, "b n c"]:
        """What the signals are where they were observed, in the units of the observed values."""
        return signal(coordinates[None], torch.ones(self.periods) if self.periods else None)

    def misfit(self, signal: Signal, seen: Observations, jitter: Float[Tensor, "b n c"]) -> Float[Tensor, "b"]:
        """The negative log-likelihood of each signal up to a constant: Gaussian (Eq. 11), of values that `jitter`,
        standard normal, perturbs.
        """
        at = seen.coordinates
        found = self.predicted(signal, at.flatten(0, -2)).float()
        found = found if at.dim() == 2 else found.unflatten(1, at.shape[:2]).mean(2)
        if seen.mix is not None:
            found = found @ found.new_tensor(seen.mix)[:, None]
        if found.shape[2] != seen.values.shape[1]:
            raise UserError(f"this signal has {found.shape[2]} values at each place, not {seen.values.shape[1]}")
        return 0.5 * ((found - seen.values) / seen.noise - jitter).square().sum((1, 2))

    # 6
    @abstractmethod
    def render(self, field: FieldLike, *size: Any, **options: Any) -> R:
        """A sample that a person can look at, at any size. All arguments are checked before the field is evaluated."""

    def as_given(self, rendering: Any, path: str | Path, ending: str) -> Any:
        """The rendering of a reconstructed file, placed as that file has it, to be saved with this ending."""
        return rendering

    # 8
    @abstractmethod
    def metrics(self) -> Metrics:
        """How samples and reconstructions of this domain are evaluated."""
