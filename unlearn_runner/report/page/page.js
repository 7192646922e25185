"use strict";
// Everything here is a convenience: without it the page reads and prints the same.
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const data = JSON.parse($("#data").textContent);
  const table = $("#table"), rows = $$("#rows tr");

  // Sort: a heading becomes a button; numbers by their value, dashes last. No <button>: Chromium
  // leaves those out where a printed table repeats its head.
  const heads = $$("thead th", table);
  heads.forEach((head, column) => {
    if ("fixed" in head.dataset) return;
    const button = $("span", head);
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(head, column));
    button.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort(head, column);
    });
  });
  function sort(head, column) {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(h => h.hasAttribute("aria-sort") && h.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numeric = head.classList.contains("n");
    const key = row => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    };
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return (down ? -1 : 1) * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    };
    $("#rows").append(...[...rows].sort(compare));
  }

  // Filter: what the table leaves out, the figures leave out, too.
  const words = $("#words"), selects = $$("#controls select");
  const waits = $("#waits");
  const names = heads.map(h => h.textContent);
  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hidden = new Set();
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const chosen = selects.every(s => !s.value
        || row.cells[names.indexOf(s.dataset.column)].textContent === s.value);
      const folded = row.classList.contains("waits") && waits && !waits.checked;
      const fits = chosen && !folded && wanted.every(word => text.includes(word));
      row.hidden = !fits;
      if (!fits) hidden.add(row.dataset.run);
    }
    // A point may be of several runs.
    $$(".fig [data-run]").forEach(e => e.classList.toggle("out",
      e.dataset.run.split(" ").every(number => hidden.has(number))));
    $("#count").textContent = `${rows.length - hidden.size} of ${rows.length} runs shown`;
  }
  words.addEventListener("input", filter);
  selects.forEach(s => s.addEventListener("change", filter));
  if (waits) waits.addEventListener("change", filter);
  $("#controls").addEventListener("submit", event => event.preventDefault());
  $("#wide").addEventListener("change", e => table.classList.toggle("wide", e.target.checked));
  $("#controls").hidden = false;
  filter();

  // Marks: up to six runs stand out, each by a dash pattern and a color that are free.
  const slots = new Array(6).fill(null);
  $$("#marks [data-mark]").forEach((item, i) => { slots[i] = item.dataset.mark; });
  const title = number => {
    const found = $(`.fig .ln[data-run="${number}"] title`);
    return found ? found.textContent : `run ${number}`;
  };
  function mark(number, on) {
    const at = on ? slots.indexOf(null) : slots.indexOf(number);
    if (at < 0) return false;
    slots[at] = on ? number : null;
    for (const item of $$(`.fig [data-run~="${number}"]`)) {
      item.classList.toggle("marked", item.dataset.run.split(" ").some(n => slots.includes(n)));
      item.classList.toggle(`m${at}`, on && item.classList.contains("ln"));
      if (on) item.parentNode.append(item);
    }
    if (on) $("#marks").append(entry(number, at));
    else $(`#marks [data-mark="${number}"]`).remove();
    return true;
  }
  function entry(number, at) {
    const item = document.createElement("li");
    item.className = `m m${at}`;
    item.dataset.mark = number;
    item.innerHTML = '<svg width="34" height="10" aria-hidden="true"><path d="M0 5H34"/></svg>';
    item.append(title(number));
    return item;
  }
  for (const row of rows) {
    const box = $("input", row);
    box.disabled = !$("#marks");
    box.addEventListener("change", () => {
      if (!mark(row.dataset.run, box.checked)) {
        box.checked = false;
        $("#count").textContent = "Six runs stand out already; take one away first.";
      }
      row.classList.toggle("on", box.checked);
    });
  }

  // Paper cannot be opened.
  window.addEventListener("beforeprint", () => $$("details[data-print]").forEach(d => { d.open = true; }));

  // Answers of another run.
  const which = $("#which");
  if (which) {
    which.hidden = false;
    const select = $("select", which);
    select.addEventListener("change", () => {
      const run = data.runs[select.value];
      $$(".which").forEach(e => { e.textContent = select.selectedOptions[0].textContent; });
      for (const of of $$("table[data-view]")) answers(of, run);
    });
  }
  function answers(of, run) {
    const view = of.dataset.view, questions = data.questions[run.questions][view] || [];
    const body = $("tbody", of);
    body.replaceChildren(...questions.map((row, at) => {
      const line = document.createElement("tr"), first = document.createElement("th");
      first.scope = "row";
      first.className = "n";
      first.textContent = row[0];
      line.append(first, cell([row[1]]), cell([row[2]]));
      for (const column of ["before", "after", "retain_model"]) {
        const texts = (data.texts[run[column]] || {})[view];
        line.append(cell(texts ? texts[at] : ["–"]));
      }
      return line;
    }));
  }
  function cell(pieces) {
    const found = document.createElement("td");
    pieces.forEach((piece, i) => {
      if (i % 2 === 0) return found.append(piece);
      const marked = document.createElement("mark");
      marked.textContent = piece;
      found.append(marked);
    });
    return found;
  }
})();
