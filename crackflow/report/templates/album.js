"use strict";
// Zoom: the view box of each photograph moves. Threshold: outlines and rows below it are hidden. Print: what is closed opens.
const slider = document.getElementById("threshold");
const photos = [...document.querySelectorAll(".photo")];

let moved = false;

function decide() {
  const threshold = Number(slider.value), own = !moved || Math.abs(threshold - Number(slider.dataset.own)) < 0.0006;
  const counts = { cracked: 0, review: 0, clean: 0 };
  for (const photo of photos) {
    const decision = own ? photo.dataset.decision : Number(photo.dataset.probability) >= threshold ? "cracked" : photo.dataset.below;
    counts[decision] += 1;
    const shown = photo.querySelector(".decision");
    shown.textContent = decision;
    shown.className = "decision " + decision;
    for (const one of photo.querySelectorAll("[data-p]")) one.toggleAttribute("hidden", !own && Number(one.dataset.p) < threshold);
    for (const one of photo.querySelectorAll("polygon")) one.style.display = one.hasAttribute("hidden") ? "none" : "";
  }
  document.getElementById("value").textContent = moved ? threshold.toFixed(3) : Number(slider.dataset.own).toFixed(3);
  const counted = document.getElementById("counts");
  counted.textContent = (counted.dataset.of || "") + Object.entries(counts).map(([name, count]) => name + " " + count).join(", ");
  const note = document.getElementById("moved");
  note.hidden = own;
  if (!own) note.textContent = `The threshold of this page was moved to ${threshold.toFixed(3)}: decisions and outlines follow it. The figures of this summary, `
    + `and the lengths and widths of photographs, stay those of the model's own threshold, ${Number(slider.dataset.own).toFixed(3)}.`;
}

function view(svg) { return svg.getAttribute("viewBox").split(" ").map(Number); }

function look(svg, x, y, width) {
  const full = Number(svg.dataset.width), tall = Number(svg.dataset.height);
  const wide = Math.min(Math.max(width, full / 64), full), high = wide * tall / full;
  const left = Math.min(Math.max(x, 0), full - wide), top = Math.min(Math.max(y, 0), tall - high);
  svg.setAttribute("viewBox", [left, top, wide, high].join(" "));
}

// Enlarges what is around a box: to a quarter of the view, or less where the box is long and thin.
function lookAt(svg, [x, y, width, height]) {
  const shape = Number(svg.dataset.width) / Number(svg.dataset.height);
  const wide = Math.max(2 * Math.sqrt(width * height * shape), 1.2 * width, 1.2 * height * shape);
  look(svg, x + width / 2 - wide / 2, y + height / 2 - wide / shape / 2, wide);
}

// Where in the photograph the pointer is.
function place(svg, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x, point.y];
}

function zoom(svg, factor, at) {
  const [x, y, width, height] = view(svg);
  const [px, py] = at || [x + width / 2, y + height / 2];
  const wide = Math.min(width / factor, Number(svg.dataset.width));
  look(svg, px - (px - x) * wide / width, py - (py - y) * wide / width, wide);
}

function listen(photo) {
  const svg = photo.querySelector("svg"), held = new Map();
  let apart = 0;
  photo.querySelector(".tools").hidden = false;
  for (const button of photo.querySelectorAll("button[data-zoom]")) {
    const factor = Number(button.dataset.zoom);
    button.addEventListener("click", () => factor ? zoom(svg, factor) : look(svg, 0, 0, Infinity));
  }
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && view(svg)[2] >= Number(svg.dataset.width) && event.deltaY > 0) return;
    event.preventDefault();
    zoom(svg, Math.exp(-event.deltaY / 400), place(svg, event));
  }, { passive: false });
  svg.addEventListener("dblclick", (event) => zoom(svg, 2, place(svg, event)));
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); held.set(event.pointerId, event); });
  svg.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const [fromX, fromY] = place(svg, held.get(event.pointerId)), [toX, toY] = place(svg, event);
    held.set(event.pointerId, event);
    const [one, other] = [...held.values()];
    if (other) {
      const now = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      if (apart) zoom(svg, now / apart, place(svg, { clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 }));
      apart = now;
    } else {
      const [x, y, width] = view(svg);
      look(svg, x + fromX - toX, y + fromY - toY, width);
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) svg.addEventListener(kind, (event) => { held.delete(event.pointerId); apart = 0; });
  svg.addEventListener("keydown", (event) => {
    const [x, y, width, height] = view(svg);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "+" || event.key === "=") zoom(svg, 1.5);
    else if (event.key === "-") zoom(svg, 1 / 1.5);
    else if (event.key === "0") look(svg, 0, 0, Infinity);
    else if (moves[event.key] && width < Number(svg.dataset.width)) look(svg, x + moves[event.key][0] * width / 8, y + moves[event.key][1] * height / 8, width);
    else return;
    event.preventDefault();
  });
  for (const row of photo.querySelectorAll("tr[data-n]")) {
    for (const [kind, on] of [["mouseenter", true], ["mouseleave", false]]) {
      row.addEventListener(kind, () => {
        for (const one of photo.querySelectorAll(`polygon[data-n="${row.dataset.n}"]`)) one.classList.toggle("chosen", on);
      });
    }
  }
}

// Paper has no details to open: photographs with findings print as if open, and close again.
function listenToPrinter() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll(".index:not([open]), .photo:not(.empty) details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
  document.getElementById("print").addEventListener("click", () => print());
}

const widths = document.getElementById("widths");
if (widths) widths.addEventListener("change", () => document.body.classList.toggle("no-widths", !widths.checked));
document.getElementById("bar").hidden = false;
photos.forEach(listen);
listenToPrinter();
slider.addEventListener("input", () => { moved = true; decide(); });
decide();
