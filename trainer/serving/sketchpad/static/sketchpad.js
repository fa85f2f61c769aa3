// Takes strokes from the paper, and shows what is guessed of them.
//
// What guesses is another script, server.js or model.js, with a function `guess`: a promise of
// {guesses: [{class, probability}, ...], bitmap: Uint8Array, side}, best guess first. It takes
// strokes, and a signal that says that its answer is no longer wanted.
"use strict";

const paper = document.getElementById("paper");
const context = paper.getContext("2d");
const undoButton = document.getElementById("undo");
const clearButton = document.getElementById("clear");
const verdict = document.getElementById("verdict");
const list = document.getElementById("guesses");

const LINE_WIDTH = 16 / 288; // of the paper's side, as the bitmaps have it
const KEY_STEP = 1 / 40; // of the paper's side
const SPACING = 1 / 500; // of the paper's side, at least, between two points of a stroke
const PAUSE_MS = 60; // between guesses within a stroke

// A stroke is [[x, ...], [y, ...]] in shares of the paper's side, so that it may be resized.
let strokes = [];
let stroke = null; // the one being drawn, which is the last of strokes
let pointer = null; // that draws it
let pen = { x: 0.5, y: 0.5, shown: false }; // of the keyboard

// ---- drawing ----

function draw() {
  const side = paper.width;
  const style = getComputedStyle(paper);
  context.clearRect(0, 0, side, side);
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = side * LINE_WIDTH / 2;
  context.lineCap = context.lineJoin = "round";
  for (const [xs, ys] of strokes) {
    context.beginPath();
    context.moveTo(xs[0] * side, ys[0] * side);
    xs.forEach((x, i) => context.lineTo(x * side, ys[i] * side));
    context.stroke();
  }
  if (pen.shown) {
    context.strokeStyle = style.getPropertyValue("--accent");
    context.lineWidth = side / 150;
    context.beginPath();
    context.arc(pen.x * side, pen.y * side, side / 50, 0, 2 * Math.PI);
    context.stroke();
  }
}

function resize() {
  const side = Math.round(paper.clientWidth * devicePixelRatio);
  if (side && side !== paper.width) {
    paper.width = paper.height = side;
    draw();
  }
}

function add(x, y) {
  const [xs, ys] = stroke;
  if (Math.hypot(x - xs.at(-1), y - ys.at(-1)) >= SPACING) {
    xs.push(x);
    ys.push(y);
  }
}

function begin(x, y) {
  stroke = [[x], [y]];
  strokes.push(stroke);
  changed();
}

function end() {
  stroke = pointer = null;
  changed();
}

function undo() {
  strokes.pop();
  end();
}

function clear() {
  strokes = [];
  end();
}

function changed() {
  draw();
  undoButton.disabled = clearButton.disabled = !strokes.length;
  document.getElementById("invitation").hidden = strokes.length > 0;
  ask();
}

// ---- pointers: mouse, finger, pen ----

function place(event) {
  const box = paper.getBoundingClientRect();
  const share = (value, low, size) => Math.min(1, Math.max(0, (value - low) / size));
  return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
}

paper.addEventListener("pointerdown", (event) => {
  if (stroke || event.button !== 0) return; // a second finger does not draw
  paper.setPointerCapture(event.pointerId);
  pen.shown = false;
  pointer = event.pointerId;
  begin(...place(event));
});

paper.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const each of events.length ? events : [event]) add(...place(each));
  changed();
});

for (const type of ["pointerup", "pointercancel"]) {
  paper.addEventListener(type, (event) => {
    if (event.pointerId === pointer) end();
  });
}

// ---- keyboard ----

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

paper.addEventListener("keydown", (event) => {
  if (pointer !== null || event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const move = (value, step) => Math.min(1, Math.max(0, value + step * KEY_STEP));
    pen = { x: move(pen.x, arrow[0]), y: move(pen.y, arrow[1]), shown: true };
    if (stroke) add(pen.x, pen.y);
  } else if (event.key === " ") {
    pen.shown = true;
    if (stroke) end();
    else begin(pen.x, pen.y);
  } else {
    return;
  }
  event.preventDefault();
  if (stroke) changed();
  else draw();
});

