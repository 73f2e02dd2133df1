// The page without waiting: each film goes to the server on its own and comes back as the same HTML that the server
// puts into a whole page. What the server says (file names included) is made by its templates; what this script says
// goes in as text, never as HTML.
"use strict";

const AT_ONCE = 2; // more would only wait at the server, and hold back the first answer
const PATIENCE = 120; // seconds; how many films the server takes (pneumo/web/admission.py) is counted from it
const RETRY_AFTER = 5; // seconds; where a proxy in front says only that there are too many requests
const root = document.documentElement;
const find = (selector, from = document) => from.querySelector(selector);
const findAll = (selector, from = document) => [...from.querySelectorAll(selector)];
const upload = find("#upload"), many = find("#many"), answers = find("#answers");
const lines = find("tbody", many), status = find("#status");
const jobs = []; // every film of this visit: {name, file or sample, alone, row, state}

root.classList.add("js");

// --- sending ---------------------------------------------------------------------------------------------------

function add(films) {
  if (!films.length) return;
  document.body.classList.add("started");
  find("[name=filter]").checked = true; // a new answer must not arrive hidden
  refresh();
  const added = films.map((film) => {
    const row = find("#row").content.cloneNode(true).firstElementChild;
    const job = { ...film, row, alone: films.length === 1, state: "new" };
    find(".name", row).textContent = job.name;
    find(".retry", row).ariaLabel = `Retry ${job.name}`;
    find(".retry", row).onclick = () => { row.focus(); job.since = null; enqueue(job); };
    show(find("img", row), film);
    find("#rows").append(row);
    jobs.push(job);
    return job;
  });
  tell(added.at(-1), `Reading ${added.at(-1).name}.`); // first: what is refused at once has the last word
  added.forEach(enqueue);
}

function show(image, { file, thumbnail }) {
  image.src = thumbnail ?? URL.createObjectURL(file);
  image.onerror = () => image.replaceWith(document.createElement("i")); // browsers show no TIFF: a black square
  if (file) image.onload = () => URL.revokeObjectURL(image.src);
}

function enqueue(job) {
  mark(job, "waiting", "waiting");
  next();
}

function next() {
  while (jobs.filter(({ state }) => ["sending", "reading", "busy"].includes(state)).length < AT_ONCE) {
    const job = jobs.find(({ state }) => state === "waiting");
    if (!job) break;
    send(job);
  }
}

function send(job) {
  const limit = Number(upload.dataset.megabytes);
  // A server that refuses a body while it is still coming looks like a broken network: do not even send it.
  if (job.folder) return fail(job, "This is a folder. Open it and drop the films themselves.");
  if (job.file?.size >= limit * 2 ** 20) {
    const size = (job.file.size / 2 ** 20).toFixed(1);
    return fail(job, `Expected at most ${limit} MB, received ${size} MB. Export the film smaller and send that.`);
  }
  const form = new FormData();
  form.append("operating_point", find("#operating_point").value);
  const population = find("#population"); // only where the model knows several
  if (population) form.append("population", population.value);
  if (job.force) form.append("force", "1");
  if (job.sample) form.append("sample", job.sample);
  else form.append("file", job.file, job.name);
  const request = new XMLHttpRequest(); // fetch() tells nothing of an upload's progress
  request.open("POST", upload.action);
  request.setRequestHeader("Accept", "text/html");
  request.setRequestHeader("X-Fragment", "1");
  const began = Date.now();
  const wait = () => { request.timeout = Date.now() - began + PATIENCE * 1000; }; // counts from send()
  wait();
  request.upload.onprogress = ({ loaded, total }) => {
    wait(); // an upload that stands still is given up
    find("progress", job.row).value = loaded / total;
    mark(job, "sending", `uploading ${Math.round((100 * loaded) / total)} %`);
  };
  request.upload.onload = () => {
    wait();
    mark(job, "reading", "reading");
  };
  request.onload = () => settle(job, request);
  request.onerror = () => fail(job, "The server could not be reached, or the file is no longer there. " +
    "Check the network and the file, then press Retry.");
  request.ontimeout = () => fail(job, `No answer came within ${PATIENCE} seconds. Check the network, then press Retry.`);
  mark(job, "sending", "uploading");
  request.send(form);
}

