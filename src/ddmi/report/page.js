// The zoom: each picture shows one window; between two windows the wider one is enlarged towards the narrower.
for (const zoom of document.querySelectorAll(".zoom")) {
  const windows = JSON.parse(zoom.dataset.windows); // [x0, y0, x1, y1] in [-1, 1], whole frame first
  const [sharp, coarse] = zoom.querySelectorAll(".stage");
  const input = zoom.querySelector("input"), output = zoom.querySelector("output");
  const sources = document.querySelectorAll(zoom.dataset.sources);
  const pictures = [...sources].map((source) => {
    const picture = source.cloneNode();
    sharp.append(picture);
    return picture;
  });
  const place = (picture, from, to) => {
    const scale = (from[2] - from[0]) / (to[2] - to[0]);
    const x = ((to[0] - from[0]) / (to[2] - to[0])) * 100, y = ((to[1] - from[1]) / (to[3] - to[1])) * 100;
    picture.style.transform = `translate(${-x}%, ${-y}%) scale(${scale})`;
  };
  const draw = () => {
    const side = 2 / 2 ** Number(input.value);
    const k = Math.min(Math.floor(Number(input.value) + 1e-9), windows.length - 1);
    const outer = windows[k], inner = windows[Math.min(k + 1, windows.length - 1)];
    const wide = outer[2] - outer[0], narrow = inner[2] - inner[0];
    const share = wide > narrow ? (wide - side) / (wide - narrow) : 0;
    const corner = [0, 1].map((i) => outer[i] + (inner[i] - outer[i]) * share);
    const now = [...corner, corner[0] + side, corner[1] + side];
    pictures.forEach((picture, i) => {
      picture.style.visibility = i <= k ? "visible" : "hidden";
      if (i <= k) place(picture, windows[i], now);
    });
    place(coarse.querySelector("img"), windows[0], now);
    output.textContent = `${(2 / side).toFixed(1)}×`;
  };
  input.addEventListener("input", draw);
  zoom.hidden = false;
  draw();
}
