// Review: what a person says of each finding, the cracks that they mark, and the file that goes on elsewhere.
// Runs after album.js, whose `photos`, `place`, `look` and `lookAt` it uses. The format is that of crackflow/data/reviews.py.
(() => {
const WORDS = { crack: "crack", not_a_crack: "not a crack", unsure: "unsure" }, SOURCES = ["finding", "drawn"];
const MIN_IOU = 0.5, MAX_BYTES = 64 * 1024 * 1024;
const byId = (id) => document.getElementById(id);
const panel = byId("review"), toolbar = byId("current"), reviewer = byId("reviewer");

let subjects = [];          // the photographs on the page, each once
let elsewhere = new Map();  // SHA-256 -> photograph of a file that was loaded and is not on the page
let undone = [];            // for `undo`: what changed photographs were before, the last change last
let current = null;         // { subject, target }: a finding, an entry of `marks`, or null for the photograph alone
let marking = null;         // the photograph on which a box is being drawn
let unsaved = false;        // whether something was said since the last download

function overlap([x, y, width, height], [left, top, wide, high]) {
  const across = Math.min(x + width, left + wide) - Math.max(x, left), down = Math.min(y + height, top + high) - Math.max(y, top);
  if (across <= 0 || down <= 0) return 0;
  return across * down / (width * height + wide * high - across * down);
}

// Pairs of indices of boxes that are about one thing: the best overlap first, each box once.
function match(boxes, others) {
  const pairs = [];
  boxes.forEach((box, i) => others.forEach((other, j) => pairs.push([overlap(box, other), i, j])));
  const near = pairs.filter(([shared]) => shared >= MIN_IOU).sort((a, b) => b[0] - a[0] || a[1] - b[1] || a[2] - b[2]);
  const left = new Set(), right = new Set();
  return near.filter(([, i, j]) => {
    if (left.has(i) || right.has(j)) return false;
    left.add(i);
    right.add(j);
    return true;
  }).map(([, i, j]) => [i, j]);
}

// All of both lists; of two boxes about one thing the newest.
function union(old, incoming) {
  const result = [...old], rest = new Set(incoming);
  for (const [i, j] of match(old.map((entry) => entry.box), incoming.map((entry) => entry.box))) {
    rest.delete(incoming[j]);
    if (incoming[j].time >= old[i].time) result[i] = incoming[j];
  }
  return [...result, ...rest];
}

// To a tenth of a pixel, inside the photograph, and not empty.
function fitted(subject, x0, y0, x1, y1) {
  const tenth = (value) => Math.round(10 * value) / 10;
  const inside = (a, b, size) => {
    const low = Math.min(Math.max(tenth(Math.min(a, b)), 0), size - 0.1);
    return [tenth(low), tenth(Math.max(Math.min(tenth(Math.max(a, b)), size) - low, 0.1))];
  };
  const [x, width] = inside(x0, x1, subject.width), [y, height] = inside(y0, y1, subject.height);
  return [x, y, width, height];
}

function newEntry(box, verdict, source, probability) {
  return { box, verdict, source, probability, reviewer: reviewer.value.trim(), time: new Date().toISOString().slice(0, 19) + "Z" };
}

// --- files ---

function contentOf(subject) {
  const verdicts = [...subject.findings.map((finding) => finding.entry).filter(Boolean), ...subject.marks];
  const { path, sha256, width, height, lookedThrough } = subject;
  return { path, sha256, width, height, looked_through: lookedThrough, verdicts };
}

function content() {
  const reviewed = subjects.map(contentOf).filter((photo) => photo.looked_through || photo.verdicts.length);
  return {
    schema_version: 1, crackflow: panel.dataset.crackflow, model_sha256: panel.dataset.model,
    reviewer: reviewer.value.trim(), photographs: [...reviewed, ...elsewhere.values()],
  };
}

// Why a file can't be used, or "". crackflow/data/reviews.py checks more; this much keeps the page and its download sound.
function fault(file) {
  const isText = (value) => typeof value === "string", isNumber = (value) => typeof value === "number" && isFinite(value);
  const isTime = (value) => isText(value) && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value) && !Number.isNaN(Date.parse(value));
  const isDigest = (value) => isText(value) && /^[0-9a-f]{64}$/.test(value), isSide = (value) => Number.isInteger(value) && value > 0;
  if (!file || file.schema_version !== 1 || !isText(file.reviewer) || !Array.isArray(file.photographs)) return "it is no reviews.json of version 1";
  const seen = new Set();
  for (const photo of file.photographs) {
    if (!photo || !isText(photo.path) || !isDigest(photo.sha256) || !isSide(photo.width) || !isSide(photo.height)
      || typeof photo.looked_through !== "boolean" || !Array.isArray(photo.verdicts)) return "a photograph in it is damaged";
    if (seen.has(photo.sha256)) return `${photo.path} is in it twice`;
    seen.add(photo.sha256);
    for (const entry of photo.verdicts) {
      const box = entry && entry.box;
      if (!Array.isArray(box) || box.length !== 4 || !box.every(isNumber) || Math.min(box[2], box[3]) <= 0
        || Math.min(box[0], box[1]) < -0.5 || box[0] + box[2] > photo.width + 0.5 || box[1] + box[3] > photo.height + 0.5
        || !Object.hasOwn(WORDS, entry.verdict) || !SOURCES.includes(entry.source) || !isText(entry.reviewer)
        || !(entry.probability === null || isNumber(entry.probability) && entry.probability >= 0 && entry.probability <= 1)
        || !isTime(entry.time)) return `a verdict about ${photo.path} is damaged`;
    }
  }
  return "";
}

// Takes in the verdicts of a file. Those that meet no finding of this page stay as boxes. Returns how many did and did not.
function absorb(file) {
  const counts = { findings: 0, boxes: 0, absent: 0 };
  for (const { path, sha256, width, height, looked_through, verdicts } of file.photographs) {
    const entries = verdicts.map(({ box, verdict, source, probability, reviewer, time }) => ({ box, verdict, source, probability, reviewer, time }));
    const subject = subjects.find((one) => one.sha256 === sha256), rest = new Set(entries);
    if (!subject) {
      const old = elsewhere.get(sha256) || { looked_through: false, verdicts: [] };
      elsewhere.set(sha256, { path, sha256, width, height, looked_through: looked_through || old.looked_through, verdicts: union(old.verdicts, entries) });
      counts.absent += 1;
      continue;
    }
    subject.lookedThrough ||= looked_through;
    for (const [i, j] of match(subject.findings.map((finding) => finding.box), entries.map((entry) => entry.box))) {
      const finding = subject.findings[i];
      rest.delete(entries[j]);
      counts.findings += 1;
      if (!finding.entry || entries[j].time >= finding.entry.time) finding.entry = entries[j];
    }
    counts.boxes += rest.size;
    subject.marks = union(subject.marks, [...rest]);
  }
  if (!reviewer.value) reviewer.value = file.reviewer;
  return counts;
}

function store() {
  try {
    localStorage.setItem(panel.dataset.key, JSON.stringify({ file: content(), unsaved }));
  } catch {
    // Some browsers store nothing for pages from the disk, or their room is used up: the download remains.
  }
}

function stored() {
  try {
    const state = JSON.parse(localStorage.getItem(panel.dataset.key));
    return state && !fault(state.file) ? state : null;
  } catch {
    return null;
  }
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content(), null, 1) + "\n"], { type: "application/json" }));
  link.download = "reviews.json";
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  unsaved = false;
  store();
}

