"use strict";
// Sort a table by the column whose name is pressed: numbers by value, text by alphabet, empty cells last
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("thead th")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en") : x - y;
        return down ? -order : order;
      });
      body.append(...rows);
      document.getElementById("said").textContent =
        `${table.caption.textContent}: sorted by ${button.textContent}, ${down ? "descending" : "ascending"}`;
    });
  });
}
// A link to a folded section opens it, and so does an address that names one
const lids = [...document.querySelectorAll("main > section > details")];
const open = () => {
  const lid = document.querySelector(`${location.hash || "#main"} > details`);
  if (lid) lid.open = true;
};
addEventListener("hashchange", open);
open();
for (const link of document.querySelectorAll('nav a[href^="#"]'))
  link.addEventListener("click", () => {
    const lid = document.querySelector(`${link.hash} > details`);
    if (lid) lid.open = true;
  });
// One button opens or folds all of them
const all = document.createElement("button");
all.type = "button";
const name = () => (all.textContent = lids.every((lid) => lid.open) ? "Fold all" : "Open all");
all.addEventListener("click", () => {
  const opened = !lids.every((lid) => lid.open);
  for (const lid of lids) lid.open = opened;
});
for (const lid of lids) lid.addEventListener("toggle", name);
name();
const item = document.createElement("li");
item.append(all);
document.querySelector("nav ul").append(item);
// The contents say which section is on the screen
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const watch = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    const first = [...links.keys()].find((id) => seen.has(id));
    for (const [id, link] of links)
      if (id === first) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
  },
  { rootMargin: "-10% 0px -70% 0px" },
);
for (const section of document.querySelectorAll("main > section")) watch.observe(section);
// Paper has no lids to open
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...[...document.querySelectorAll("details")].filter((lid) => !lid.open));
  for (const lid of folded) lid.open = true;
});
addEventListener("afterprint", () => {
  for (const lid of folded.splice(0)) lid.open = false;
});
