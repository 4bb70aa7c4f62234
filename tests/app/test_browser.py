"""The application in a real browser: what a person does, by mouse and by keyboard, on a desk and on a phone.

With DDMI_SCREENSHOTS=FOLDER the images of the documentation are written there.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import alike

from ddmi import DDMIPipeline
from ddmi.rendering import metadata

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api", reason="the extra dev is not installed")
pytest.importorskip("uvicorn", reason="the extra app is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
SHOTS = os.environ.get("DDMI_SCREENSHOTS")
PATIENCE = 120_000
"""Milliseconds that a step may take on a busy machine."""
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def address():
    command = [sys.executable, "-m", "ddmi", "app", "emoji-64", "furniture", "clips", "furniture-views", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """A function that opens the page; afterwards there was no error, and no request to another host."""
    opened, faults = [], []

    def begin(hash="", model="emoji-64", width=1280, height=860, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        own = (address, f"blob:{address}", "data:")
        page.on("request", lambda asked: None if asked.url.startswith(own) else faults.append(asked.url))
        page.goto(address + hash)
        page.wait_for_selector("body[data-ready]")
        if not hash:
            page.select_option("#model", model)
        opened.append(context)
        return page

    yield begin
    for context in opened:
        context.close()
    assert not [fault for fault in faults if "GPU stall" not in fault and "GL Driver" not in fault]


def sampled(page, count=4):
    page.click("#go")
    page.wait_for_selector(f"#gallery button:nth-child({count}) img[src]")


def explored(page, k=0):
    sampled(page)
    page.click(f"#gallery button >> nth={k}")


def shot(page, name, **options):
    if SHOTS:
        page.evaluate("scrollTo(0, 0)")
        Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB").save(Path(SHOTS) / f"{name}.webp", quality=85)


def test_a_prompt_gives_four_samples_and_a_zoom_without_an_end(visit, tmp_path):
    page = visit()
    page.fill("#text", "red apple")
    explored(page)
    page.wait_for_selector("#zoom canvas")
    tiles = []
    page.on("response", lambda answer: tiles.append(answer) if "image.png" in answer.url else None)
    for _ in range(10):
        page.click("text=Zoom in")
    page.wait_for_selector("#stage .depth:has-text('level 10')")
    for _ in range(600):
        if any(_depth(tile.url) >= 10 for tile in tiles):
            break
        page.wait_for_timeout(100)
    deep = max((tile for tile in tiles if tile.ok), key=lambda tile: _depth(tile.url))
    window = _window(deep.url)
    assert _depth(deep.url) >= 10
    field = DDMIPipeline.from_pretrained("emoji-64")(1, seed=0, text="red apple", sampler="dpm", steps=12)[0]
    assert alike(Image.open(io.BytesIO(deep.body())), field.render(256, window=window))
    page.click("text=All of it")
    page.wait_for_selector("#stage .depth:has-text('all of it')")
    page.wait_for_timeout(1500)
    shot(page, "app")

    with page.expect_download() as waiting:
        page.click("#download")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    about = metadata.read(path)
    assert about["model"] == "emoji-64" and about["text"] == "red apple" and about["index"] == 0
    assert "ddmi sample emoji-64" in page.inner_text("#command") and "from_pretrained" in page.inner_text("#python")

    fresh = visit()
    _drop(fresh, path)
    fresh.wait_for_selector("#status:has-text('is this sample')")
    assert "red apple" in fresh.get_attribute("#gallery img", "alt")
    again = visit(hash="#" + page.url.partition("#")[2])
    again.wait_for_selector("#zoom canvas")
    assert "red apple" in again.get_attribute("#gallery img", "alt")


def test_a_file_of_ones_own_and_the_way_between_two(visit, pictures):
    page = visit()
    _drop(page, pictures / "00.png")
    page.wait_for_selector("#zoom canvas")
    page.wait_for_selector("#status:has-text('encoded')")
    page.click("#pin")
    sampled(page, 5)
    page.select_option("#towards", index=1)
    with page.expect_response(lambda answer: "image.png" in answer.url):
        page.fill("#share", "0.5")
    page.click("#scales input >> nth=0")
    page.wait_for_selector("#history button")


def test_a_mesh_is_turned(visit):
    page = visit(model="furniture")
    explored(page)
    canvas = page.locator("#stage canvas")
    page.wait_for_selector("#stage canvas[data-cells='128']")
    before = np.asarray(Image.open(io.BytesIO(canvas.screenshot())))
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert np.abs(before.astype(int) - np.asarray(Image.open(io.BytesIO(canvas.screenshot())))).max() > 30
    shot(page, "app-mesh")
    page.check("text=Wireframe")
    page.select_option("#tools select >> nth=1", "x")
    page.uncheck("text=Wireframe")
    page.wait_for_selector("#stage canvas")


def test_a_radiance_field_is_seen_from_all_sides(visit):
    page = visit(model="furniture-views")
    explored(page)
    page.wait_for_selector("#stage img[data-size]")
    with page.expect_response(lambda answer: "view=" in answer.url and "size=192" in answer.url):
        page.focus("#stage img")
        page.keyboard.press("ArrowRight")
    with page.expect_response(lambda answer: "layer=depth" in answer.url):
        page.select_option("#tools select", "depth")
    page.click("#views button >> nth=1")
    page.wait_for_selector("#stage canvas[data-cells]")


def test_a_clip_is_scrubbed_and_slowed_down(visit):
    page = visit(model="clips")
    asked = []
    page.on("request", lambda one: asked.append(one.url) if "frame=" in one.url else None)
    explored(page)
    page.wait_for_selector("#stage .depth:has-text('s')")
    page.select_option("#tools select", "16")
    page.click("text=Play")
    page.wait_for_timeout(1500)
    page.click("text=Pause")
    frames = [int(re.search(r"frame=(\d+)", url)[1]) for url in asked]
    assert len(set(frames)) == len(frames) >= 2  # none twice
    with page.expect_response(lambda answer: "frame=100" in answer.url):
        page.fill("#tools input[type=range]", "100")
    page.click("text=Zoom in")
    page.wait_for_selector("#stage .depth:has-text('times')")
    shot(page, "app-clip")


def test_by_the_keyboard_alone(visit):
    page = visit()
    page.focus("#text")
    page.keyboard.press("Enter")
    page.wait_for_selector("#gallery button:nth-child(4) img[src]")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate_handle("document.activeElement").as_element().evaluate("e => e.parentElement.id") == "gallery":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#zoom canvas")
    page.focus("#zoom [role=application]")
    page.keyboard.press("+")
    page.wait_for_selector("#stage .depth:has-text('times')")


def test_everything_that_is_used_has_a_name(visit):
    page = visit()
    explored(page)
    page.wait_for_selector("#zoom canvas")
    for element in page.query_selector_all("button, input, select, [role=application], img"):
        named = element.evaluate(
            """e => e.ariaLabel || e.alt || e.textContent.trim() || e.firstElementChild?.alt
                || [...(e.labels ?? [])].map((label) => label.textContent.trim()).join("")"""
        )
        assert named or not element.is_visible(), element.evaluate("e => e.outerHTML")


def test_on_a_phone_in_the_dark(visit):
    page = visit(width=390, height=800, color_scheme="dark")
    explored(page)
    page.wait_for_selector("#zoom canvas")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", back)[:3])) < 64
    page.wait_for_timeout(1500)
    shot(page, "app-phone", full_page=True)


def _window(url):
    found = re.search(r"window=([^&]+)", url)
    return tuple(float(part) for part in re.split(r",|%2C", found[1])) if found else (-1.0, -1.0, 1.0, 1.0)


def _depth(url):
    window = _window(url)
    return round(np.log2(2 / (window[2] - window[0])))


def _drop(page, path):
    """Drop a file onto the page, as from a file manager."""
    told = {"data": base64.b64encode(path.read_bytes()).decode(), "name": path.name}
    moved = page.evaluate_handle(
        """({data, name}) => {
            const moved = new DataTransfer();
            moved.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
            return moved;
        }""",
        told,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": moved})
