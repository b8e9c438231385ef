// Tables of photographs and of findings: sorted by any column, filtered by decision and name, and a way to each picture.
// Runs after album.js, whose `slider`, `photos` and `lookAt` it uses. Without it the tables say the same.
(() => {
const sections = new Map(photos.map((section) => [section.dataset.photo, section]));

// A number, NaN where the cell is empty, or a word.
function valueOf(row, column, isText) {
  const cell = row.cells[column];
  if (isText) return cell.textContent.trim();
  const value = cell.dataset.value ?? cell.textContent;
  return value.trim() === "" ? NaN : Number(value);
}

function sortable(table, rows, refresh) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    if ("fixed" in heading.dataset) return;
    const button = document.createElement("button"), isText = "text" in heading.dataset;
    button.type = "button";
    // The words once more for paper: Chromium draws no button in heads that repeat on the next page.
    const words = Object.assign(document.createElement("span"), { className: "printed", textContent: heading.textContent });
    button.append(...heading.childNodes);
    heading.append(button, words);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort"), descending = before ? before === "ascending" : !isText;  // the largest first
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const values = new Map(rows.map((row) => [row, valueOf(row, column, isText)])), collator = new Intl.Collator("en", { numeric: true });
      const compare = isText ? collator.compare : (a, b) => a - b, sign = descending ? -1 : 1;
      rows.sort((one, other) => {
        const a = values.get(one), b = values.get(other);
        return Number.isNaN(a) - Number.isNaN(b) || (Number.isNaN(a) ? 0 : sign * compare(a, b));  // the unknown comes last
      });
      table.tBodies[0].append(...rows);
      refresh();
    });
  });
}

function filterable(table, rows) {
  const box = document.querySelector(`.filters[data-table="${table.id}"]`), counted = box.querySelector("output");
  const decision = box.querySelector("select"), text = box.querySelector("input"), all = box.querySelector(".all");
  const plain = (value) => value.normalize("NFKC").toLowerCase(), names = new Map(rows.map((row) => [row, plain(row.querySelector("bdi").textContent)]));
  let limit = Number(table.dataset.rows);  // that are laid out on the screen until a person asks for all

  function refresh() {
    const words = plain(text.value).split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const matches = !row.classList.contains("below") && (!decision.value || row.dataset.decision === decision.value)
        && words.every((word) => names.get(row).includes(word));
      row.hidden = !matches;
      if (matches) row.classList.toggle("later", ++count > limit);
    }
    counted.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} ${counted.dataset.what}`
      + (count > limit ? `; the first ${limit} are displayed, paper has all` : "");
    all.hidden = count <= limit;
    all.textContent = `display all ${count.toLocaleString("en")}`;
  }

  decision.addEventListener("change", refresh);
  text.addEventListener("input", refresh);
  all.addEventListener("click", () => { limit = Infinity; refresh(); table.closest(".scroll").focus(); });
  box.querySelector(".tool").hidden = false;
  return refresh;
}

// After album.js has decided anew: photographs have another decision, findings below the threshold are hidden.
function follow(rows) {
  const moved = document.getElementById("moved").hidden === false, threshold = Number(slider.value);
  for (const row of rows) {
    if (row.dataset.from) {
      row.classList.toggle("below", moved && Number(row.dataset.from) < threshold);
      continue;
    }
    const decision = sections.get(row.dataset.photo).querySelector(".decision"), cell = row.querySelector(".decision");
    row.dataset.decision = cell.textContent = decision.textContent;
    cell.className = decision.className;
  }
}

function visit(row) {
  const section = sections.get(row.dataset.photo), figure = section.querySelector("figure"), number = Number(row.dataset.number);
  for (let details = figure.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
  figure.scrollIntoView({ block: "start" });
  const target = number && section.querySelector(`tr[data-n="${number}"]`);
  if (target) {
    lookAt(figure.querySelector("svg"), target.dataset.box.split(" ").map(Number));
    document.dispatchEvent(new CustomEvent("finding", { detail: { section, number } }));
  }
  figure.querySelector("svg").focus({ preventScroll: true });
}

for (const table of document.querySelectorAll("table.list")) {
  const rows = [...table.tBodies[0].rows], refresh = filterable(table, rows);
  sortable(table, rows, refresh);
  slider.addEventListener("input", () => { follow(rows); refresh(); });
  table.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    visit(link.closest("tr"));
  });
  refresh();
}
})();