function say(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

async function load(chosen) {
  let file = null;
  try {
    if (chosen.size > MAX_BYTES) throw new Error("it is larger than 64 MiB");
    file = JSON.parse((await chosen.text()).replace(/^\ufeff/, ""));
    const reason = fault(file);
    if (reason) throw new Error(reason);
  } catch (error) {
    say(`${chosen.name} can't be used: ${error.message}`);
    return;
  }
  const before = unsaved;
  let counts = null;
  change(subjects, () => { counts = absorb(file); });
  unsaved = before;  // the file has it
  store();
  say(`${chosen.name}: verdicts on findings of this page: ${counts.findings}, on other boxes: ${counts.boxes}`
    + (counts.absent ? `; photographs that are not on this page and stay in the file: ${counts.absent}` : ""));
}

// --- changes ---

const snapshot = (subject) => ({ subject, entries: subject.findings.map((finding) => finding.entry), marks: [...subject.marks], lookedThrough: subject.lookedThrough });

function change(changed, action) {
  undone.push({ snapshots: changed.map(snapshot), elsewhere: new Map(elsewhere) });
  action();
  finish(changed);
}

function finish(changed) {
  if (current && current.target && !items().some(isCurrent)) current = null;
  unsaved = true;
  store();
  changed.forEach(render);
  renderAll();
}

function undo() {
  const last = undone.pop();
  if (!last) return;
  const index = current ? current.subject.marks.indexOf(current.target) : -1;
  elsewhere = last.elsewhere;
  for (const { subject, entries, marks, lookedThrough } of last.snapshots) {
    subject.findings.forEach((finding, index) => { finding.entry = entries[index]; });
    Object.assign(subject, { marks, lookedThrough });
  }
  if (index >= 0) current = { subject: current.subject, target: current.subject.marks[index] || null };
  finish(last.snapshots.map(({ subject }) => subject));
}

// `verdict` null takes a verdict back; a box needs one.
function judge(subject, target, verdict) {
  if (!target || (!verdict && !target.row)) return;
  if (target.row) {
    change([subject], () => { target.entry = verdict && newEntry(target.box, verdict, "finding", target.probability); });
    return;
  }
  const entry = newEntry(target.box, verdict, target.source, target.probability);
  if (current && current.target === target) current = { subject, target: entry };
  change([subject], () => { subject.marks = subject.marks.map((mark) => mark === target ? entry : mark); });
}

function remove(subject, target) {
  if (current && current.target === target) current = { subject, target: null };
  change([subject], () => { subject.marks = subject.marks.filter((mark) => mark !== target); });
}

function lookThrough(subject) {
  change([subject], () => { subject.lookedThrough = !subject.lookedThrough; });
}

// --- what can be seen ---

const isShown = (finding) => !finding.row.hasAttribute("hidden");  // the threshold hides others
const verdictOf = (target) => target && (target.row ? target.entry && target.entry.verdict : target.verdict);
const isCurrent = ({ subject, target }) => Boolean(current) && current.subject === subject && current.target === target;

// Where j and k lead. A photograph without findings is looked through as well.
function items() {
  return subjects.flatMap((subject) => {
    const targets = [...subject.findings.filter(isShown), ...subject.marks];
    return (targets.length ? targets : [null]).map((target) => ({ subject, target }));
  });
}

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function verdictButtons(subject, target, what) {
  return Object.entries(WORDS).map(([verdict, word]) => {
    const button = make("button", { type: "button", textContent: word });
    button.dataset.verdict = verdict;
    button.setAttribute("aria-label", `${what}: ${word}`);
    button.addEventListener("click", () => {
      select({ subject, target });
      judge(subject, target, verdictOf(target) === verdict ? null : verdict);
    });
    return button;
  });
}

function press(buttons, verdict) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
}

