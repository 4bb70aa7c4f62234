// The page: what is asked for, the samples, and the view of the one that is explored.

import { bytes, call, lines, query, read } from "./api.js";
import { $, button, make } from "./dom.js";

const state = { models: [], model: null, samples: [], kept: [], open: null, view: null, kind: "", scales: null, pose: {} };
const VIEWS = { zoom: "Image", mesh: "Mesh", camera: "Rendered", film: "Clip", still: "Image" };
let sampling = null; // what can be given up

const say = (text) => ($("status").textContent = text);
const complain = (error) => {
  if (error?.name !== "AbortError") $("error").textContent = error?.message ?? String(error);
};
const guarded = (work) => async (...given) => {
  $("error").textContent = "";
  try {
    return await work(...given);
  } catch (error) {
    complain(error);
  }
};

// models

function choose(name) {
  const model = state.models.find((one) => one.name === name) ?? state.models[0];
  if (state.model === model) return;
  close();
  Object.assign(state, { model, samples: [], kept: [], pose: {}, kind: "" });
  $("model").value = model.name;
  $("title").textContent = model.title;
  const texts = model.condition === "text";
  $("text-label").hidden = $("negative-label").hidden = !texts;
  $("label-label").hidden = model.condition !== "class";
  $("guidance-label").hidden = model.condition === "none";
  $("label").replaceChildren(...model.classes.map((title, k) => make("option", { value: k, textContent: title })));
  $("text").value = model.example;
  for (const field of ["sampler", "steps", "guidance"]) $(field).value = model[field];
  $("format").replaceChildren(...model.files.map((ending) => make("option", { value: ending, textContent: ending })));
  $("format").onchange();
  gallery();
  call("/api/load", { model: model.name }).catch(complain);
}

// sampling

const asked = () => ({
  model: state.model.name,
  count: Number($("count").value),
  seed: Number($("seed").value),
  sampler: $("sampler").value,
  steps: Number($("steps").value),
  ...(state.model.condition === "none" || $("sampler").value === "flow" ? {} : { guidance: Number($("guidance").value) }),
  ...(state.model.condition === "text" ? { text: $("text").value, negative: $("negative").value } : {}),
  ...(state.model.condition === "class" ? { label: Number($("label").value) } : {}),
});

const sample = guarded(async () => {
  sampling?.abort();
  sampling = new AbortController();
  const given = asked();
  const began = performance.now();
  busy(true);
  say("Sampling");
  try {
    for await (const note of lines("/api/samples", given, sampling.signal)) {
      if (note.error) throw new Error(note.error);
      if (note.samples) {
        state.samples = note.samples;
        say(`${note.samples.length} samples in ${((performance.now() - began) / 1000).toFixed(1)} s. Choose one to explore it.`);
      } else $("progress").value = note.evaluations / given.steps;
    }
    remember(given);
    gallery();
  } catch (error) {
    say(error.name === "AbortError" ? "Stopped" : "");
    throw error;
  } finally {
    busy(false);
  }
});

function busy(on) {
  $("progress").hidden = $("stop").hidden = !on;
  $("progress").value = 0;
}

const titleOf = ({ plain }) =>
  plain.share !== undefined ? `between ${titleOf({ plain: plain.from })} and ${titleOf({ plain: plain.to })}`
    : plain.file ?? `${plain.text ?? "sample"}, seed ${plain.seed ?? 0}, number ${plain.index ?? 0}`;

function gallery() {
  const all = [...state.kept, ...state.samples.filter((one) => !state.kept.some((kept) => kept.id === one.id))];
  $("gallery").replaceChildren(...all.map((one) => {
    const still = make("img", { alt: titleOf(one), decoding: "async" });
    const pressed = state.open?.id === one.id;
    const made = button("", () => explore(one), { "aria-pressed": String(pressed), className: state.kept.includes(one) ? "kept" : "" });
    made.append(still);
    bytes(`/api/fields/${one.id}/image.png?${query({ size: 112, soon: 1 })}`).then((blob) => (still.src = URL.createObjectURL(blob)), complain);
    return made;
  }));
  $("towards").replaceChildren(
    make("option", { value: "", textContent: "choose a sample" }),
    ...all.filter((one) => one.id !== state.open?.id).map((one) => make("option", { value: one.id, textContent: titleOf(one) })),
  );
}

// exploring

const explore = guarded(async (one, pose = state.pose) => {
  choose(one.plain.model);
  if (state.open?.id !== one.id) state.scales = null;
  Object.assign(state, { open: one, shown: one, pose });
  $("share").value = 0;
  $("explore").hidden = false;
  for (const made of $("gallery").children) made.setAttribute("aria-pressed", String(made.firstChild.alt === titleOf(one)));
  gallery();
  const kinds = state.model.views.length ? state.model.views : ["still"];
  if (!kinds.includes(state.kind)) state.kind = kinds[0];
  $("views").replaceChildren(...(kinds.length > 1 ? kinds : []).map((kind) =>
    button(VIEWS[kind], () => turn(kind), { "aria-pressed": String(kind === state.kind), "data-kind": kind })));
  const count = state.model.scales;
  $("scales").hidden = count < 2;
  $("scales").replaceChildren($("scales").firstElementChild, ...Array.from({ length: count }, (_, k) => {
    const box = make("input", { type: "checkbox", checked: !state.scales || state.scales.includes(k), onchange: mixed });
    return make("label", {}, box, k === 0 ? "1, coarse" : k === count - 1 ? `${count}, fine` : String(k + 1));
  }));
  await show();
});

const mixed = () => {
  const boxes = [...$("scales").querySelectorAll("input")];
  const kept = boxes.flatMap((box, k) => (box.checked ? [k] : []));
  state.scales = kept.length === boxes.length ? null : kept;
  state.view?.refresh();
};

