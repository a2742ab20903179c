"use strict";
const find = (id) => document.getElementById(id);
const made = (name, text = "", kind = "") => Object.assign(document.createElement(name), { textContent: text, className: kind });
const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
const [body, status] = [find("photographs").tBodies[0], find("said")];
// What is taken of a folder: DICOM files often have no suffix, or one of digits. What is chosen by itself is sent anyway
const PHOTOGRAPH = /(\.(jpe?g|jpe|jfif|png|tiff?|bmp|webp|dcm|dicom|\d+)|(^|\/)(?!DICOMDIR$)[^.\/]+)$/i;
const AT_ONCE = 2;
let model = null, token = sessionStorage.getItem("token") ?? "", entries = [], waiting = [], running = 0, asking = null;

// The token stands behind the #, which no browser sends anywhere
if (location.hash.startsWith("#token=")) {
  token = decodeURIComponent(location.hash.slice(7));
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname);
}

function askForToken() {
  asking ??= new Promise((done) => {
    find("ask").hidden = false;
    find("token").focus();
    status.textContent = "The server asks for its token.";
    find("ask").onsubmit = (event) => {
      event.preventDefault();
      token = find("token").value.trim();
      sessionStorage.setItem("token", token);
      find("ask").hidden = true;
      asking = null;
      done();
    };
  });
  return asking;
}

// What the server answers, as an object; asks for the token, and again where the server is busy
async function ask(path, form) {
  for (;;) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    let answer;
    try {
      answer = await fetch(path, { method: form ? "POST" : "GET", body: form, headers, cache: "no-store" });
    } catch {
      throw new Error("the server does not answer");
    }
    if (answer.status === 401) { await askForToken(); continue; }
    if (answer.status === 503) { await wait(Number(answer.headers.get("Retry-After") ?? 1) * (0.5 + Math.random())); continue; }
    const told = await answer.json().catch(() => ({ detail: `the server answered with ${answer.status}` }));
    if (!answer.ok) throw new Error(told.detail);
    return told;
  }
}

function limit() {
  const name = find("threshold").value;
  if (name) return model.thresholds[name];
  const probability = Math.min(1, Math.max(0, Number(find("number").value) || 0));
  return { probability, log_odds: Math.log(probability / (1 - probability)) };
}

const decision = (row) => (row.log_odds === null ? "" : row.log_odds >= limit().log_odds ? "abnormal" : "normal");
const many = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function tell() {
  const done = entries.filter((one) => one.row);
  const counted = (word) => done.filter((one) => decision(one.row) === word).length;
  const left = entries.length - done.length;
  status.textContent = entries.length
    ? `${many(entries.length, "photograph")}: ${counted("abnormal")} abnormal, ${counted("normal")} normal` +
      `, ${counted("")} cannot be read` + (left ? `; ${left} to go` : ".")
    : "";
  find("csv").disabled = !done.length;
  find("clear").disabled = !entries.length;
  find("photographs").hidden = !entries.length;
}

function show(one) {
  const row = one.row, [name, chance, word, heat] = one.line.cells;
  name.querySelector("span").textContent = row.image;
  name.querySelectorAll(".note").forEach((note) => note.remove());
  for (const note of [row.fault && `cannot be read: ${row.fault}`, row.warnings]) if (note) name.append(made("span", note, "note"));
  chance.replaceChildren(row.probability === null ? "" : row.probability.toFixed(3));
  if (row.calibrated !== null) chance.append(made("span", `calibrated ${row.calibrated.toFixed(3)}`, "of"));
  if (row.spread !== null) chance.append(made("span", `spread ${row.spread.toFixed(3)}`, "of"));
  if (row.fault) {
    name.colSpan = 4;
    for (const cell of [chance, word, heat]) cell.hidden = true;
    return;
  }
  word.textContent = decision(row);
  word.className = decision(row);
  if (!heat.hasChildNodes()) {
    const button = made("button", "Show");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `Heat of ${row.image}`);
    button.addEventListener("click", () => toggle(one, button));
    heat.append(button);
  }
}

async function toggle(one, button) {
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  button.textContent = open ? "Show" : "Hide";
  if (one.detail) { one.detail.hidden = open; return; }
  one.detail = made("tr");
  const cell = made("td", "Computing the heat …");
  cell.colSpan = 4;
  one.detail.append(cell);
  one.line.after(one.detail);
  try {
    const form = new FormData();
    form.append("photograph", one.file, one.name);
    const found = await ask("heat", form);
    const pair = made("div", "", "pair");
    for (const [source, title] of [[found.photograph, "Photograph"], [found.overlay, "Evidence for abnormal"]]) {
      const figure = made("figure"), image = made("img");
      Object.assign(image, { src: source, alt: `${title}: ${found.image}` });
      figure.append(image, made("figcaption", title));
      pair.append(figure);
    }
    cell.replaceChildren(pair, made("p", found.note, "small"));
    find("heard").textContent = `Heat of ${found.image}: ${found.note}`;
  } catch (error) {
    cell.replaceChildren(made("span", error.message, "note"));
  }
}

