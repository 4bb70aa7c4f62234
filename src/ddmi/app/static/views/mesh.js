// The surface as a mesh: coarse at once, finer in the background.

import { bytes } from "../api.js";
import { button, choice, gestures, make, orbit } from "../dom.js";
import { Color, DirectionalLight, DoubleSide, GLTFLoader, HemisphereLight, Mesh, MeshStandardMaterial, PerspectiveCamera, Plane, Scene, Vector3, WebGLRenderer } from "../vendor/three.min.js";

const COARSE = 40;
const DISTANCE = 5.5;
const FOV = 28.2;
const AXES = { x: [1, 0, 0], y: [0, 1, 0], z: [0, 0, 1] };

export async function open({ stage, tools, url, pose, changed, complain }) {
  pose.azimuth ??= 35;
  pose.elevation ??= 20;
  pose.zoom ??= 1;
  pose.cells ??= 128;
  const renderer = new WebGLRenderer({ antialias: true, alpha: true, preserveDrawingBuffer: true });
  const canvas = renderer.domElement;
  canvas.tabIndex = 0;
  canvas.className = "fit";
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "The mesh. Arrow keys turn it, plus and minus zoom.");
  const told = make("div", { className: "depth" });
  stage.replaceChildren(canvas, told);
  renderer.localClippingEnabled = true;
  const scene = new Scene();
  const camera = new PerspectiveCamera(FOV, 1, 0.1, 20);
  const sun = new DirectionalLight(0xffffff, 2.2);
  scene.add(new HemisphereLight(0xffffff, 0x776655, 1.3), sun, camera);
  const material = new MeshStandardMaterial({ color: "#c9c2b8", roughness: 0.85, side: DoubleSide, clippingPlanes: [] });
  const loader = new GLTFLoader();
  const cut = new Plane(new Vector3(1, 0, 0), 0);
  let mesh = null;
  let coloured = false;
  let controller = new AbortController();

  function draw() {
    const [a, e] = [pose.azimuth, pose.elevation].map((v) => (v * Math.PI) / 180);
    camera.position.set(DISTANCE * Math.sin(a) * Math.cos(e), DISTANCE * Math.sin(e), DISTANCE * Math.cos(a) * Math.cos(e));
    camera.lookAt(0, 0, 0);
    camera.zoom = pose.zoom;
    camera.aspect = stage.clientWidth / stage.clientHeight;
    camera.fov = camera.aspect >= 1 ? FOV : (2 * Math.atan(Math.tan((FOV * Math.PI) / 360) / camera.aspect) * 180) / Math.PI;
    camera.updateProjectionMatrix();
    sun.position.copy(camera.position).add(new Vector3(1, 3, 1));
    renderer.setPixelRatio(window.devicePixelRatio);
    renderer.setSize(stage.clientWidth, stage.clientHeight, false);
    renderer.render(scene, camera);
  }

  async function load(cells, signal) {
    const blob = await bytes(url("sample.glb", { size: cells }), signal);
    const parsed = await loader.parseAsync(await blob.arrayBuffer(), "");
    let found = null;
    parsed.scene.traverse((one) => (found = one instanceof Mesh ? one : found));
    if (signal.aborted) return;
    if (mesh) {
      scene.remove(mesh);
      mesh.geometry.dispose();
    }
    coloured = Boolean(found.geometry.attributes.color);
    material.vertexColors = coloured && !pose.plain;
    material.color = new Color(material.vertexColors ? "#ffffff" : colour.value);
    material.needsUpdate = true;
    mesh = new Mesh(found.geometry, material);
    scene.add(mesh);
    told.textContent = `${cells} cells a side, ${(found.geometry.index.count / 3).toLocaleString("en")} faces`;
    canvas.dataset.cells = cells;
    draw();
  }

  async function refresh() {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    try {
      if (pose.cells > COARSE) await load(COARSE, signal);
      told.textContent += ", refining";
      await load(pose.cells, signal);
    } catch (error) {
      if (!signal.aborted) {
        told.textContent = "";
        complain(error);
      }
    }
  }

  gestures(canvas, { ...orbit(pose, 0.5, draw), rest: changed });
  const cells = choice([["64", "64"], ["128", "128"], ["256", "256"], ["512", "512"]]);
  cells.value = pose.cells;
  cells.onchange = () => {
    pose.cells = Number(cells.value);
    refresh();
    changed();
  };
  const colour = make("input", { type: "color", value: "#c9c2b8" });
  colour.oninput = () => {
    pose.plain = true;
    material.vertexColors = false;
    material.needsUpdate = true;
    material.color = new Color(colour.value);
    draw();
  };
  const wires = make("input", { type: "checkbox" });
  wires.onchange = () => {
    material.wireframe = wires.checked;
    draw();
  };
  const axis = choice([["", "none"], ["x", "x"], ["y", "y"], ["z", "z"]]);
  const place = make("input", { type: "range", min: -1, max: 1, step: 0.01, value: 0 });
  const section = () => {
    if (axis.value) cut.normal.set(...AXES[axis.value]).negate();
    cut.constant = Number(place.value);
    material.clippingPlanes = axis.value ? [cut] : [];
    draw();
  };
  axis.onchange = place.oninput = section;
  tools.append(
    make("label", {}, "Cells a side", cells), make("label", {}, "Colour", colour), make("label", {}, "Wireframe", wires),
    make("label", {}, "Section across", axis), make("label", { className: "wide" }, "at", place),
    button("Front", () => {
      Object.assign(pose, { azimuth: 35, elevation: 20, zoom: 1 });
      draw();
      changed();
    }),
  );
  const watch = new ResizeObserver(draw);
  watch.observe(stage);
  refresh();
  return {
    refresh,
    options: () => ({ size: pose.cells }),
    close: () => {
      controller.abort();
      watch.disconnect();
      mesh?.geometry.dispose();
      renderer.dispose();
    },
  };
}