const turn = guarded(async (kind) => {
  state.kind = kind;
  for (const made of $("views").children) made.setAttribute("aria-pressed", String(made.dataset.kind === kind));
  await show();
});

const address = (name, options = {}) =>
  `/api/fields/${state.shown.id}/${name}?${query({ ...options, scales: state.scales ? state.scales.join(",") || "99" : undefined })}`;

async function show() {
  close();
  const { open } = await import(`./views/${state.kind}.js`);
  $("tools").replaceChildren();
  state.view = await open({ stage: $("stage"), tools: $("tools"), url: address, model: state.model, pose: state.pose, changed, complain, id: () => state.shown.id });
  changed();
}

function close() {
  state.view?.close();
  state.view = null;
  $("stage").replaceChildren();
}

let waiting = 0;
function changed() {
  clearTimeout(waiting);
  waiting = setTimeout(guarded(async () => {
    if (!state.shown) return;
    const about = { plain: state.shown.plain, kind: state.kind, pose: state.pose };
    history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(about))}`);
    const { command, python } = await call(address("", wanted()).replace("/?", "?"));
    $("again").hidden = !command;
    $("command").textContent = command;
    $("python").textContent = python;
  }), 200);
}

// Options of the rendering that is seen, at the size that is wanted: its longer side.
function wanted() {
  const options = { ...state.view?.options() };
  const size = Number($("size").value);
  options.size = size;
  if (options.window && !options.view) {
    const [x0, y0, x1, y1] = options.window;
    const scale = size / Math.max(x1 - x0, y1 - y0);
    options.size = `${Math.max(1, Math.round(scale * (x1 - x0)))}x${Math.max(1, Math.round(scale * (y1 - y0)))}`;
  }
  return { ...options, format: $("format").value };
}

// interpolation

let moving = null;
const move = guarded(async () => {
  const to = [...state.kept, ...state.samples].find((one) => one.id === $("towards").value);
  const share = Number($("share").value);
  moving?.abort();
  moving = new AbortController();
  if (to && share > 0) {
    const plain = { model: state.model.name, from: state.open.plain, to: to.plain, share };
    state.shown = await call("/api/fields", { plain }, moving.signal);
  } else state.shown = state.open;
  state.view?.refresh();
  changed();
});

// files, links, history

const download = guarded(async () => {
  const ending = $("format").value;
  say(`Writing ${ending}`);
  const { format, ...options } = wanted();
  const blob = await bytes(address(`sample${ending}`, options));
  const link = make("a", { href: URL.createObjectURL(blob), download: `${state.model.name}-${state.shown.id.slice(0, 6)}${ending}` });
  link.click();
  say(`Downloaded ${link.download}`);
});

const take = guarded(async (file) => {
  if (!file) return;
  say(`Reading ${file.name}`);
  const one = await read(await fetch(`/api/files?${query({ model: state.model.name, name: file.name })}`, { method: "POST", body: file }));
  choose(one.plain.model);
  state.samples = [one, ...state.samples.filter((other) => other.id !== one.id)];
  await explore(one);
  say(one.restored ? `${file.name} is this sample` : `${file.name}, encoded`);
});

const entries = () => JSON.parse(localStorage.getItem("ddmi.history") ?? "[]");

function remember(given) {
  const told = JSON.stringify(given);
  const all = [given, ...entries().filter((one) => JSON.stringify(one) !== told)].slice(0, 30);
  localStorage.setItem("ddmi.history", JSON.stringify(all));
  past();
}

function past() {
  $("history").replaceChildren(...entries().map((given) => {
    const made = button(given.text || given.model, () => {
      choose(given.model);
      for (const [name, value] of Object.entries(given)) if (name !== "model") $(name).value = value;
      sample();
    });
    made.append(make("small", { textContent: ` ${given.model}, seed ${given.seed}, ${given.sampler} ${given.steps}` }));
    return make("li", {}, made);
  }));
}

const linked = guarded(async () => {
  if (location.hash.length < 2) return;
  const { plain, kind, pose } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  const one = await call("/api/fields", { plain });
  choose(plain.model);
  state.kind = kind;
  state.samples = [one];
  await explore(one, pose);
});

const copied = (text, what) => navigator.clipboard.writeText(text).then(() => say(`Copied ${what}`), complain);

// start

$("ask").onsubmit = (event) => {
  event.preventDefault();
  sample();
};
$("stop").onclick = () => sampling?.abort();
$("model").onchange = () => choose($("model").value);
$("towards").onchange = $("share").oninput = move;
$("pin").onclick = () => {
  if (!state.kept.some((one) => one.id === state.shown.id)) state.kept.push(state.shown);
  gallery();
};
$("download").onclick = download;
$("format").onchange = () => {
  const mesh = [".glb", ".ply", ".obj", ".stl"].includes($("format").value);
  $("size-name").textContent = mesh ? "Cells" : "Pixels";
  $("size").max = mesh ? 512 : 4096;
  $("size").value = mesh ? 128 : 512;
  changed();
};
$("size").onchange = changed;
$("link").onclick = () => copied(location.href, "the link");
for (const made of document.querySelectorAll("[data-copy]")) made.onclick = () => copied($(made.dataset.copy).textContent, made.dataset.copy);
$("file").onchange = () => take($("file").files[0]);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files[0]);
});

await guarded(async () => {
  const { models, samplers } = await call("/api/models");
  state.models = models;
  $("sampler").replaceChildren(...samplers.map((name) => make("option", { value: name, textContent: name })));
  $("model").replaceChildren(...models.map(({ name }) => make("option", { value: name, textContent: name })));
  choose(models[0].name);
  past();
  await linked();
})();
document.body.dataset.ready = "yes";
