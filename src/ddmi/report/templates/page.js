// Meshes: the chosen one, in trimesh's viewer, when the reader comes to it.
const page = document.querySelector("#viewer");
for (const viewer of document.querySelectorAll(".viewer")) {
  const meshes = JSON.parse(viewer.querySelector("script").textContent);
  const frame = viewer.querySelector("iframe"), choice = viewer.querySelector("select");
  const show = () => {
    frame.srcdoc = JSON.parse(page.textContent).replace("@mesh@", () => meshes[choice.selectedIndex]);
  };
  choice.addEventListener("change", show);
  viewer.hidden = false;
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    show();
  }).observe(frame);
}

// Clips: each can be paused by itself (no script), or all of them here.
for (const button of document.querySelectorAll(".pause")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const paused = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", paused);
    button.textContent = paused ? "Play all clips" : "Pause all clips";
    for (const input of document.querySelectorAll(".clip input")) input.checked = paused;
  });
}
