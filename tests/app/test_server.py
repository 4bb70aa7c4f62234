"""The server without a browser: renderings are those of the library, and what is not allowed is one line."""

from __future__ import annotations

import asyncio
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image
from tiny import alike, config, untrained

pytest.importorskip("starlette", reason="the extra app is not installed")
pytest.importorskip("httpx2", reason="the extra dev is not installed")

from starlette.testclient import TestClient

from ddmi import DDMIPipeline
from ddmi.app.queue import NOW, RenderQueue
from ddmi.app.server import LARGEST_FILE, application
from ddmi.app.studio import Recent, Studio
from ddmi.recipe import Recipe
from ddmi.rendering import metadata

HOSTS = {"localhost", "testserver"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(untrained(tmp_path_factory.mktemp("app") / "run", settings=config()))


@pytest.fixture(scope="module")
def studio(model):
    queue = RenderQueue()
    yield Studio([model], queue)
    queue.close()


@pytest.fixture(scope="module")
def client(studio):
    with TestClient(application(studio, HOSTS), raise_server_exceptions=False) as made:
        yield made


def sample(client, model, **options):
    answer = client.post("/api/samples", json={"model": model, "sampler": "dpm", "steps": 3, "count": 2, **options})
    assert answer.status_code == 200
    return json.loads(answer.text.splitlines()[-1])


def image(answer):
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_samples_and_tiles_are_those_of_the_library(client, model):
    samples = sample(client, model)["samples"]
    fields = DDMIPipeline.from_pretrained(model)(2, seed=0, sampler="dpm", steps=3)
    for one, field in zip(samples, fields, strict=True):
        for window in ((-1, -1, 1, 1), (0.25, -0.5, 0.5, -0.25)):
            tile = client.get(
                f"/api/fields/{one['id']}/image.png", params={"size": 16, "window": ",".join(map(str, window))}
            )
            assert alike(image(tile), field.render(16, window=window))
    alone = client.get(f"/api/fields/{samples[0]['id']}/image.png?size=16&scales=0&period=1")
    assert alike(image(alone), fields[0].isolated(0).render(16, period=1.0))


def test_a_description_brings_the_same_function_back(client, model):
    one = sample(client, model, seed=5, first=3)["samples"][1]
    before = image(client.get(f"/api/fields/{one['id']}/image.png?size=12"))
    fresh = Studio([model], RenderQueue())
    with TestClient(application(fresh, HOSTS)) as other:
        again = other.post("/api/fields", json={"plain": one["plain"]}).json()
        assert again["id"] == one["id"]
        assert alike(image(other.get(f"/api/fields/{one['id']}/image.png?size=12")), before)


def test_what_makes_it_again_is_shown(client, model):
    one = sample(client, model)["samples"][1]
    shown = client.get(f"/api/fields/{one['id']}?size=16x12&format=.webp").json()
    assert shown["command"].startswith("ddmi sample ")
    assert "--count 2" in shown["command"] and "--size 16x12" in shown["command"]
    known = {}
    exec(shown["python"].replace("field.render(", "image = field.render(").rpartition(".save")[0], known)
    got = image(client.get(f"/api/fields/{one['id']}/image.png?size=16x12"))
    assert got.size == (16, 12)
    assert alike(got, known["image"])


def test_interpolation_goes_from_one_to_the_other(client, model):
    a, b = sample(client, model)["samples"]

    def between(share):
        plain = {"model": model, "from": a["plain"], "to": b["plain"], "share": share}
        return client.post("/api/fields", json={"plain": plain}).json()["id"]

    def shown(id):
        return np.asarray(image(client.get(f"/api/fields/{id}/image.png?size=8"))).astype(int)

    assert np.abs(shown(between(0.0)) - shown(a["id"])).max() <= 1
    assert np.abs(shown(between(1.0)) - shown(b["id"])).max() <= 1
    assert np.abs(shown(between(0.5)) - shown(a["id"])).max() > 1
    for wrong in ({"share": 0.5}, {"share": 0.5, "to": 1}, {"to": b["plain"]}, {"to": b["plain"], "share": "half"}):
        answer = client.post("/api/fields", json={"plain": {"model": model, "from": a["plain"], **wrong}})
        assert answer.status_code == 400 and answer.json()["error"]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".gif", ".tif"])