paper.addEventListener("blur", () => {
  pen.shown = false;
  if (stroke && pointer === null) end();
  else draw();
});

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    undo();
  } else if (event.key === "Delete") {
    clear();
  }
});

undoButton.addEventListener("click", undo);
clearButton.addEventListener("click", clear);

document.querySelector('a[href="#classes"]').addEventListener("click", () => {
  document.getElementById("classes").open = true;
});

// ---- guesses ----

let asked = 0; // how often the drawing has changed
let request = null; // that is under way: {number, controller}
let timer = null;

// What is drawn by now is asked at once when a stroke ends, in its course when nothing else is
// under way. An answer to an older drawing than the one on the paper is shown only within a
// stroke, where the next is soon to come.
function ask() {
  asked += 1;
  if (!strokes.length) {
    request?.controller.abort();
    request = null;
    show([]);
  } else if (!stroke) {
    request?.controller.abort();
    send();
  } else if (!request && timer === null) {
    send();
  }
}

async function send() {
  clearTimeout(timer);
  timer = null;
  const own = { number: asked, controller: new AbortController() };
  request = own;
  try {
    const drawing = strokes.map((each) => each.map(toTenThousandths));
    const result = await guess(drawing, own.controller.signal);
    if (request !== own) return;
    show(result.guesses, result);
  } catch (error) {
    if (error.name === "AbortError" || request !== own) return;
    fail(error.message);
  }
  request = null;
  if (stroke && own.number !== asked) {
    timer = setTimeout(() => { timer = null; if (stroke) send(); }, PAUSE_MS);
  }
}

function toTenThousandths(values) {
  return values.map((value) => Math.round(value * 10000));
}

function percent(probability) {
  return `${(probability * 100).toFixed(probability < 0.0995 ? 1 : 0)} %`;
}

function say(text, isError = false) {
  verdict.classList.toggle("error", isError);
  if (verdict.textContent !== text) verdict.textContent = text;
}

function fail(text) {
  show([]);
  say(text, true);
}

function show(guesses, seen = null) {
  while (list.children.length > guesses.length) list.lastChild.remove();
  while (list.children.length < guesses.length) list.append(makeRow());
  guesses.forEach(({ class: name, probability }, i) => {
    const row = list.children[i];
    row.querySelector(".name").textContent = name;
    row.querySelector(".percent").textContent = percent(probability);
    row.querySelector(".bar span").style.transform = `scaleX(${probability})`;
  });
  document.getElementById("seen").hidden = !seen;
  if (seen) showBitmap(seen);
  verdict.setAttribute("aria-live", stroke ? "off" : "polite"); // to be read out between strokes
  if (guesses.length) say(`I see ${guesses[0].class}, ${percent(guesses[0].probability)}.`);
  else say("Waiting for the first stroke.");
}

function makeRow() {
  const row = document.createElement("li");
  const words = document.createElement("div");
  words.className = "words";
  for (const name of ["name", "percent"]) {
    const word = document.createElement("span");
    word.className = name;
    words.append(word);
  }
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.setAttribute("aria-hidden", "true");
  bar.append(document.createElement("span"));
  row.append(words, bar);
  return row;
}

function showBitmap({ bitmap, side }) {
  const canvas = document.getElementById("bitmap");
  const pixels = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    pixels.data.fill(255 - bitmap[i], 4 * i, 4 * i + 3);
    pixels.data[4 * i + 3] = 255;
  }
  canvas.width = canvas.height = side;
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(pixels, 0, 0);
}

if (location.protocol === "file:") {
  fail("A browser runs no model from a file: open this page by way of a web server.");
}
new ResizeObserver(resize).observe(paper);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
resize();
