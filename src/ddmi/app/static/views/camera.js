// A radiance field, volume-rendered from any side: roughly while it is turned, finely when it rests.

import { bytes } from "../api.js";
import { button, choice, gestures, make, orbit } from "../dom.js";

const ROUGH = 40;
const FINE = 192;

export async function open({ stage, tools, url, model, pose, changed, complain }) {
  pose.azimuth ??= 35;
  pose.elevation ??= 20;
  pose.zoom ??= 1;
  const image = make("img", { className: "fit", tabIndex: 0, draggable: false, alt: "" });
  const told = make("div", { className: "depth" });
  stage.replaceChildren(image, told);
  let controller = new AbortController();
  let moving = false;

  const options = () => {
    const side = Math.min(1, 1 / pose.zoom);
    return {
      view: [pose.azimuth, pose.elevation].map((v) => Number(v.toFixed(2))),
      window: pose.zoom > 1 ? [-side, -side, side, side].map((v) => Number(v.toFixed(4))) : undefined,
    };
  };
  async function show(size, signal) {
    const blob = await bytes(url("image.png", { ...options(), size, layer: pose.layer }), signal);
    if (signal.aborted) return;
    const before = image.src;
    image.src = URL.createObjectURL(blob);
    if (before) URL.revokeObjectURL(before);
    image.dataset.size = size;
    const where = `${pose.azimuth.toFixed(0)}° around, ${pose.elevation.toFixed(0)}° up`;
    told.textContent = where;
    image.alt = `The sample from ${where}. Arrow keys turn it, plus and minus zoom.`;
  }
  async function refresh() {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    try {
      await show(ROUGH, signal);
      await show(FINE, signal);
    } catch (error) {
      if (!signal.aborted) complain(error);
    }
  }
  // While it moves, one rough image after another, without a queue of them.
  async function rough() {
    if (moving) return;
    moving = true;
    controller.abort();
    controller = new AbortController();
    await show(ROUGH, controller.signal).catch(() => {});
    moving = false;
  }
  gestures(image, {
    ...orbit(pose, 1, rough),
    rest: () => {
      refresh();
      changed();
    },
  });
  const layer = choice([["", "colour"], ...model.layers.map((name) => [name, name])]);
  layer.value = pose.layer ?? "";
  layer.onchange = () => {
    pose.layer = layer.value || undefined;
    refresh();
  };
  tools.append(make("label", {}, "Layer", layer), button("Front", () => {
    Object.assign(pose, { azimuth: 35, elevation: 20, zoom: 1 });
    refresh();
    changed();
  }));
  refresh();
  return { refresh, options, close: () => controller.abort() };
}
