"use strict";

// The page is whole without this script: it sorts, searches and reads the matrix out.

function cellValue(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent.trim();
  return value === "None" ? null : Number(value);
}

function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}

function sortTable(table, header, direction) {
  const body = table.tBodies[0];
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = Array.from(body.rows, (row) => [cellValue(row, header.cellIndex), row]);
  // What has no value stays at the end, whichever the direction.
  keyed.sort(([a], [b]) =>
    a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
  body.append(...keyed.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
}

function makeSortable(table) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const rises = header.getAttribute("aria-sort") === "ascending";
      sortTable(table, header, rises ? "descending" : "ascending");
    });
  }
}

function makeSearchable(table, form) {
  const input = form.querySelector("input");
  const found = form.querySelector("output");
  const rows = Array.from(table.tBodies[0].rows);
  const filter = () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    const shown = rows.filter((row) => !row.hidden).length;
    found.value = wanted ? `${shown} of ${rows.length} classes` : "";
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", filter);
}

function makeReadable(matrix, tools) {
  const { names, rows } = JSON.parse(document.getElementById("matrix-data").textContent);
  const [zoom, output] = [tools.querySelector("input"), tools.querySelector("output")];
  const field = matrix.querySelector(".matrix-field");
  const mark = document.createElement("i");
  const cellSize = () => field.offsetWidth / names.length;
  let [row, column] = [0, 0];

  const select = (newRow, newColumn) => {
    const clamp = (index) => Math.max(0, Math.min(names.length - 1, index));
    [row, column] = [clamp(newRow), clamp(newColumn)];
    mark.style.left = `calc(var(--cell) * ${column})`;
    mark.style.top = `calc(var(--cell) * ${row})`;
    field.append(mark);
    const total = Object.values(rows[row]).reduce((sum, count) => sum + count, 0);
    const count = rows[row][column] || 0;
    const share = total ? ` (${(100 * count / total).toFixed(1)} %)` : "";
    const verb = row === column ? "recognized" : `taken for ${names[column]}`;
    output.value = `${names[row]}, ${verb}: ${count} of ${total}${share}`;
  };
  const point = (event) => {
    const box = field.getBoundingClientRect();
    const index = (offset) => Math.floor(offset / cellSize());
    select(index(event.clientY - box.top), index(event.clientX - box.left));
  };
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  tools.hidden = false;
  field.addEventListener("pointermove", point);
  field.addEventListener("pointerdown", point);
  matrix.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    select(row + move[0], column + move[1]);
    mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  zoom.addEventListener("input", () => {
    const center = (matrix.scrollLeft + matrix.clientWidth / 2) / matrix.scrollWidth;
    const middle = (matrix.scrollTop + matrix.clientHeight / 2) / matrix.scrollHeight;
    matrix.style.setProperty("--cell", `${zoom.value}px`);
    matrix.classList.toggle("unnamed", zoom.value < 9);
    matrix.scrollLeft = center * matrix.scrollWidth - matrix.clientWidth / 2;
    matrix.scrollTop = middle * matrix.scrollHeight - matrix.clientHeight / 2;
  });
}

const [classTable, search, matrix] =
  ["class-table", "search-form", "matrix"].map((id) => document.getElementById(id));
if (classTable) makeSortable(classTable);
if (search) makeSearchable(classTable, search);
if (matrix) makeReadable(matrix, document.querySelector(".matrix-tools"));
