// What has no view of its own: one image.

import { bytes } from "../api.js";
import { make } from "../dom.js";

export async function open({ stage, url, complain }) {
  const image = make("img", { className: "fit", alt: "The sample" });
  stage.replaceChildren(image);
  const controller = new AbortController();
  const refresh = () => bytes(url("image.png"), controller.signal).then((blob) => (image.src = URL.createObjectURL(blob)), complain);
  refresh();
  return { refresh, options: () => ({}), close: () => controller.abort() };
}