const nameOf = (subject, mark) => {
  const kind = mark.source === "drawn" ? "drawn" : "earlier";
  return `${kind} box ${subject.marks.filter((other) => other.source === mark.source).indexOf(mark) + 1}`;
};

// Drawn boxes and those of earlier findings: in the picture and as a table below it.
function renderMarks(subject) {
  for (const old of subject.svg.querySelectorAll("rect.mark")) old.remove();
  const rows = subject.marks.map((mark) => {
    const name = nameOf(subject, mark), here = isCurrent({ subject, target: mark });
    const rectangle = rectangleOf(mark.box, `mark ${mark.verdict}${here ? " current" : ""}`);
    const title = document.createElementNS(photos[0].querySelector("svg").namespaceURI, "title");
    title.textContent = name;
    rectangle.append(title);
    subject.svg.append(rectangle);
    const buttons = verdictButtons(subject, mark, name);
    press(buttons, mark.verdict);
    const cell = make("td", { className: "verdicts" }, ...buttons);
    if (mark.source === "drawn") {
      const button = make("button", { type: "button", textContent: "remove" });
      button.setAttribute("aria-label", `${name}: remove`);
      button.addEventListener("click", () => remove(subject, mark));
      cell.append(button);
    }
    const [x, y, width, height] = mark.box.map(Math.round);
    const cells = [name, WORDS[mark.verdict], `${x}, ${y}`, `${width} × ${height}`].map((textContent) => make("td", { textContent }));
    return make("tr", { className: here ? "current" : "" }, ...cells, cell);
  });
  const headings = ["box", "verdict", "x, y", "size in px"].map((textContent) => make("th", { textContent }));
  headings.push(make("th", { className: "verdicts", textContent: "is it a crack?" }));
  const head = make("thead", {}, make("tr", {}, ...headings));
  subject.list.replaceChildren(...(rows.length ? [make("table", {}, head, make("tbody", {}, ...rows))] : []));
}

