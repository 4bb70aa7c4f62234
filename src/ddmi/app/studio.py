"""What the application holds: models, the samples that were asked for, and what was rendered of them.

Everything here runs in the thread of the render queue, so that nothing needs a lock.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from ddmi import domains, weights
from ddmi.app.queue import RenderQueue
from ddmi.base.errors import UserError, unknown
from ddmi.config import Config
from ddmi.field import Field
from ddmi.model.sampling import SamplingConfig
from ddmi.pipeline import DDMIPipeline
from ddmi.pretrained import open_folder
from ddmi.recipe import Recipe
from ddmi.rendering import files, metadata
from ddmi.rendering.clip import Clip
from ddmi.rendering.mesh import MESHES

V = TypeVar("V")

LARGEST_IMAGE, LARGEST_MESH = 4096, 512
"""Pixels and cells a side."""
MOST_SAMPLES = 16
LONGEST_TEXT = 500


class Recent(Generic[V]):
    """What was used last, up to a size in all.

    Args:
        most: size of all that is kept. size: of one value; by default each counts 1.
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda value: 1) -> None:
        self.most, self.size, self.held = most, size, 0
        self._kept: OrderedDict[str, V] = OrderedDict()

    def get(self, key: str, make: Callable[[], V]) -> V:
        """The value of that key, made if it is not there."""
        if key not in self._kept:
            value = make()
            self._kept[key] = value
            self.held += self.size(value)
            while self.held > self.most and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self.held -= self.size(old)
        self._kept.move_to_end(key)
        return self._kept[key]

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def __getitem__(self, key: str) -> V:
        self._kept.move_to_end(key)
        return self._kept[key]


@dataclass(frozen=True)
class Origin:
    """Where a field comes from: plain values, whose digest is its name.

    Args:
        plain: one of these:

            - the metadata of a `Recipe`;
            - {"model", "encoded": digest of a file, "file": its name};
            - {"model", "from": plain, "to": plain, "share": 0..1}, between two others.
    """

    plain: Mapping[str, Any]

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.plain, sort_keys=True).encode()).hexdigest()[:16]


