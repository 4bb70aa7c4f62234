"""The web server: requests become jobs of the render queue; errors become one line of JSON; nobody else is let in."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ddmi.app.queue import LATER, NOW, SOON, Abandoned, Busy, Job
from ddmi.app.studio import Studio
from ddmi.base.errors import UserError, missing_extra
from ddmi.base.terminal import verdict
from ddmi.model.sampling import SAMPLERS, SamplingConfig
from ddmi.recipe import Recipe
from ddmi.rendering.mesh import MESHES

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError as error:
    raise missing_extra("starlette", "app") from error

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
LARGEST_FILE, LARGEST_JSON = 64 << 20, 64 << 10
"""Bytes of a file to encode, and of any other request."""
PROGRESS = 0.1
"""Seconds between two notes of progress."""

HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
"""Of every answer: the page loads nothing from elsewhere, and no other page may use it."""
LASTING = {"cache-control": "private, max-age=86400, immutable"}
"""The same address always gives the same rendering."""


class Refused(UserError):
    """A request that is not answered, with the status that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class SameOrigin:
    """Lets in what this server's own pages ask for, by its address or under the names that it is known by.

    A page of another site can send requests here, and another site's name can be made to lead here; both are refused.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app, self.hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        name = urlsplit(f"//{host}").hostname or ""
        known = name in self.hosts or _is_address(name)
        own = origin is None or urlsplit(origin).netloc == host
        if not known or not own or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            answer = JSONResponse({"error": "this server answers its own pages only"}, 403)
            await answer(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, with_headers)


class Application:
    """The answers to requests."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.queue = studio, studio.queue

    async def done(self, request: Request, work: Callable[[], Any], urgency: int) -> Any:
        """The result of a job, given up when the one who asked has gone."""
        job = self.queue.submit(work, urgency)
        gone = asyncio.ensure_future(_gone(request))
        try:
            result = asyncio.wrap_future(job.future)
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise Abandoned
            return result.result()
        finally:
            gone.cancel()
            job.give_up()

    async def page(self, request: Request) -> Response:
        """The one page."""
        return FileResponse(STATIC / "index.html")

    async def models(self, request: Request) -> Response:
        """What there is."""
        about = [self.studio.about(name) for name in self.studio.configs]
        return JSONResponse({"models": about, "samplers": SAMPLERS})

    async def load(self, request: Request) -> Response:
        """Load a model before it is needed."""
        name = (await _json(request)).get("model", "")
        await self.done(request, lambda: self.studio.pipe(name), SOON)
        return Response(status_code=204)

    async def samples(self, request: Request) -> Response:
        """Sample: a line of JSON for each note of progress, and one with the samples."""
        given = await _json(request)
        sampling, call = _sampling(given), self.studio.sample
        condition = {name: given[name] for name in ("text", "negative", "label") if given.get(name) not in (None, "")}
        count, first, model = (given.get(name, value) for name, value in (("count", 4), ("first", 0), ("model", "")))
        if not all(isinstance(number, int) for number in (count, first)):
            raise UserError("count and first are whole numbers")
        job = self.queue.submit(lambda: call(model, count, sampling, first, **condition), SOON)
        return StreamingResponse(_notes(job), media_type="application/x-ndjson")

    async def register(self, request: Request) -> Response:
        """A name for what a link, a file or the history describes."""
        plain = (await _json(request)).get("plain")
        if not isinstance(plain, dict):
            raise UserError("plain is what describes a sample")
        return JSONResponse(await self.done(request, lambda: self.studio.register(plain), NOW))

    async def encode(self, request: Request) -> Response:
        """A file of one's own."""
        model, name = (request.query_params.get(key, "") for key in ("model", "name"))
        data = await _body(request, LARGEST_FILE)
        return JSONResponse(await self.done(request, lambda: self.studio.encode(model, data, name), SOON))

    async def image(self, request: Request) -> Response:
        """A PNG of a rendering."""
        id, query = request.path_params["id"], request.query_params
        options, frame = _options(query), _whole("frame", query.get("frame", "0"))
        layer, urgency = query.get("layer", ""), NOW if "soon" not in query else SOON
        png = await self.done(request, lambda: self.studio.image(id, options, frame, layer), urgency)
        return Response(png, media_type="image/png", headers=LASTING)

    async def file(self, request: Request) -> Response:
        """A file to keep, or a mesh to look at."""
        id, ending = request.path_params["id"], f".{request.path_params['ending']}"
        options = _options(request.query_params)
        urgency = SOON if ending in MESHES else LATER
        data = await self.done(request, lambda: self.studio.file(id, ending, options), urgency)
        name = f"{self.studio.origin(id)['model'].rpartition('/')[2]}-{id[:6]}{ending}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type="application/octet-stream", headers=headers)

    async def about(self, request: Request) -> Response:
        """What makes the sample again."""
        id, options = request.path_params["id"], _options(request.query_params)
        plain = self.studio.origin(id)
        ending = request.query_params.get("format", self.studio.configs[plain["model"]].domain.formats.files[0])
        if "clip" in request.query_params:
            return JSONResponse({"clip": await self.done(request, lambda: self.studio.clip(id), NOW)})
        if "from" in plain or "encoded" in plain:
            return JSONResponse({"plain": plain, "command": "", "python": ""})
        recipe = Recipe.read(plain)
        python = {name: value for name, value in options.items() if value is not None}
        shell = {name: _sized(value) if name == "size" else value for name, value in python.items() if name != "period"}
        shown = {"plain": plain, "command": recipe.command({**shell, "format": ending.removeprefix(".")})}
        return JSONResponse({**shown, "python": recipe.python(python, save=f"sample{ending}")})


