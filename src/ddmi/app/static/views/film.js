// A clip as a function of time: any moment can be shown, at any speed, in any part of the frame.

import { call, query } from "../api.js";
import { button, choice, gestures, make } from "../dom.js";

const SLOWEST = 16;
const AHEAD = 4;
const PIXELS = 160;

export async function open({ stage, tools, url, id, pose, changed, complain }) {
  const { clip } = await call(`/api/fields/${id()}?${query({ clip: 1 })}`);
  const moments = clip.frames * SLOWEST; // of the finest grid of times
  const canvas = make("canvas", { className: "fit", tabIndex: 0, role: "img", width: clip.width, height: clip.height });
  const told = make("div", { className: "depth" });
  stage.replaceChildren(canvas, told);
  const pen = canvas.getContext("2d");
  let at = pose.moment ?? 0;
  let playing = false;
  let stopped = false;
  let view = 0; // a new number for every change of what is seen
  let controller = new AbortController();
  const frames = new Map();

  const frame = (k) => {
    if (!frames.has(k)) {
      const signal = controller.signal;
      const address = url("image.png", { size: PIXELS, frames: moments, frame: k, window: pose.window });
      const made = fetch(address, { signal }).then((answer) => answer.ok ? answer.blob() : Promise.reject(new Error("a frame could not be rendered")));
      frames.set(k, made.then(createImageBitmap));
      frames.get(k).catch(() => frames.delete(k));
      if (frames.size > 600) frames.delete(frames.keys().next().value);
    }
    return frames.get(k);
  };

  async function show(k) {
    at = pose.moment = k;
    const mine = ++view;
    try {
      const image = await frame(k);
      if (mine !== view || stopped) return;
      canvas.width = image.width;
      canvas.height = image.height;
      pen.drawImage(image, 0, 0);
      scrub.value = k;
      const seconds = (clip.frames / clip.fps) * ((k + 0.5) / moments);
      scrub.setAttribute("aria-valuetext", `${seconds.toFixed(3)} seconds`);
      told.textContent = `${seconds.toFixed(3)} s${pose.window ? `, ${(2 / (pose.window[2] - pose.window[0])).toFixed(1)} times` : ""}`;
      canvas.setAttribute("aria-label", `The clip at ${seconds.toFixed(2)} seconds. Arrow keys move, plus and minus zoom, space plays.`);
    } catch (error) {
      complain(error);
    }
  }

  const speed = choice([["1", "full speed"], ["2", "half"], ["4", "a quarter"], ["8", "an eighth"], ["16", "a sixteenth"]]);
  const scrub = make("input", { type: "range", min: 0, max: moments - 1, step: 1, value: at });
  scrub.oninput = () => {
    pause();
    show(Number(scrub.value));
  };
  scrub.onchange = changed;
  const toggle = button("Play", () => (playing ? pause() : play()));
  function pause() {
    playing = false;
    toggle.textContent = "Play";
  }
  async function play() {
    playing = true;
    toggle.textContent = "Pause";
    let next = performance.now();
    while (playing && !stopped) {
      const step = SLOWEST / Number(speed.value);
      const k = (at + step) % moments;
      for (let ahead = 1; ahead <= AHEAD; ahead++) frame((at + ahead * step) % moments).catch(() => {});
      await show(k); // every frame is shown, however long it takes
      next = Math.max(next + 1000 / clip.fps, performance.now());
      await new Promise((done) => setTimeout(done, next - performance.now()));
    }
  }
  function refresh() {
    controller.abort();
    controller = new AbortController();
    frames.clear();
    show(at);
  }
  const zoomed = (factor, x, y) => {
    const [x0, y0, x1, y1] = pose.window ?? [-1, -1, 1, 1];
    const box = canvas.getBoundingClientRect();
    const share = x === undefined ? [0.5, 0.5] : [(x - box.left) / box.width, (y - box.top) / box.height];
    const side = Math.min(2, Math.max(0.002, (x1 - x0) / factor));
    const low = [x0 + (x1 - x0 - side) * share[0], y0 + (y1 - y0 - side) * share[1]].map((v) => Math.min(1 - side, Math.max(-1, v)));
    pose.window = side > 1.99 ? undefined : [...low, low[0] + side, low[1] + side].map((v) => Number(v.toFixed(6)));
  };
  gestures(canvas, {
    drag: (dx, dy) => {
      if (!pose.window) return;
      const [x0, y0, x1] = pose.window;
      const side = x1 - x0;
      const low = [x0 - (dx / canvas.clientWidth) * side, y0 - (dy / canvas.clientHeight) * side].map((v) => Math.min(1 - side, Math.max(-1, v)));
      pose.window = [...low, low[0] + side, low[1] + side].map((v) => Number(v.toFixed(6)));
    },
    zoom: zoomed,
    rest: () => {
      refresh();
      changed();
    },
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    toggle.click();
  });
  const nearer = (factor) => () => {
    zoomed(factor);
    refresh();
    changed();
  };
  tools.append(toggle, make("label", {}, "Speed", speed), make("label", { className: "wide" }, "Time", scrub),
    button("Zoom in", nearer(1.5)), button("Zoom out", nearer(1 / 1.5)));
  show(at);
  return {
    refresh,
    options: () => ({ window: pose.window }),
    close: () => {
      stopped = true;
      controller.abort();
    },
  };
}