function rectangleOf([x, y, width, height], className) {
  const rectangle = document.createElementNS(photos[0].querySelector("svg").namespaceURI, "rect");
  rectangle.setAttribute("class", className);
  for (const [name, value] of Object.entries({ x, y, width, height })) rectangle.setAttribute(name, value);
  return rectangle;
}

function render(subject) {
  const labelOf = (element) => element.getAttribute("aria-label");
  const focused = subject.list.contains(document.activeElement) && labelOf(document.activeElement);
  for (const finding of subject.findings) {
    const verdict = verdictOf(finding), here = isCurrent({ subject, target: finding });
    press(finding.buttons, verdict);
    const cell = finding.row.lastElementChild;  // for paper, which has no buttons
    if (verdict) cell.dataset.said = WORDS[verdict]; else delete cell.dataset.said;
    finding.row.classList.toggle("current", here);
    for (const polygon of finding.polygons) {
      for (const name of Object.keys(WORDS)) polygon.classList.toggle(name, name === verdict);
      polygon.classList.toggle("current", here);
    }
  }
  renderMarks(subject);
  subject.tick.checked = subject.lookedThrough;
  if (focused) [...subject.list.querySelectorAll("button")].find((button) => labelOf(button) === focused)?.focus();
}

function renderAll() {
  const findings = subjects.flatMap((subject) => subject.findings).filter(isShown);
  const judged = findings.filter((finding) => finding.entry).length, looked = subjects.filter((subject) => subject.lookedThrough).length;
  byId("progress").textContent = `${judged} of ${findings.length} findings judged, ${looked} of ${subjects.length} photographs looked through`;
  const name = reviewer.value.trim();
  byId("reviewed").textContent = judged || looked ? `Reviewed on this page${name ? ` by ${name}` : ""}: ${byId("progress").textContent}.` : "";
  const target = current && current.target, buttons = toolbar.querySelectorAll("[data-verdict]");
  press(buttons, verdictOf(target));
  for (const button of buttons) button.disabled = !target;
  byId("undo").disabled = !undone.length;
  byId("mark").setAttribute("aria-pressed", String(Boolean(marking)));
  for (const subject of subjects) subject.svg.classList.toggle("marking", subject === marking);
  let text = "";
  if (current) {
    const what = !target ? "no finding" : target.row ? `finding ${target.number}` : nameOf(current.subject, target);
    text = `${current.subject.title}: ${what}`;
  }
  byId("which").textContent = marking ? `${marking.title}: drag a box around the crack` : text;
}

