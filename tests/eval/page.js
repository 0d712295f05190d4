// Opens a score page in kaleido's Chromium, uses its fields, and answers what it shows; see tests/chromium.py.
// kaleido loads this file in place of the library that it is meant for and calls its toImage.
"use strict";
var Plotly = {
  version: "2.0.0",
  toImage: ({ data: [order] }) => new Promise((resolve, reject) => {
    const frame = document.createElement("iframe");
    frame.width = 1200;
    frame.height = 900;
    frame.onload = () => {
      try {
        resolve(JSON.stringify(use(frame, order.steps)));
      } catch (error) {
        reject(error);
      }
    };
    frame.src = order.page;
    document.body.append(frame);
  }),
};

// What is shown at first and after each step, {field: value or checked}; pictures that are broken; what was fetched.
function use(frame, steps) {
  const page = frame.contentDocument, window = frame.contentWindow, errors = [];
  window.onerror = message => { errors.push(String(message)); };
  const shown = [look(page)];
  for (const step of steps) {
    for (const [name, value] of Object.entries(step)) {
      const field = page.getElementById(name);
      field[typeof value === "boolean" ? "checked" : "value"] = value;
      field.dispatchEvent(new window.Event("input", { bubbles: true }));
    }
    shown.push(look(page));
  }
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  return {
    shown, errors,
    broken: Array.from(page.images).filter(image => !image.naturalWidth).length,
    images: page.images.length,
    fetched: window.performance.getEntriesByType("resource").map(entry => entry.name),
    bars: Array.from(page.querySelectorAll(".bars b")).map(bar => bar.getBoundingClientRect().width),
  };
}

// The line that counts, and the visible cards as a reader meets them: row by row.
function look(page) {
  const cards = Array.from(page.querySelectorAll("article")).filter(card => card.offsetHeight > 0);
  const places = cards.map(card => [card.getBoundingClientRect(), card.dataset.style + "/" + card.dataset.word]);
  places.sort(([a], [b]) => a.top - b.top || a.left - b.left);
  return [page.getElementById("shown").textContent, places.map(([, name]) => name)];
}