class Studio:
    """The models that are served, and their fields.

    Args:
        models: names or folders, as `from_pretrained` takes them. queue: what is asked while networks are evaluated.
    """

    def __init__(self, models: Sequence[str], queue: RenderQueue) -> None:
        self.queue = queue
        self.configs: dict[str, Config] = {name: open_folder(name)[1] for name in models}
        self._pipes: dict[str, DDMIPipeline] = {}
        self._origins: Recent[Origin] = Recent(10_000)
        self._latents: Recent[Tensor] = Recent(1 << 28, lambda z: z.nbytes)
        self._fields: Recent[Field[Any]] = Recent(48)
        self._rendered: Recent[bytes] = Recent(1 << 26, len)

    # models -----------------------------------------------------------------------------------------------------------

    def pipe(self, name: str) -> DDMIPipeline:
        """A model, loaded when it is first wanted."""
        if name not in self.configs:
            raise unknown("model", name, self.configs)
        if name not in self._pipes:
            pipe = self._pipes[name] = DDMIPipeline.from_pretrained(name)
            networks = [pipe.autoencoder.head, *([pipe.diffusion.unet] if pipe.diffusion is not None else [])]
            for network in networks:
                network.register_forward_pre_hook(lambda *_: self.queue.check())
        return self._pipes[name]

    def about(self, name: str) -> dict[str, Any]:
        """What the page has to know of a model."""
        config, card = self.configs[name], weights.find(name)
        sampling = SamplingConfig().of(config.diffusion)
        formats = config.domain.formats
        example = re.search(r'--text "([^"]+)"', (card / weights.CARD).read_text()) if card else None
        return {
            "name": name,
            "title": weights.title(name) if card else config.name,
            "domain": domains.name_of(config.domain),
            "condition": config.diffusion.condition,
            "classes": list(config.diffusion.classes),
            "example": example[1] if example else "",
            "sampler": "dpm" if sampling.sampler != "flow" else "flow",
            "steps": 12 if sampling.sampler != "flow" else sampling.steps,
            "guidance": sampling.guidance_scale,
            "views": list(formats.views),
            "layers": list(formats.layers),
            "options": list(formats.options),
            "files": list(formats.files),
            "scales": len(config.autoencoder.decoder.fields),
            "period": "period" in formats.options,
        }

    # fields -----------------------------------------------------------------------------------------------------------

    def sample(
        self, model: str, count: int, sampling: SamplingConfig, first: int = 0, **condition: Any
    ) -> list[dict[str, Any]]:
        """Samples first, first + 1, ... together; returns what `describe` says of each."""
        pipe = self.pipe(model)
        if not 1 <= count <= MOST_SAMPLES:
            raise UserError(f"count must be from 1 to {MOST_SAMPLES}, not {count}")
        if any(len(text) > LONGEST_TEXT for text in condition.values() if isinstance(text, str)):
            raise UserError(f"a prompt has at most {LONGEST_TEXT} characters")
        recipes = [Recipe.of(pipe, model, first + k, sampling, **condition) for k in range(count)]
        origins = [Origin(recipe.metadata()) for recipe in recipes]
        if any(origin.id not in self._latents for origin in origins):
            latents = pipe.latents(count, first=first, sampling=sampling, **condition)
            for origin, z in zip(origins, latents.split(1), strict=True):
                self._latents.get(origin.id, lambda z=z: z)  # type: ignore[misc]
        return [self.register(origin.plain) for origin in origins]

    def encode(self, model: str, data: bytes, name: str) -> dict[str, Any]:
        """A file: one that the program has written is the sample that it shows; any other is encoded."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / (re.sub(r"[^\w.-]", "_", Path(name).name)[-80:] or "file")
            path.write_bytes(data)
            try:
                plain = metadata.read(path)
                if plain.get("model") in self.configs and (
                    {"index", "share"} & plain.keys() or Origin(plain).id in self._latents
                ):
                    return {**self.register(plain), "restored": True}
                z = self.pipe(model).encode_latent(path)
            except UserError as error:
                raise UserError(str(error).replace(f"{folder}/", "")) from error
        origin = Origin({"model": model, "encoded": hashlib.sha256(data).hexdigest(), "file": path.name})
        self._latents.get(origin.id, lambda: z)
        return self.register(origin.plain)

    def register(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Give a name to what these plain values describe; nothing is computed yet. Raises UserError for nonsense."""
        if plain.get("model") not in self.configs:
            raise unknown("model", str(plain.get("model")), self.configs)
        if "from" in plain:
            share, ends = plain.get("share"), [plain[end] for end in ("from", "to") if isinstance(plain.get(end), dict)]
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise UserError(f"a share is from 0 to 1, not {share}")
            if len(ends) < 2 or any(self.register(end)["plain"]["model"] != plain["model"] for end in ends):
                raise UserError("an interpolation is between two samples of one model")
        elif "encoded" not in plain:
            plain = Recipe.read(plain).metadata()
        origin = Origin(plain)
        self._origins.get(origin.id, lambda: origin)
        return {"id": origin.id, "plain": dict(plain)}

    def origin(self, id: str) -> Mapping[str, Any]:
        """The plain values of a name."""
        if id not in self._origins:
            raise UserError("this sample is not known any more: sample it again")
        return self._origins[id].plain

    def field(self, id: str) -> Field[Any]:
        """The function of that name."""
        return self._fields.get(id, lambda: self.pipe(self.origin(id)["model"]).decode(self.latent(id))[0])

    def latent(self, id: str) -> Tensor:
        """The packed latent of that name, computed again where it is not kept."""
        return self._latents.get(id, lambda: self._latent(self.origin(id)))

    def _latent(self, plain: Mapping[str, Any]) -> Tensor:
        pipe = self.pipe(plain["model"])
        if "from" in plain:
            ends = [self.latent(Origin(plain[end]).id) for end in ("from", "to")]
            return pipe.between(ends[0], ends[1], plain["share"])
        if "encoded" in plain:
            raise UserError(f"{plain.get('file', 'the file')} is not kept any more: drop it once more")
        return Recipe.read(plain).latent(pipe)

    # renderings -------------------------------------------------------------------------------------------------------

    def render(self, id: str, options: Mapping[str, Any]) -> Any:
        """The rendering of a field, its options limited to what the application does."""
        field = self.field(id)
        given = {name: value for name, value in options.items() if value is not None}
        if (scales := given.pop("scales", None)) is not None:
            field = field.isolated(*scales)
        if left := given.keys() - {"size", "streamed", *field.domain.formats.options}:
            raise UserError(f"{', '.join(sorted(left))}: no option of this model's renderings")
        return field.render(**given)

    def clip(self, id: str) -> dict[str, Any]:
        """Length, rate and size of a clip as the model gives it."""
        rendering = self.render(id, {})
        if not isinstance(rendering, Clip):
            raise UserError("samples of this model are no clips")
        height, width = rendering.size
        return {"frames": len(rendering), "fps": rendering.fps, "width": width, "height": height}

    def image(self, id: str, options: Mapping[str, Any], frame: int = 0, layer: str = "") -> bytes:
        """A PNG of a rendering: of a clip one frame, of an object maybe another layer; the last ones are kept."""
        _check_size(options.get("size"), LARGEST_IMAGE)
        if layer and layer not in self.configs[self.origin(id)["model"]].domain.formats.layers:
            raise UserError(f"{layer!r} is no layer of this model's renderings")

        def make() -> bytes:
            import io

            rendering = self.render(id, options)
            if isinstance(rendering, Clip):
                image = rendering.image(min(max(frame, 0), len(rendering) - 1))
            else:
                image = getattr(rendering, layer) if layer else files.image_of(rendering)
            stream = io.BytesIO()
            image.save(stream, "PNG", compress_level=1)
            return stream.getvalue()

        return self._rendered.get(json.dumps([id, dict(options), frame, layer]), make)

    def file(self, id: str, ending: str, options: Mapping[str, Any]) -> bytes:
        """A file of a rendering, with its metadata."""
        formats = self.configs[self.origin(id)["model"]].domain.formats
        if ending not in formats.files:
            raise UserError(f"samples of this model are written as {', '.join(formats.files)}, not {ending!r}")
        mesh = ending in MESHES
        _check_size(options.get("size"), LARGEST_MESH if mesh else LARGEST_IMAGE)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"sample{ending}"
            files.save(self.render(id, {**options, "streamed": ending in formats.streamed or None}), path)
            metadata.stamp(path, self.origin(id))
            return path.read_bytes()


def _check_size(size: Any, most: int) -> None:
    """Raises UserError for a size beyond what one request may cost."""
    sides = [size] if isinstance(size, int) else size or ()
    if any(not isinstance(side, int) or not 1 <= side <= most for side in sides):
        raise UserError(f"a size is from 1 to {most} here, not {size}")
