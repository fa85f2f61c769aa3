// Guesses in the browser itself what a drawing is; see sketchpad.js.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { rasterize } from "./rasterization.js";

const GUESSES = 5;

// More threads would need a host that sends headers for it (cross-origin isolation).
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: at("runtime/ort-wasm-simd-threaded.wasm") };

const opening = open();
opening.then(ready, () => {}); // guess tells of errors

function at(name) {
  return new URL(name, import.meta.url).href;
}

async function open() {
  const about = await (await fetch(at("model.json"))).json();
  const session = await ort.InferenceSession.create(at("model.onnx"));
  return { ...about, session };
}

function ready() {
  const verdict = document.getElementById("verdict");
  if (verdict.textContent === "Loading the model.") {
    verdict.textContent = "Waiting for the first stroke.";
  }
}

globalThis.guess = async (strokes) => {
  const { session, classes, side } = await opening.catch((error) => {
    throw new Error(`The model cannot be loaded: ${error.message}`);
  });
  const bitmap = rasterize(strokes, side);
  const image = new ort.Tensor("uint8", bitmap, [1, side, side, 1]);
  const { probabilities } = await session.run({ image });
  return { guesses: best(probabilities.data, classes), bitmap, side };
};

function best(probabilities, classes) {
  return [...probabilities]
    .map((probability, label) => ({ class: classes[label], probability }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, GUESSES);
}
