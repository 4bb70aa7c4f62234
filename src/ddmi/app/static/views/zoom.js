// An image without an end: tiles of 256 x 256 pixels, rendered from the function when they come into view.

import { button, choice, make, script } from "../dom.js";

const TILE = 256;
const DEEPEST = 24;

export async function open({ stage, tools, url, model, pose, changed }) {
  await script("/static/vendor/openseadragon.min.js", "OpenSeadragon");
  const place = make("div", { id: "zoom" });
  const depth = make("div", { className: "depth" });
  stage.replaceChildren(place, depth);
  let period = pose.period;
  const window_ = (level, x, y) => {
    const side = 2 / 2 ** (level - 8);
    return [-1 + x * side, -1 + y * side, -1 + (x + 1) * side, -1 + (y + 1) * side];
  };
  const viewer = window.OpenSeadragon({
    element: place,
    showNavigationControl: false,
    tileSources: {
      width: TILE * 2 ** DEEPEST,
      height: TILE * 2 ** DEEPEST,
      tileSize: TILE,
      minLevel: 8,
      maxLevel: 8 + DEEPEST,
      getTileUrl: (level, x, y) => url("image.png", { size: TILE, window: window_(level, x, y), period }),
    },
    loadTilesWithAjax: true, // an XHR that is aborted tells the server at once
    imageLoaderLimit: 3,
    maxImageCacheCount: 400,
    maxZoomPixelRatio: 2,
    minZoomImageRatio: 0.9,
    visibilityRatio: 0.5,
    springStiffness: 9,
    animationTime: 0.7,
    gestureSettingsMouse: { clickToZoom: true, dblClickToZoom: false },
    drawer: "canvas",
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", "The sample. Arrow keys move, plus and minus zoom, 0 shows all of it.");
  const bounds = () => {
    const { x, y, width, height } = viewer.viewport.getBounds(true);
    const inside = (v) => Math.min(1, Math.max(-1, 2 * v - 1));
    const digits = 4 + Math.max(0, Math.ceil(0.302 * Math.log2(1 / width)));
    return [inside(x), inside(y), inside(x + width), inside(y + height)].map((v) => Number(v.toFixed(digits)));
  };
  const told = () => {
    const level = Math.log2(viewer.viewport.getZoom(true) / viewer.viewport.getHomeZoom());
    depth.textContent = level < 0.05 ? "all of it" : `${(2 ** level).toLocaleString("en", { maximumSignificantDigits: 3 })} times, level ${level.toFixed(1)}`;
  };
  viewer.addHandler("open", () => {
    if (pose.window) {
      const [x0, y0, x1, y1] = pose.window.map((v) => (v + 1) / 2);
      viewer.viewport.fitBounds(new window.OpenSeadragon.Rect(x0, y0, x1 - x0, y1 - y0), true);
    }
    told();
  });
  viewer.addHandler("animation", told);
  viewer.addHandler("animation-finish", () => {
    pose.window = viewer.viewport.getZoom() > 1.01 * viewer.viewport.getHomeZoom() ? bounds() : undefined;
    changed();
  });
  const zoomBy = (factor) => {
    viewer.viewport.zoomBy(factor);
    viewer.viewport.applyConstraints();
  };
  tools.append(
    button("Zoom in", () => zoomBy(2)),
    button("Zoom out", () => zoomBy(0.5)),
    button("All of it", () => viewer.viewport.goHome()),
  );
  const refresh = () => viewer.world.getItemAt(0)?.reset();
  if (model.period) {
    const held = choice([["", "follows the zoom"], ["0.5", "held at 0.5"], ["0.7", "held at 0.7"], ["1", "held at 1"]], { value: "" });
    held.onchange = () => {
      period = pose.period = held.value || undefined;
      refresh();
      changed();
    };
    held.value = period ?? "";
    tools.append(make("label", {}, "Sampling period", held));
  }
  stage.viewer = viewer; // for those who look into the page
  return {
    refresh,
    options: () => ({ window: pose.window, period }),
    close: () => viewer.destroy(),
  };
}
