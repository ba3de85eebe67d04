"use strict";

// Charts: under the pointer, the legend shows the values there.
for (const chart of document.querySelectorAll(".chart[data-chart]")) {
  const svg = chart.querySelector("svg");
  const cursor = chart.querySelector(".cursor");
  const place = chart.querySelector(".at");
  const values = [...chart.querySelectorAll(".legend b")];
  const atRest = [place, ...values].map((element) => element.textContent);
  const { lines, left, right, low, high, percent, unit } = JSON.parse(chart.dataset.chart);

  const written = (value) => {
    if (value === null) return "not finite";
    if (percent) return `${(100 * value).toFixed(1)} %`;
    if (Math.abs(value) >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
    return String(Number(value.toPrecision(4)));
  };
  const nearest = (xs, x) => xs.reduce((best, other, i) => (Math.abs(other - x) < Math.abs(xs[best] - x) ? i : best), 0);

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const pixel = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const x = low + ((Math.min(Math.max(pixel, left), right) - left) / (right - left)) * (high - low);
    lines.forEach((line, i) => (values[i].textContent = written(line.y[nearest(line.x, x)])));
    place.textContent = `${unit} ${Number(x.toPrecision(3))}`;
    const at = left + ((x - low) / (high - low)) * (right - left);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.style.visibility = "visible";
  });
  svg.addEventListener("pointerleave", () => {
    [place, ...values].forEach((element, i) => (element.textContent = atRest[i]));
    cursor.style.visibility = "hidden";
  });
}

// Tables: a click on a heading sorts by that column, a second click turns the order round.
for (const heading of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const table = heading.closest("table");
    const column = [...heading.parentNode.children].indexOf(heading);
    const turn = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => turn * key(a).localeCompare(key(b), undefined, { numeric: true }));
    if (heading.classList.contains("number")) rows.sort((a, b) => turn * (Number(key(a)) - Number(key(b))));
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  });
}

// Pictures: a click, or Enter on a picture that is reached by Tab, shows it as large as the window allows.
const dialog = document.querySelector("dialog.enlarged");
const enlarge = (image) => {
  const shown = image.cloneNode();
  for (const name of ["tabindex", "role", "style"]) shown.removeAttribute(name);
  const factor = Math.min((0.92 * innerWidth) / image.naturalWidth, (0.8 * innerHeight) / image.naturalHeight);
  shown.width = Math.round(factor * image.naturalWidth);
  const words = document.createElement("figcaption");
  words.textContent = image.closest("figure")?.querySelector("figcaption")?.textContent ?? "";
  dialog.querySelector("figure").replaceChildren(shown, words);
  dialog.showModal();
};
for (const image of document.querySelectorAll("main img")) {
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.addEventListener("click", () => enlarge(image));
  image.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge(image);
  });
}
dialog.addEventListener("click", () => dialog.close());
