// The outline of a stroke, as cairo draws it: with round caps and round joins.
//
// Points are [x, y] in whole 1/256 of a pixel, y downwards. A round pen is a polygon. Where the
// stroke turns, the outer side of the outline takes the pen's vertices that lie between the two
// directions, and the inner side goes through the middle of the pen.

export const UNITS = 256; // of a pixel, which cairo's coordinates are rounded to
const TOLERANCE = 0.1; // of a pixel, between a pen and a circle

const cross = (a, b) => a[0] * b[1] - a[1] * b[0];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const plus = (a, b) => [a[0] + b[0], a[1] + b[1]];
const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];
const isSame = (a, b) => a[0] === b[0] && a[1] === b[1];

/** The nearest whole number; of two as near, the even one. */
export function round(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** A pen's vertices in the order of their angles, each with the edges before and after it. */
export function makePen(radius) {
  const count = Math.max(4, 2 * Math.ceil(Math.PI / Math.acos(1 - TOLERANCE / radius)));
  const points = Array.from({ length: count }, (_, i) => {
    const angle = (2 * Math.PI * i) / count;
    return [round(radius * Math.cos(angle) * UNITS), round(radius * Math.sin(angle) * UNITS)];
  });
  const vertices = points.map((point, i) => ({
    point,
    before: minus(point, points.at(i - 1)),
    after: minus(points[(i + 1) % count], point),
  }));
  return { radius, vertices };
}

/** The points of the outline of a stroke, a closed polygon that may cross itself. */
export function outline(points, pen) {
  const path = withoutNeedless(points);
  const sides = { left: [], right: [] };
  let face = faceOf(path[0], path.length > 1 ? minus(path[1], path[0]) : [UNITS, 0], pen);
  const first = face;
  push(sides, face);
  for (let i = 1; i < path.length; i++) {
    if (i > 1) face = join(sides, face, faceOf(path[i - 1], minus(path[i], path[i - 1]), pen), pen);
    const way = face.direction;
    face = { ...face, point: path[i], left: plus(face.left, way), right: plus(face.right, way) };
    push(sides, face);
  }
  return [
    ...sides.left,
    ...cap(face.point, face.direction, pen),
    ...sides.right.reverse(),
    ...cap(first.point, minus([0, 0], first.direction), pen),
  ];
}

/** Without points that are there twice, or on the way straight on. */
function withoutNeedless(points) {
  const path = [points[0]];
  for (const point of points) {
    const [before, last] = [path.at(-2), path.at(-1)];
    if (isSame(point, last)) continue;
    if (before) {
      const [old, next] = [minus(last, before), minus(point, last)];
      if (cross(old, next) === 0 && dot(old, next) > 0) path.pop();
    }
    path.push(point);
  }
  return path;
}

/** Where the pen's two sides are when it sets out from a point. */
function faceOf(point, direction, pen) {
  const scale = (pen.radius * UNITS) / Math.hypot(...direction);
  const side = [round(-direction[1] * scale), round(direction[0] * scale)];
  return { point, direction, left: plus(point, side), right: minus(point, side) };
}

function push(sides, face) {
  sides.left.push(face.left);
  sides.right.push(face.right);
}

/** Turns from one face to the other, which is returned. */
function join(sides, face, next, pen) {
  const toRight = turnsRight(face.direction, next.direction);
  const [outer, inner] = toRight ? ["right", "left"] : ["left", "right"];
  const fan = toRight
    ? rightOf(face.direction, next.direction, pen)
    : leftOf(face.direction, next.direction, pen);
  for (const point of fan) sides[outer].push(plus(face.point, point));
  sides[inner].push(face.point);
  push(sides, next);
  return next;
}

function turnsRight(from, to) {
  const turn = cross(from, to);
  return turn ? turn > 0 : isForward(from);
}

const isForward = ([x, y]) => x > 0 || (x === 0 && y > 0);

/** From the left of a stroke's end round to its right. */
function cap(point, direction, pen) {
  return leftOf(direction, minus([0, 0], direction), pen).map((each) => plus(point, each));
}

/** The pen's vertices on its right while its direction turns to the right. */
function rightOf(from, to, pen) {
  const isIn = (edge) => cross(from, edge) >= 0 && cross(edge, to) >= 0;
  return between(pen, (before, after) => isIn(before) && isIn(after));
}

/** The pen's vertices on its left while its direction turns to the left: the mirror image. */
function leftOf(from, to, pen) {
  const least = isForward(from) ? 0 : 1; // cairo's way with edges that are just in the direction
  const isIn = (edge) => cross(to, edge) >= least && cross(edge, from) >= least;
  const fan = between(pen, (before, after) => isIn(before) || isIn(after));
  return fan.reverse().map(([x, y]) => [-x, -y]);
}

/** The one run of vertices whose edges, the one before and the one after, are as wanted. */
function between({ vertices }, isWanted) {
  const chosen = vertices.map(({ before, after }) => isWanted(before, after));
  const start = chosen.findIndex((isChosen, i) => isChosen && !chosen.at(i - 1));
  const fan = [];
  for (let i = start; chosen[i % chosen.length]; i++) fan.push(vertices[i % chosen.length].point);
  return fan;
}
