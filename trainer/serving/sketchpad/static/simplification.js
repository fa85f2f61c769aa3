// From strokes as drawn to simplified ones: what simplification.py does, in JavaScript. See there.

import { round } from "./outline.js";

const MAX_COORDINATE = 255;
const EPSILON = 2;
const GRAIN = 2 ** -20; // to which lengths are rounded
const LEAST_EXTENT = 1e-6; // of a drawing; a smaller one is a dot

/**
 * Moves a drawing to the top left, scales its longer side to 255, and leaves out points that are
 * within 2 of the line without them. Coordinates become whole numbers.
 *
 * @param strokes Each [[x, ...], [y, ...]].
 */
export function simplify(strokes) {
  return fit(strokes).map((stroke) => {
    const dense = resample(stroke);
    const kept = significant(dense);
    return dense.map((values) => values.filter((_, i) => kept[i]).map(round));
  });
}

function fit(strokes) {
  const lows = [0, 1].map((axis) => Math.min(...strokes.map((stroke) => Math.min(...stroke[axis]))));
  const highs = [0, 1].map((axis) => Math.max(...strokes.map((stroke) => Math.max(...stroke[axis]))));
  const extent = Math.max(highs[0] - lows[0], highs[1] - lows[1]);
  const scale = extent > LEAST_EXTENT ? MAX_COORDINATE / extent : 1;
  return strokes.map((stroke) => stroke.map((xs, axis) => xs.map((x) => (x - lows[axis]) * scale)));
}

/** Resamples a stroke at a spacing of 1; makes the first and last new point of each segment. */
function resample([xs, ys]) {
  const positions = [0];
  for (let i = 1; i < xs.length; i++) {
    const step = Math.hypot(xs[i] - xs[i - 1], ys[i] - ys[i - 1]);
    positions.push(positions[i - 1] + round(step / GRAIN) * GRAIN);
  }
  const wanted = [0, positions.at(-1)];
  for (let i = 1; i < positions.length; i++) {
    const [first, last] = [Math.ceil(positions[i - 1]), Math.floor(positions[i])];
    if (first <= last) wanted.push(first, last);
  }
  const places = [...new Set(wanted)].sort((a, b) => a - b);
  return [xs, ys].map((values) => interpolate(places, positions, values));
}

/** The values at places, ascending, of the line through (positions, values). */
function interpolate(places, positions, values) {
  let i = 0;
  return places.map((place) => {
    while (i < positions.length - 1 && positions[i + 1] <= place) i += 1;
    if (positions[i] === place) return values[i];
    const slope = (values[i + 1] - values[i]) / (positions[i + 1] - positions[i]);
    return slope * (place - positions[i]) + values[i];
  });
}

/** Which points Ramer, Douglas and Peucker keep. */
function significant([xs, ys]) {
  const kept = xs.map(() => false);
  kept[0] = kept[xs.length - 1] = true;
  const pieces = [[0, xs.length - 1]];
  while (pieces.length) {
    const [first, last] = pieces.pop();
    let furthest = EPSILON;
    let cut = null;
    for (let i = first + 1; i < last; i++) {
      const distance = distanceToLine(xs, ys, i, first, last);
      if (distance > furthest) [furthest, cut] = [distance, i];
    }
    if (cut === null) continue;
    kept[cut] = true;
    pieces.push([first, cut], [cut, last]);
  }
  return kept;
}

/** From a point to the line through two others; to the first, where they are the same. */
function distanceToLine(xs, ys, point, first, last) {
  const chord = [xs[last] - xs[first], ys[last] - ys[first]];
  const arm = [xs[point] - xs[first], ys[point] - ys[first]];
  const length = Math.hypot(...chord);
  if (length === 0) return Math.hypot(...arm);
  return Math.abs(chord[0] * arm[1] - chord[1] * arm[0]) / length;
}