// A server that is full says when to come again, and the page does, for as long as it would wait for an answer. Nothing
// else is sent meanwhile in this film's place.
function comeAgain(job, request) {
  const seconds = Number(request.getResponseHeader("Retry-After")) || RETRY_AFTER;
  job.since ??= Date.now();
  if (Date.now() + seconds * 1000 > job.since + PATIENCE * 1000) return false;
  mark(job, "busy", `the server is busy; trying again in ${seconds} s`);
  setTimeout(() => send(job), seconds * 1000 * (1 + Math.random() / 4)); // not all pages in the same instant
  return true;
}

function settle(job, request) {
  if ([429, 503].includes(request.status) && comeAgain(job, request)) return;
  const parts = document.createElement("template");
  parts.innerHTML = request.responseText;
  const article = find(".answer", parts.content), reason = find(".problem .reason", parts.content);
  if (reason) {
    // whoever has looked at the picture may know better: the second time it is read whatever it looks like
    job.force = reason.parentElement.dataset.error === "not_a_chest_film";
    find(".retry", job.row).textContent = job.force ? "Read it anyway" : "Retry";
    find(".retry", job.row).ariaLabel = job.force ? `Read ${job.name} anyway` : `Retry ${job.name}`;
    return fail(job, ...reason.childNodes);
  }
  if (!article) return fail(job, `Expected an answer, received something else (status ${request.status}). Press Retry in a moment.`);
  const focused = document.activeElement;
  const follow = job.row.contains(focused) || (job.alone && (focused === document.body || find(".ask").contains(focused)));
  job.state = "done";
  job.row.remove();
  place(article);
  tell(job, `${job.name}: ${find(".label", article).textContent}. ${find(".sentence", article).textContent} ${find(".triage", article).textContent}`);
  if (follow) {
    article.scrollIntoView({ block: "start" });
    article.focus({ preventScroll: true });
  }
  next();
}

function fail(job, ...reason) {
  mark(job, "failed", ...reason);
  tell(job, `${job.name} was not read. ${find(".state", job.row).textContent}`);
  next();
}

function mark(job, state, ...text) {
  job.state = state;
  job.row.className = `row ${state}`;
  find(".state", job.row).replaceChildren(...text);
  find(".retry", job.row).hidden = state !== "failed";
  if (state === "reading") find("progress", job.row).value = 1;
}

// What a screen reader hears: a lone film's answer, of many films only how far they are.
function tell({ alone }, news) {
  const count = (wanted) => jobs.filter(({ state }) => state === wanted).length;
  const [read, failed] = [count("done"), count("failed")];
  const sum = `${read} of ${jobs.length} films read${failed ? `, ${failed} not` : ""}.`;
  status.textContent = (alone ? news : sum).replace(/\s+/g, " ");
  status.classList.toggle("hidden", alone); // whoever sees the answer need not read it twice
}

// --- the answers and their table --------------------------------------------------------------------------------

const order = { key: "probability", sign: -1 };
const answerOf = (line) => document.getElementById(find("a", line).hash.slice(1));

function compare(a, b) {
  const [x, y] = [a.dataset[order.key], b.dataset[order.key]];
  return order.sign * (order.key === "probability" ? x - y : x.localeCompare(y, undefined, { numeric: true }));
}

// A new answer goes where it belongs; the others stay where they are, and so does the focus.
function place(article) {
  const line = find("template", article).content.querySelector("tr");
  const after = [...lines.rows].find((other) => compare(line, other) < 0) ?? null;
  answers.insertBefore(article, after && answerOf(after));
  lines.insertBefore(line, after);
  refresh();
}

function sortBy(header) {
  const key = header.dataset.sort;
  order.sign = key === order.key ? -order.sign : key === "probability" ? -1 : 1;
  order.key = key;
  for (const th of findAll("[aria-sort]", many)) th.removeAttribute("aria-sort");
  header.ariaSort = order.sign > 0 ? "ascending" : "descending";
  lines.append(...[...lines.rows].sort(compare));
  answers.append(...[...lines.rows].map(answerOf));
}

const fits = ({ dataset }, wanted) => !wanted || wanted === dataset.label || wanted === dataset.triage;

