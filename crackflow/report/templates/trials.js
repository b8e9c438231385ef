"use strict";
// A trial under the pointer, or with the focus, stands out in the lines and in the table alike.
const lines = [...document.querySelectorAll("#lines polyline")], rows = [...document.querySelectorAll("#trials tbody tr")];
const told = document.getElementById("told"), silence = told && told.textContent;

function choose(name) {
  for (const one of [...lines, ...rows]) one.classList.toggle("chosen", one.dataset.trial === name);
  const line = lines.find(one => one.dataset.trial === name);
  if (told) told.textContent = line ? line.querySelector("title").textContent : silence;
  if (line) line.parentNode.append(line);
}

for (const one of [...lines, ...rows]) {
  one.addEventListener("pointerenter", () => choose(one.dataset.trial));
  one.addEventListener("pointerleave", () => choose(null));
}

// A click on a heading sorts by it, another the other way round.
const table = document.getElementById("trials");
[...table.tHead.rows[0].cells].forEach((heading, column) => {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => String(value(a)).localeCompare(String(value(b)), "en", { numeric: true });
    const numbers = (a, b) => Number(value(a)) - Number(value(b)) || compare(a, b);
    const sorted = [...rows].sort(rows.every(row => !Number.isNaN(Number(value(row)))) ? numbers : compare);
    table.tBodies[0].append(...(down ? sorted : sorted.reverse()));
  });
});