function select(item) {
  const before = current;
  current = item;
  for (const subject of new Set([before, item].filter(Boolean).map((one) => one.subject))) render(subject);
  renderAll();
}

// The photograph that keys act on: that of the current finding, or the first of which something is in view.
function subjectInView() {
  if (current) return current.subject;
  return subjects.find((subject) => subject.section.getBoundingClientRect().bottom > innerHeight / 3) || subjects[0];
}

function go(step) {
  const all = items();
  let index = all.findIndex(isCurrent);
  if (index < 0) {
    const first = all.findIndex(({ subject }) => subject === subjectInView());
    index = step > 0 ? first - 1 : first + 1;
  }
  visit(all[Math.min(Math.max(index + step, 0), all.length - 1)]);
}

function visit(item) {
  select(item);
  const { subject, target } = item;
  subject.section.querySelector("details").open = true;
  if (target) {
    const details = target.row && target.row.closest("details");
    if (details) details.open = true;
    lookAt(subject.svg, target.box);
    if (target.row) target.row.scrollIntoView({ block: "nearest" });
  } else look(subject.svg, 0, 0, Infinity);
  subject.svg.closest("figure").scrollIntoView({ block: "center" });
}

// --- drawing ---

function mark(subject) {
  marking = marking === subject ? null : subject;
  if (marking) {
    marking.section.querySelector("details").open = true;
    marking.svg.closest("figure").scrollIntoView({ block: "nearest" });
  }
  renderAll();
}

function listenToDrawing(subject) {
  const figure = subject.svg.closest("figure");
  let start = null, drawn = null;
  const stop = () => { if (drawn) drawn.remove(); start = drawn = null; };
  // Before album.js, which would move the photograph.
  const on = (kind, action) => figure.addEventListener(kind, (event) => {
    if (marking !== subject || !subject.svg.contains(event.target)) return;
    event.stopPropagation();
    event.preventDefault();
    action(event);
  }, true);
  on("pointerdown", (event) => {
    if (event.button || start) return;
    start = { at: place(subject.svg, event), event };
    subject.svg.setPointerCapture(event.pointerId);
    drawn = rectangleOf([0, 0, 0, 0], "mark drawing");
    subject.svg.append(drawn);
  });
  on("pointermove", (event) => {
    if (!start || event.pointerId !== start.event.pointerId) return;
    const box = fitted(subject, ...start.at, ...place(subject.svg, event));
    ["x", "y", "width", "height"].forEach((name, index) => drawn.setAttribute(name, box[index]));
  });
  on("pointerup", (event) => {
    if (!start || event.pointerId !== start.event.pointerId) return;
    const apart = Math.min(Math.abs(event.clientX - start.event.clientX), Math.abs(event.clientY - start.event.clientY));
    const box = fitted(subject, ...start.at, ...place(subject.svg, event));
    stop();
    if (apart < 3) { say("This box is too small: drag from one corner to the other."); return; }
    say("");
    marking = null;
    const entry = newEntry(box, "crack", "drawn", null);
    current = { subject, target: entry };
    change([subject], () => { subject.marks = [...subject.marks, entry]; });
    subjects.forEach(render);
  });
  on("pointercancel", stop);
  subject.stopDrawing = stop;
}

// --- the page ---

