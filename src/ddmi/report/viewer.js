// A mesh that is turned by hand: drag, wheel or pinch, arrow keys. Plain WebGL 2; without it the picture stays.
for (const viewer of document.querySelectorAll(".viewer")) {
  const { models, ground } = JSON.parse(viewer.querySelector("script").textContent);
  const canvas = viewer.querySelector("canvas");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!gl || !models.length) continue;

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;

  const program = (vertex, fragment) => {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, `#version 300 es\nprecision highp float;\n${text}`);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) return null;
    const places = {};
    for (let k = gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS) - 1; k >= 0; k--) {
      const { name } = gl.getActiveUniform(made, k);
      places[name] = gl.getUniformLocation(made, name);
    }
    return { made, places };
  };

  // Solid and lines: a key light and a rim that go with the eye, sky and ground that stay; `open` is the share of sky.
  // A mesh's own colours have their light in them: they are shown as they are, but for faces that are to look flat.
  const body = program(
    `layout(location=0) in vec3 place; layout(location=1) in vec3 normal; layout(location=2) in float open;
     layout(location=3) in vec3 paint;
     uniform mat4 view, lens; uniform vec3 low; uniform float unit;
     out vec3 seen, upright, facing, tint; out float sky;
     void main() {
       vec3 at = low + unit * place;
       seen = (view * vec4(at, 1.0)).xyz; upright = normal; facing = mat3(view) * normal; sky = open; tint = paint;
       gl_Position = lens * vec4(seen, 1.0);
     }`,
    `in vec3 seen, upright, facing, tint; in float sky;
     uniform mat4 view; uniform bool flatly, lines, painted; uniform vec3 colour;
     out vec4 shown;
     void main() {
       if (lines) { shown = vec4(0.03, 0.05, 0.09, 1.0) * 0.55; return; }
       vec3 eye = normalize(-seen), n = normalize(facing);
       if (flatly) { n = normalize(cross(dFdx(seen), dFdy(seen))); if (dot(n, eye) < 0.0) n = -n; }
       else if (!gl_FrontFacing) n = -n;
       float up = (transpose(mat3(view)) * n).y, open = flatly ? mix(1.0, sky, 0.8) : sky;
       vec3 key = normalize(vec3(-0.45, 0.75, 0.65)), side = normalize(vec3(0.85, 0.15, 0.35));
       if (painted) { shown = vec4(tint * (flatly ? 0.6 + 0.4 * max(dot(n, key), 0.0) : 1.0), 1.0); return; }
       float gleam = pow(max(dot(n, normalize(key + eye)), 0.0), 36.0);
       float rim = pow(1.0 - max(dot(n, eye), 0.0), 3.0);
       float light = (0.22 + 0.46 * (0.5 + 0.5 * up) + 0.18 * max(dot(n, side), 0.0)) * open
         + 0.85 * max(dot(n, key), 0.0) * mix(0.35, 1.0, open) + 0.04;
       vec3 linear = colour * light + (0.05 * gleam + vec3(0.04, 0.05, 0.06) * rim) * open;
       shown = vec4(pow(min(linear, 1.0), vec3(1.0 / 2.2)), 1.0);
     }`
  );
  const floor = program(
    `layout(location=0) in vec2 corner; uniform mat4 view, lens; uniform vec3 low; uniform float side; out vec2 at;
     void main() {
       at = corner;
       gl_Position = lens * view * vec4((corner.x * 2.0 - 1.0) * side, low.y, (corner.y * 2.0 - 1.0) * side, 1.0);
     }`,
    `in vec2 at; uniform sampler2D open; uniform float strength; out vec4 shown;
     void main() {
       float edge = smoothstep(1.0, 0.7, length(at * 2.0 - 1.0));
       shown = vec4(0.0, 0.0, 0.0, (1.0 - texture(open, at).r) * strength * edge);
     }`
  );

  if (!body || !floor) continue;

  const buffer = (target, content) => {
    gl.bindBuffer(target, gl.createBuffer());
    gl.bufferData(target, content, gl.STATIC_DRAW);
  };

  // What viewer.py packs: uint16 places, int8 normals with the share of sky in the fourth byte, maybe colours, faces.
  const upload = (model) => {
    const raw = bytes(model.data), { vertices, faces } = model;
    const shade = Math.ceil((6 * vertices) / 4) * 4, paint = shade + 4 * vertices;
    const start = paint + (model.coloured ? 4 * vertices : 0);
    const corners = new (model.wide ? Uint32Array : Uint16Array)(raw, start, 3 * faces);
    const solid = gl.createVertexArray(), wires = gl.createVertexArray();
    gl.bindVertexArray(solid);
    buffer(gl.ARRAY_BUFFER, new Uint8Array(raw, 0, start));
    const attributes = () => {
      gl.vertexAttribPointer(0, 3, gl.UNSIGNED_SHORT, false, 6, 0);
      gl.vertexAttribPointer(1, 3, gl.BYTE, true, 4, shade);
      gl.vertexAttribPointer(2, 1, gl.UNSIGNED_BYTE, true, 4, shade + 3);
      if (model.coloured) gl.vertexAttribPointer(3, 3, gl.UNSIGNED_BYTE, true, 4, paint);
      for (const k of model.coloured ? [0, 1, 2, 3] : [0, 1, 2]) gl.enableVertexAttribArray(k);
    };
    attributes();
    buffer(gl.ELEMENT_ARRAY_BUFFER, corners);
    const edges = [];
    const known = new Set();
    for (let k = 0; k < corners.length; k += 3) {
      for (const [i, j] of [[0, 1], [1, 2], [2, 0]]) {
        const a = Math.min(corners[k + i], corners[k + j]), b = Math.max(corners[k + i], corners[k + j]);
        if (!known.has(a * 4294967296 + b)) { known.add(a * 4294967296 + b); edges.push(a, b); }
      }
    }
    gl.bindVertexArray(wires);
    attributes();
    buffer(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(edges));
    gl.bindVertexArray(null);
    return { ...model, solid, wires, count: corners.length, edges: edges.length, data: "" };
  };
  const ready = new Map();
  const chosen = () => {
    if (!ready.has(state.model)) ready.set(state.model, upload(models[state.model]));
    return ready.get(state.model);
  };

  const plane = gl.createVertexArray();
  gl.bindVertexArray(plane);
  buffer(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]));
  gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
  gl.enableVertexAttribArray(0);
  gl.bindVertexArray(null);
  if (ground) {
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(
      gl.TEXTURE_2D, 0, gl.R8, ground.size, ground.size, 0, gl.RED, gl.UNSIGNED_BYTE, new Uint8Array(bytes(ground.data))
    );
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  }

  const camera = JSON.parse(viewer.dataset.camera); // degrees, and the distance of the eye
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const state = { model: models.length - 1, painted: true, flat: false, lines: false, turning: !calm, ...camera };

  const matrices = () => {
    const a = (state.azimuth * Math.PI) / 180, e = (state.elevation * Math.PI) / 180;
    const [sa, ca, se, ce] = [Math.sin(a), Math.cos(a), Math.sin(e), Math.cos(e)];
    const view = [ca, -se * sa, ce * sa, 0, 0, ce, se, 0, -sa, -se * ca, ce * ca, 0, 0, 0, -state.distance, 1];
    const near = Math.max(0.05, state.distance - 2), far = state.distance + 3, f = 1 / Math.tan((state.opening * Math.PI) / 360);
    const wide = Math.max(canvas.width / canvas.height, 1), tall = Math.min(canvas.width / canvas.height, 1);
    const lens = [
      f / wide, 0, 0, 0, 0, f * tall, 0, 0,
      0, 0, (near + far) / (near - far), -1, 0, 0, (2 * near * far) / (near - far), 0,
    ];
    return { view, lens };
  };

  const draw = () => {
    const model = chosen(), { view, lens } = matrices();
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    if (ground && state.elevation > 0) {
      gl.depthMask(false);
      gl.useProgram(floor.made);
      gl.uniformMatrix4fv(floor.places.view, false, view);
      gl.uniformMatrix4fv(floor.places.lens, false, lens);
      gl.uniform3fv(floor.places.low, [0, ground.height, 0]);
      gl.uniform1f(floor.places.side, ground.side);
      gl.uniform1f(floor.places.strength, 0.5 * Math.min(1, state.elevation / 8));
      gl.bindVertexArray(plane);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
      gl.depthMask(true);
    }
    gl.useProgram(body.made);
    gl.uniformMatrix4fv(body.places.view, false, view);
    gl.uniformMatrix4fv(body.places.lens, false, lens);
    gl.uniform3fv(body.places.low, model.low);
    gl.uniform1f(body.places.unit, model.unit);
    gl.uniform3fv(body.places.colour, JSON.parse(viewer.dataset.colour));
    gl.uniform1i(body.places.flatly, state.flat);
    gl.uniform1i(body.places.painted, state.painted && model.coloured);
    gl.uniform1i(body.places.lines, false);
    gl.enable(gl.POLYGON_OFFSET_FILL);
    gl.polygonOffset(1, 1);
    gl.bindVertexArray(model.solid);
    gl.drawElements(gl.TRIANGLES, model.count, model.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, 0);
    if (state.lines) {
      gl.uniform1i(body.places.lines, true);
      gl.bindVertexArray(model.wires);
      gl.drawElements(gl.LINES, model.edges, gl.UNSIGNED_INT, 0);
    }
    gl.bindVertexArray(null);
  };

  // Drawn when something has changed, and while it turns by itself and is in sight.
  let waiting = false, visible = true, last = 0;
  const frame = (now) => {
    waiting = false;
    if (state.turning) state.azimuth += Math.min(now - last, 50) * 0.018;
    last = now;
    draw();
    if (state.turning && visible) ask();
  };
  const ask = () => { if (!waiting) { waiting = true; requestAnimationFrame(frame); } };

  const sync = () => {
    for (const button of viewer.querySelectorAll("button")) {
      const { model, toggle } = button.dataset;
      button.setAttribute("aria-pressed", model === undefined ? state[toggle] : Number(model) === state.model);
    }
    ask();
  };
  for (const button of viewer.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const { model, toggle } = button.dataset;
      if (model === undefined) state[toggle] = !state[toggle];
      else state.model = Number(model);
      sync();
    });
  }

  const turn = (dx, dy) => {
    state.azimuth -= dx;
    state.elevation = Math.max(-85, Math.min(85, state.elevation + dy));
    if (state.turning) { state.turning = false; sync(); }
    ask();
  };
  const zoom = (factor) => {
    const before = state.distance;
    state.distance = Math.max(camera.distance * 0.3, Math.min(camera.distance * 1.6, before * factor));
    ask();
    return state.distance !== before;
  };

  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const wide = fingers.size === 2 ? spread() : 0, now = { x: event.clientX, y: event.clientY };
    fingers.set(event.pointerId, now);
    if (fingers.size === 2) zoom(wide / Math.max(spread(), 1));
    else turn(((now.x - before.x) * 240) / canvas.clientWidth, ((now.y - before.y) * 180) / canvas.clientHeight);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    // At either end of the zoom the page scrolls on.
    if (zoom(Math.exp(event.deltaY * (event.deltaMode ? 0.03 : 0.0012)))) event.preventDefault();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [8, 0], ArrowRight: [-8, 0], ArrowUp: [0, 6], ArrowDown: [0, -6] };
    if (event.key in steps) turn(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(0.9);
    else if (event.key === "-") zoom(1 / 0.9);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("dblclick", () => { Object.assign(state, camera); ask(); });
  canvas.addEventListener("webglcontextlost", () => viewer.classList.remove("live"));

  new ResizeObserver(() => {
    const scale = Math.min(devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
    draw();
  }).observe(canvas);
  new IntersectionObserver(([entry]) => { visible = entry.isIntersecting; if (visible) ask(); }).observe(canvas);
  viewer.classList.add("live");
  sync();
}
