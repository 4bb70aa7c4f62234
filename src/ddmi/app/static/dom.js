// Elements of the page.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const button = (text, onclick, properties = {}) => make("button", { type: "button", textContent: text, onclick, ...properties });

export const choice = (values, properties = {}) =>
  make("select", properties, ...values.map(([value, text]) => make("option", { value, textContent: text })));

// A library that is no module: it defines one global name.
export const script = (src, name) =>
  window[name] ? null : new Promise((onload, onerror) => document.head.append(make("script", { src, onload, onerror })));

// Dragging turns a pose around the object, zooming comes nearer, at least as near as `least`.
export const orbit = (pose, least, draw) => ({
  drag: (dx, dy) => {
    pose.azimuth = (pose.azimuth - dx / 3 + 360) % 360;
    pose.elevation = Math.min(89, Math.max(-89, pose.elevation + dy / 3));
    draw();
  },
  zoom: (factor) => {
    pose.zoom = Math.min(20, Math.max(least, pose.zoom * factor));
    draw();
  },
});

// Turning and zooming by dragging, the wheel, two fingers, and keys.
export function gestures(element, { drag, zoom, rest = () => {} }) {
  const held = new Map();
  let spread = 0;
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(rest, 160);
  };
  element.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, event);
    element.setPointerCapture(event.pointerId);
    spread = 0;
  });
  element.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    held.set(event.pointerId, event);
    if (held.size === 1) drag(event.clientX - before.clientX, event.clientY - before.clientY);
    else {
      const [a, b] = [...held.values()];
      const now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
      if (spread) zoom(now / spread, (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2);
      spread = now;
    }
    later();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => {
      held.delete(event.pointerId);
      spread = 0;
      later();
    });
  }
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    later();
  }, { passive: false });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-24, 0], ArrowRight: [24, 0], ArrowUp: [0, -24], ArrowDown: [0, 24] }[event.key];
    if (step) drag(...step);
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else return;
    event.preventDefault();
    later();
  });
}