// Everything that follows from which answers there are, the filter, and how the maps are shown.
function refresh() {
  const wanted = find("[name=filter]:checked").value;
  for (const line of lines.rows) {
    line.hidden = answerOf(line).hidden = !fits(line, wanted);
  }
  for (const radio of findAll("[name=filter]")) {
    find("b", radio.parentElement).textContent = [...lines.rows].filter((line) => fits(line, radio.value)).length;
  }
  many.hidden = lines.rows.length < 2;
  // A server behind a proxy may not know it. What a shell would take for its own is written in the other way.
  for (const origin of findAll(".origin")) origin.textContent = location.origin.replace(/["$`]/g, encodeURIComponent);
  for (const button of findAll(".toggle")) button.ariaPressed = String(!root.classList.contains("no-map"));
  for (const slider of findAll(".opacity")) slider.value = 100 * (root.style.getPropertyValue("--overlay") || 1);
}

function cell(value) {
  // A spreadsheet would run a file name that begins like a formula.
  const text = /^[\t\r\n]|^\s*[=+\-@＝＋－＠]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// The columns of `pneumo predict`.
function csv() {
  const columns = ["file", "label", "probability", "threshold", "warnings", "error", "triage", "population"];
  const read = [...lines.rows].map(({ dataset }) => columns.map((column) => dataset[column] ?? ""));
  const refused = findAll(".row.failed, #refused .problem").map((film) => {
    const reason = find(".detail", film) ?? find(".state", film);
    return [find(".name", film)?.textContent ?? "", "", "", "", "", reason.textContent.trim(), ""];
  });
  return [columns, ...read, ...refused].map((line) => line.map(cell).join(",") + "\r\n").join("");
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "pneumo.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- hands -------------------------------------------------------------------------------------------------------

function toggleMap(visible = root.classList.contains("no-map")) {
  root.classList.toggle("no-map", !visible);
  find("#said").textContent = visible ? "Heat map shown." : "Heat map hidden.";
  refresh();
}

function printOnly(article) {
  root.classList.toggle("one", Boolean(article));
  article?.classList.add("chosen");
  window.print(); // comes back when the dialogue is closed
  root.classList.remove("one");
  article?.classList.remove("chosen");
}

const asFilm = (file, folder = false) => ({ name: file.name, file, folder });

find("#file").onchange = ({ target }) => {
  add([...target.files].map((file) => asFilm(file)));
  target.value = ""; // so that the same film can be chosen again
};
upload.onsubmit = (event) => {
  event.preventDefault();
  const { name, value, firstElementChild } = event.submitter ?? {};
  if (name === "sample") add([{ name: value, sample: value, thumbnail: firstElementChild.src }]);
};
const carriesFiles = ({ dataTransfer }) => dataTransfer.types.includes("Files");
ondragover = (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault(); // a film that misses the zone must not replace the page
  document.body.classList.add("dropping");
};
ondragleave = ({ relatedTarget }) => { if (!relatedTarget) document.body.classList.remove("dropping"); };
ondrop = (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
  add(items.map((item) => asFilm(item.getAsFile(), item.webkitGetAsEntry()?.isDirectory)));
};
oninput = ({ target }) => {
  if (target.matches(".opacity")) {
    root.style.setProperty("--overlay", target.value / 100);
    toggleMap(true);
  }
  if (target.name === "filter") refresh();
  if (target.name === "operating_point") find("#gave").textContent = target.selectedOptions[0].dataset.gave;
};
onclick = ({ target }) => {
  const button = target.closest("button");
  if (button?.matches(".toggle")) toggleMap();
  else if (button?.matches(".print")) printOnly(button.closest(".answer"));
  else if (button?.matches("#csv")) download();
  else if (button?.matches("th button")) sortBy(button.parentElement);
};
onkeydown = ({ key, ctrlKey, altKey, metaKey, target }) => {
  const writing = target.closest("textarea, select, input:not([type=range], [type=radio], [type=file])");
  // only where an answer has the focus: whoever speaks to their computer must not hide maps by a word (WCAG 2.1.4)
  if (key?.toLowerCase() === "h" && !(ctrlKey || altKey || metaKey || writing) && target.closest(".answer")) toggleMap();
};

for (const header of findAll("[data-sort]", many)) {
  const button = document.createElement("button"); // made here: without this script it would do nothing
  button.type = "button";
  button.append(...header.childNodes);
  header.append(button);
}
refresh();
