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
// Paper has no lids to open
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