def test_a_file_says_how_it_was_made_and_brings_it_back(ending, client, model, tmp_path):
    if ending == ".tif":
        pytest.importorskip("tifffile")
    one = sample(client, model)["samples"][1]
    answer = client.get(f"/api/fields/{one['id']}/sample{ending}?size=16")
    assert answer.status_code == 200, answer.text
    path = tmp_path / f"one{ending}"
    path.write_bytes(answer.content)
    assert metadata.read(path) == one["plain"]
    assert Recipe.read(metadata.read(path)).index == 1
    dropped = client.post(f"/api/files?model={model}&name=one{ending}", content=answer.content).json()
    assert dropped["restored"] and dropped["id"] == one["id"]


def test_a_file_of_ones_own_is_encoded(client, model, pictures):
    path = pictures / "00.png"
    one = client.post("/api/files", params={"model": model, "name": "a b.png"}, content=path.read_bytes()).json()
    got = image(client.get(f"/api/fields/{one['id']}/image.png?size=8"))
    assert alike(got, DDMIPipeline.from_pretrained(model).encode(path).render(8))
    answer = client.post("/api/files", params={"model": model, "name": "../x.png"}, content=b"no image")
    assert answer.status_code == 400 and "x.png" in answer.json()["error"] and "/tmp" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_others_are_refused(headers, client):
    answer = client.get("/api/models", headers=headers)
    assert answer.status_code == 403
    assert client.get("/api/models", headers={"host": "127.0.0.1:7860"}).status_code == 200


def test_the_page_asks_nobody_else(client):
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http://" not in page.text and "https://" not in page.text


def refused(client, model):
    id = sample(client, model)["samples"][0]["id"]
    one = f"/api/fields/{id}"
    yield client.get(f"{one}/image.png?size=100000"), "4096"
    yield client.get(f"{one}/image.png?size=many"), "whole number"
    yield client.get(f"{one}/image.png?size=8&window=-3,0,1,1"), "inside"
    yield client.get(f"{one}/image.png?size=8&view=3,0"), "view"
    yield client.get(f"{one}/image.png?size=8&layer=__class__"), "layer"
    yield client.get(f"{one}/sample.exe"), ".png"
    yield client.get("/api/fields/0123456789abcdef/image.png"), "not known"
    yield client.post("/api/fields", json={"plain": {"model": "other"}}), "unknown model"
    yield client.post("/api/fields", content=b"[" * 5000), "JSON"
    yield client.post("/api/fields", content=b"x" * 100_000), "KB"
    yield client.post("/api/samples", json={"model": model, "steps": -1}), "steps"
    yield client.post("/api/samples", json={"model": model, "sampler": "best"}), "sampler"


def test_what_is_not_allowed_is_one_line(client, model):
    for answer, words in refused(client, model):
        assert answer.status_code in (400, 413), answer.text
        assert words in answer.json()["error"]
    for options, words in (
        ({"count": 99}, "16"),
        ({"seed": -1}, "seed"),
        ({"steps": 10**9}, "steps"),
        ({"text": "x"}, "text"),
    ):
        assert words in sample(client, model, **options)["error"]
    assert client.get("/api/models").status_code == 200


def test_a_defect_ends_one_request_only(client, studio, model, monkeypatch):
    id = sample(client, model)["samples"][0]["id"]
    monkeypatch.setattr(studio, "image", lambda *_: 1 / 0)
    answer = client.get(f"/api/fields/{id}/image.png?size=8")
    assert answer.status_code == 500 and "division" in answer.json()["error"]
    monkeypatch.undo()
    image(client.get(f"/api/fields/{id}/image.png?size=8"))


def test_a_tile_whose_client_went_away_costs_nothing(studio, client, model):
    id = sample(client, model)["samples"][0]["id"]
    free, rendered = threading.Event(), []
    held = studio.queue.submit(lambda: free.wait(30))
    real, studio.image = studio.image, lambda *given: rendered.append(given) or real(*given)
    sent = []

    async def ask():
        scope = {"type": "http", "method": "GET", "path": f"/api/fields/{id}/image.png", "query_string": b"size=9"}
        scope |= {"headers": [(b"host", b"localhost")], "root_path": "", "http_version": "1.1"}
        came = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])

        async def receive():
            return next(came)

        async def send(message):
            sent.append(message)

        await application(studio, HOSTS)(scope, receive, send)

    try:
        asyncio.run(ask())
        free.set()
        held.future.result(30)
        studio.queue.submit(lambda: None, NOW).future.result(30)
    finally:
        studio.image = real
    assert sent[0]["status"] == 499
    assert not rendered


def test_what_is_kept_has_a_size():
    kept = Recent(10, len)
    for k in range(100):
        kept.get(str(k), lambda: b"123")
        assert kept.held <= 10
    assert "99" in kept and "96" not in kept
    assert LARGEST_FILE < 1 << 30
