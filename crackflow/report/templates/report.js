"use strict";
/* Three things that paper cannot do. Without this script the page says the same. */

const percent = (part, whole) => {
  if (!whole) return "undefined";
  const text = (100 * part / whole).toFixed(2);
  return (text === "100.00" && part < whole ? "99.99" : text) + "\u00a0%";
};

/* The threshold: counts at each of a thousand come with the page; the matrix and the rates follow the slider. */
for (const box of document.querySelectorAll(".threshold")) {
  const found = JSON.parse(box.dataset.found), alarms = JSON.parse(box.dataset.alarms);
  const cracked = found[0], clean = alarms[0], slider = box.querySelector("input"), last = found.length - 1;
  const own = slider.defaultValue;  /* three digits; what the page says without a script is of the threshold itself */
  const told = [...box.querySelectorAll("[data-is]")].map(one => [one, one.textContent]);
  const put = (name, text) => { box.querySelector(`[data-is="${name}"]`).textContent = text; };
  const show = () => {
    if (Number(slider.value) === Number(own)) {
      for (const [one, text] of told) one.textContent = text;
      return;
    }
    const at = Math.round(slider.value * last), tp = found[at], fp = alarms[at];
    const fn = cracked - tp, tn = clean - fp;
    put("threshold", (at / last).toFixed(3));
    for (const [name, count] of Object.entries({ tp, fp, fn, tn })) put(name, count.toLocaleString("en-US"));
    put("accuracy", percent(tp + tn, cracked + clean));
    put("recall", percent(tp, cracked));
    put("specificity", percent(tn, clean));
    put("precision", percent(tp, tp + fp));
    put("f1", percent(2 * tp, 2 * tp + fp + fn));
  };
  slider.addEventListener("input", show);
  box.querySelector("button").addEventListener("click", () => { slider.value = own; show(); });
  show();
}

/* Tables: a click on a heading sorts by it, another the other way round. */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => typeof a === "number" && typeof b === "number"
        ? (Number.isNaN(a) - Number.isNaN(b)) || a - b : String(a).localeCompare(String(b), "en", { numeric: true });
      const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column)));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}

/* Pictures: a click or Enter enlarges, another closes. */
const dialog = document.querySelector("dialog");
for (const figure of document.querySelectorAll(".gallery figure")) {
  for (const image of figure.querySelectorAll("img")) {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    const open = () => {
      dialog.querySelector("img").src = image.src;
      dialog.querySelector("img").alt = image.alt;
      dialog.querySelector("p").textContent = figure.querySelector("figcaption").innerText.replace(/\s*\n\s*/g, ", ");
      dialog.showModal();
    };
    image.addEventListener("click", open);
    image.addEventListener("keydown", event => { if (event.key === "Enter") open(); });
  }
}
if (dialog) dialog.addEventListener("click", () => dialog.close());