def application(studio: Studio, hosts: Iterable[str]) -> SameOrigin:
    """The ASGI application.

    Args:
        hosts: names and addresses that the server is reached by.
    """
    answers = Application(studio)
    one = "/api/fields/{id:str}"
    routes = [
        Route("/", answers.page),
        Route("/api/models", answers.models),
        Route("/api/load", answers.load, methods=["POST"]),
        Route("/api/samples", answers.samples, methods=["POST"]),
        Route("/api/fields", answers.register, methods=["POST"]),
        Route("/api/files", answers.encode, methods=["POST"]),
        Route(one, answers.about),
        Route(f"{one}/image.png", answers.image),
        Route(f"{one}/sample.{{ending:str}}", answers.file),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        studio.queue.close()

    errors: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {Exception: _failed, Abandoned: _failed}
    errors |= {UserError: _failed, Busy: _failed, ClientDisconnect: _failed}
    return SameOrigin(Starlette(routes=routes, exception_handlers=errors, lifespan=lifespan), hosts)


async def _failed(request: Request, error: Exception) -> Response:
    """One line of what went wrong."""
    if isinstance(error, Abandoned | ClientDisconnect):
        return Response(status_code=499)
    status = {Refused: getattr(error, "status", 400), Busy: 503}.get(type(error))
    if status is None:
        status = 400 if isinstance(error, ValueError) else 500
    if status == 500:
        log.warning("%s: %s", request.url.path, verdict(error)[1])
    return JSONResponse({"error": str(error) if status != 500 else verdict(error)[1]}, status)


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


async def _gone(request: Request) -> None:
    """Returns when the one who asked has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _notes(job: Job) -> AsyncIterator[bytes]:
    """Progress of a job and then its result, a line of JSON each; the job is given up when nobody listens."""
    result = asyncio.wrap_future(job.future)
    try:
        while not (await asyncio.wait({result}, timeout=PROGRESS))[0]:
            yield json.dumps({"evaluations": job.evaluations}).encode() + b"\n"
        yield json.dumps({"samples": result.result()}).encode() + b"\n"
    except Abandoned:
        return
    except Exception as error:
        status, text = verdict(error)
        if status == 1:
            log.warning("sampling: %s", text)
        yield json.dumps({"error": text}).encode() + b"\n"
    finally:
        job.give_up()


async def _body(request: Request, most: int) -> bytes:
    """The body of a request. Raises Refused for one that is too long, before it has been read."""
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > most:
            raise Refused(413, f"at most {most >> 10:,} KB are taken")
        parts.append(part)
    return b"".join(parts)


async def _json(request: Request) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        found = json.loads(await _body(request, LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError("the body of this request is one JSON object") from error
    if not isinstance(found, dict):
        raise UserError("the body of this request is one JSON object")
    return found


def _sampling(given: dict[str, Any]) -> SamplingConfig:
    """How to sample. Raises UserError for what is not allowed."""
    number = given.get("guidance")
    if number is not None and not isinstance(number, int | float):
        raise UserError("guidance is a number")
    return SamplingConfig(
        seed=given.get("seed", 0),
        sampler=given.get("sampler") or None,
        steps=given.get("steps", 0),
        guidance_scale=None if number is None else float(number),
    )


def _options(query: Any) -> dict[str, Any]:
    """Options of a rendering from the query of an address."""
    found: dict[str, Any] = {}
    for name, several in (("window", True), ("view", True), ("time", True), ("period", False), ("fps", False)):
        if name in query:
            numbers = tuple(_number(name, part) for part in query[name].split(","))
            found[name] = numbers if several else numbers[0]
    if "size" in query:
        width, _, height = query["size"].partition("x")
        found["size"] = (_whole("size", height), _whole("size", width)) if height else _whole("size", width)
    if "frames" in query:
        found["frames"] = _whole("frames", query["frames"])
        if found["frames"] > 10_000:
            raise UserError("at most 10000 frames")
    if "scales" in query:
        found["scales"] = tuple(_whole("scales", part) for part in query["scales"].split(",") if part)
    return found


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{name}: {text!r} is no number") from error


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise UserError(f"{name}: {text!r} is no whole number")
    return int(text)


def _sized(size: Any) -> str:
    """A size as the command line has it."""
    return str(size) if isinstance(size, int) else f"{size[1]}x{size[0]}"