async function predict(one) {
  const fault = (why) => ({ image: one.name, probability: null, log_odds: null, calibrated: null, spread: null, decision: "", fault: why, warnings: "" });
  try {
    if (one.file.size > model.limits.bytes - 65536) throw new Error(`larger than ${model.limits.bytes >> 20} MB`);
    const form = new FormData();
    form.append("photographs", one.file, one.name);
    [one.row] = (await ask("predict", form)).photographs;
  } catch (error) {
    one.row = fault(error.message);
  }
  if (!entries.includes(one)) return; // cleared in the meantime
  show(one);
  tell();
  if (one.row.fault) return;
  try {
    const small = await createImageBitmap(one.file, { resizeHeight: 48 }), canvas = made("canvas");
    [canvas.width, canvas.height] = [small.width, small.height];
    canvas.getContext("2d").drawImage(small, 0, 0);
    canvas.setAttribute("aria-hidden", "true");
    one.line.cells[0].prepend(canvas);
  } catch { /* a format that the browser does not show, such as TIFF */ }
}

async function work() {
  if (running >= AT_ONCE) return;
  running += 1;
  while (waiting.length) await predict(waiting.shift());
  running -= 1;
}

function add(files) {
  for (const [file, name] of files) {
    const line = body.insertRow(), head = made("th");
    head.scope = "row";
    head.append(made("span", name));
    line.append(head, made("td", "…"), made("td"), made("td"));
    const one = { file, name, line, row: null, detail: null };
    entries.push(one);
    waiting.push(one);
  }
  tell();
  if (model) for (let i = 0; i < AT_ONCE; i += 1) work();
}

const picked = (list, folder) => [...list].map((file) => [file, file.webkitRelativePath || file.name]).filter(([, name]) => !folder || PHOTOGRAPH.test(name));
const none = (files) => { if (!files.length) status.textContent = "No photographs there: JPEG, PNG, TIFF, BMP, WebP and DICOM are looked for."; };

// Every file below what was dropped, with its path
async function below(entry, path, found) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    if (!path || PHOTOGRAPH.test(file.name)) found.push([file, path + file.name]);
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!part.length) return;
    for (const one of part.sort((a, b) => (a.name < b.name ? -1 : 1))) await below(one, `${path}${entry.name}/`, found);
  }
}

document.addEventListener("dragover", (event) => { event.preventDefault(); find("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) find("drop").classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  const dropped = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean), found = [];
  if (!dropped.length) { add(picked(event.dataTransfer.files)); return; }
  for (const entry of dropped) await below(entry, "", found).catch(() => {});
  add(found);
  none(found);
});
for (const [button, input, folder] of [["files", "pick", false], ["folder", "pickfolder", true]]) {
  find(button).addEventListener("click", () => find(input).click());
  find(input).addEventListener("change", (event) => {
    const files = picked(event.target.files, folder);
    add(files);
    none(files);
    event.target.value = "";
  });
}

function decide() {
  find("number").hidden = find("threshold").value !== "";
  for (const one of entries) if (one.row) show(one);
  tell();
}
find("threshold").addEventListener("change", decide);
find("number").addEventListener("input", decide);

find("csv").addEventListener("click", () => {
  const rows = entries.map((one) => one.row).filter(Boolean), told = limit().probability;
  const some = (name) => rows.some((row) => row[name] !== null);
  const columns = ["image", "probability", "log_odds", ...["calibrated", "spread"].filter(some), "threshold", "decision", "fault", "warnings"];
  // A spreadsheet would take a text that begins so for a formula
  const text = (value) => `"${(/^[=+\-@\t\r]/.test(value) ? `'${value}` : value).replaceAll('"', '""')}"`;
  const cell = (value) => (value === null ? "" : typeof value === "number" ? String(value) : text(value));
  const lines = rows.map((row) => columns.map((name) => cell({ ...row, threshold: told, decision: decision(row) }[name])).join(","));
  const link = made("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", [columns.join(","), ...lines].join("\n"), "\n"], { type: "text/csv;charset=utf-8" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
find("clear").addEventListener("click", () => { [entries, waiting] = [[], []]; body.replaceChildren(); tell(); find("files").focus(); });

ask("model").then((told) => {
  model = told;
  const seen = `${model.size} × ${model.size} pixels` + (model.crop === "none" ? "" : `, cropped (${model.crop})`);
  find("about").textContent = `Model ${model.name}: ${many(model.networks, "network")}, ${seen}. ` +
    `At most ${model.limits.megapixels} megapixels and ${model.limits.bytes >> 20} MB a photograph.`;
  find("warning").hidden = !model.warning;
  find("warning").querySelector("span").textContent = model.warning;
  for (const [name, one] of Object.entries(model.thresholds)) find("threshold").add(new Option(`${Number(one.probability.toPrecision(3))} (${name === "own" ? "the model’s own" : name.replaceAll("_", " ")})`, name));
  find("threshold").add(new Option("another …", ""));
  find("threshold").value = model.threshold;
  add([]); // those that were dropped before it answered
}, (error) => { find("about").textContent = `There is no model: ${error.message}.`; });