function newSubject(section) {
  const svg = section.querySelector("svg"), { width, height } = svg.dataset;
  const subject = {
    section, svg, sha256: section.dataset.sha256, path: JSON.parse(section.dataset.path), title: section.querySelector("h2").textContent,
    width: Number(width), height: Number(height), findings: [], marks: [], lookedThrough: false,
  };
  const heading = section.querySelector("thead tr");
  if (heading) heading.append(make("th", { className: "verdicts", textContent: "is it a crack?" }));
  for (const row of section.querySelectorAll("tr[data-n]")) {
    const number = Number(row.dataset.n), [x, y, wide, high] = row.dataset.box.split(" ").map(Number);
    const polygons = [...section.querySelectorAll(`polygon[data-n="${number}"]`)];
    const finding = { row, number, polygons, box: fitted(subject, x, y, x + wide, y + high), probability: Number(row.dataset.p), entry: null };
    finding.buttons = verdictButtons(subject, finding, `finding ${number}`);
    row.append(make("td", { className: "verdicts" }, ...finding.buttons));
    subject.findings.push(finding);
  }
  subject.tick = make("input", { type: "checkbox" });
  subject.tick.addEventListener("change", () => lookThrough(subject));
  const button = make("button", { type: "button", textContent: "mark a missed crack" });
  button.addEventListener("click", () => { if (!current || current.subject !== subject) select({ subject, target: null }); mark(subject); });
  const label = make("label", {}, subject.tick, " looked through: nothing else is cracked here");
  subject.list = make("div", { className: "scroll marks" });
  svg.closest("figure").after(make("div", { className: "row reviewing" }, button, label), subject.list);
  listenToDrawing(subject);
  return subject;
}

const KEYS = {
  j: () => go(1), k: () => go(-1), u: undo, m: () => mark(subjectInView()), l: () => lookThrough(subjectInView()),
  1: () => current && judge(current.subject, current.target, "crack"),
  2: () => current && judge(current.subject, current.target, "not_a_crack"),
  3: () => current && judge(current.subject, current.target, "unsure"),
  Escape: () => { if (marking) { marking.stopDrawing(); mark(marking); } },
};

function listenToPage() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest && event.target.closest("input[type=text], textarea, select");
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;  // Caps Lock
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, key)) return;
    event.preventDefault();
    KEYS[key]();
  });
  for (const button of toolbar.querySelectorAll("[data-step]")) button.addEventListener("click", () => go(Number(button.dataset.step)));
  for (const button of toolbar.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => {
      const { verdict } = button.dataset, { subject, target } = current;
      judge(subject, target, verdictOf(target) === verdict ? null : verdict);
    });
  }
  byId("mark").addEventListener("click", KEYS.m);
  byId("undo").addEventListener("click", undo);
  byId("download").addEventListener("click", download);
  byId("load").addEventListener("change", async (event) => {
    const [chosen] = event.target.files;
    if (chosen) await load(chosen);
    event.target.value = "";  // the same file can be chosen again
  });
  reviewer.addEventListener("input", () => { store(); renderAll(); });
  // A row of the table of findings was chosen.
  document.addEventListener("finding", ({ detail: { section, number } }) => {
    const subject = subjects.find((one) => one.section === section), target = subject && subject.findings.find((finding) => finding.number === number);
    if (target && isShown(target)) visit({ subject, target });
  });
  slider.addEventListener("input", () => {
    if (current && current.target && !items().some(isCurrent)) select(null);
    renderAll();
  });
  addEventListener("beforeunload", (event) => {
    if (!unsaved) return;
    event.preventDefault();
    event.returnValue = true;  // browsers of before 2024 ask only then
  });
}

function start() {
  for (const section of photos) {
    const { sha256 } = section.dataset;
    if (sha256 && !subjects.some((subject) => subject.sha256 === sha256)) subjects.push(newSubject(section));
    else if (sha256) section.querySelector("figure").after(make("p", { className: "soft reviewing", textContent: "A copy of a photograph above, with which it is reviewed." }));
  }
  if (!subjects.length) return;
  const embedded = byId("earlier"), state = stored();
  if (state || embedded) absorb(state ? state.file : JSON.parse(embedded.textContent));
  unsaved = Boolean(state && state.unsaved);
  listenToPage();
  panel.hidden = toolbar.hidden = false;
  subjects.forEach(render);
  renderAll();
}

start();
})();
