// From strokes to bitmaps: what rasterization.py has cairo do, in JavaScript.
//
// cairo takes 15 lines across each row of pixels. Where no edge of the outline begins, ends, or
// meets another within a row, it follows each edge through the whole row instead.
// https://www.cairographics.org/ is the program whose results these are to be.

import { UNITS, makePen, outline, round } from "./outline.js";
import { simplify } from "./simplification.js";

const EXTENT = 256; // of the box that the middles of the lines fit; see page.py
const LINE_WIDTH = 16;
const MARGIN = 24;
const PAGE_SIZE = EXTENT + 2 * MARGIN;
const LINES = 15; // across a row of pixels
const WHOLE = 2 * UNITS * LINES; // the area of a pixel

/**
 * Draws strokes as drawn, of any extent, as a bitmap.
 *
 * @param strokes Each [[x, ...], [y, ...]].
 * @param side Height and width of the bitmap in pixels.
 * @returns Uint8Array[side * side], row-major, ink high on 0.
 */
export function rasterize(strokes, side) {
  return draw(simplify(strokes), side);
}

/** The same for strokes that are simplified: within 0 to 255, at the top left. */
export function draw(strokes, side) {
  const scale = side / PAGE_SIZE;
  const offsets = [0, 1].map((axis) => {
    const most = strokes.reduce((high, stroke) => stroke[axis].reduce(maximum, high), -Infinity);
    return (EXTENT - most) / 2 + MARGIN;
  });
  const pen = makePen((LINE_WIDTH * scale) / 2);
  const page = new Uint8Array(side * side);
  for (const [xs, ys] of strokes) {
    const points = xs.map((x, i) => [
      round((x + offsets[0]) * scale * UNITS),
      round((ys[i] + offsets[1]) * scale * UNITS),
    ]);
    ink(page, areasOf(edgesOf(outline(points, pen)), side));
  }
  return page;
}

const maximum = (a, b) => Math.max(a, b);

/** A polygon's edges, each with the lines it crosses: from `top` up to, but without, `bottom`. */
function edgesOf(polygon) {
  const edges = [];
  polygon.forEach((end, i) => {
    const start = polygon.at(i - 1);
    const [high, low] = start[1] < end[1] ? [start, end] : [end, start];
    const [top, bottom] = [high, low].map((point) => Math.floor((point[1] * LINES) / UNITS + 0.5));
    if (bottom <= top) return;
    const [width, height] = [low[0] - high[0], 2 * LINES * (low[1] - high[1])];
    // In the middle of a line. All but the quotient are whole numbers, and exact.
    const x = (line) =>
      high[0] + (((2 * line + 1) * UNITS - 2 * LINES * high[1]) * width) / height;
    const winding = start === high ? 1 : -1;
    edges.push({ top, bottom, winding, x, step: (2 * UNITS * width) / height });
  });
  return edges;
}

/** How much of each pixel is inside, of `WHOLE`; where windings add to 0 is outside. */
function areasOf(edges, side) {
  const areas = new Int32Array(side * side);
  for (let row = 0; row < side; row++) {
    const [top, bottom] = [row * LINES, (row + 1) * LINES];
    const active = edges.filter((edge) => edge.top < bottom && edge.bottom > top);
    const cells = areas.subarray(row * side, (row + 1) * side);
    if (areUndisturbed(active, top, bottom)) {
      addRow(cells, active, top, bottom);
    } else {
      for (let line = top; line < bottom; line++) addLine(cells, active, line);
    }
  }
  return areas;
}

/** Whether all edges go through the whole row, and do not meet in it. Sorts them. */
function areUndisturbed(active, top, bottom) {
  if (active.some((edge) => edge.top > top || edge.bottom < bottom)) return false;
  active.sort((a, b) => a.x(top) - b.x(top));
  const ends = active.map((edge) => Math.floor(edge.x(bottom)));
  return ends.every((x, i) => i === 0 || x > ends[i - 1]);
}

function addLine(cells, active, line) {
  const crossings = active
    .filter((edge) => edge.top <= line && line < edge.bottom)
    .map((edge) => [Math.floor(edge.x(line) + 0.5), edge.winding])
    .sort((a, b) => a[0] - b[0]);
  let winding = 0;
  for (const [x, change] of crossings) {
    if (winding === 0) addRightOf(cells, x >> 8, 1, x & 255, 1);
    winding += change;
    if (winding === 0) addRightOf(cells, x >> 8, 1, x & 255, -1);
  }
}

function addRow(cells, active, top, bottom) {
  let winding = 0;
  for (const edge of active) {
    const before = winding;
    winding += edge.winding;
    if (before === 0) addEdge(cells, edge, top, bottom, 1);
    else if (winding === 0) addEdge(cells, edge, top, bottom, -1);
  }
}

/** Adds what is to the right of an edge through a whole row, in whole lines for each column. */
function addEdge(cells, edge, top, bottom, sign) {
  const whole = Math.trunc(edge.step); // half a step back: from the middle of a line to its top
  const back = Math.trunc(whole / 2) + (edge.step - whole) / 2;
  const ends = [top, bottom].map((line) => Math.floor(edge.x(line) - back)).sort((a, b) => a - b);
  const [from, to] = ends.map((x) => x >> 8);
  const [start, end] = ends.map((x) => x & 255);
  if (from === to) {
    addRightOf(cells, from, LINES, (start + end) / 2, sign);
    return;
  }
  const width = ends[1] - ends[0];
  let lines = Math.floor(((UNITS - start) * LINES) / width);
  let rest = (UNITS - start) * LINES - lines * width;
  addRightOf(cells, from, lines, (UNITS + start) / 2, sign);
  const each = Math.floor((UNITS * LINES) / width);
  for (let column = from + 1; column < to; column++) {
    rest += UNITS * LINES - each * width;
    const more = rest > width ? 1 : 0;
    rest -= more * width;
    addRightOf(cells, column, each + more, UNITS / 2, sign);
    lines += each + more;
  }
  addRightOf(cells, to, LINES - lines, end / 2, sign);
}

/** Adds some lines from a place in a column to the right end of the row. */
function addRightOf(cells, column, lines, place, sign) {
  cells[column] += sign * lines * 2 * (UNITS - place);
  for (let i = column + 1; i < cells.length; i++) cells[i] += sign * lines * 2 * UNITS;
}

/** Inks the areas over what is there. */
function ink(page, areas) {
  areas.forEach((area, i) => {
    if (!area) return;
    const cover = (area * 17 + 256) >> 9; // WHOLE becomes 255
    page[i] = cover + over255((255 - cover) * page[i]);
  });
}

/** A product of two bytes, divided by 255 and rounded. */
function over255(product) {
  const raised = product + 127;
  return (raised + (raised >> 8)) >> 8;
}
