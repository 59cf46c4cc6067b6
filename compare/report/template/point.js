// The chosen point: curves, z-scores, tables, and the command that repeats it.

function drawPoint() {
  const cell = page.cells[chosen.cell];
  const drawn = page.sides.filter((side) => cell[side].curves);
  element("where").textContent = coordinates(chosen.cell) || "Curves";
  drawMessages(cell);
  element("repeat").hidden = cell.command === null;
  element("command").textContent = cell.command ?? "";
  element("copied").textContent = "";
  element("panels").hidden = element("key").hidden = drawn.length === 0;
  Object.keys(PANEL_AXES).forEach((panel) => drawCurves(panel, cell, drawn));
  drawScores(cell);
  const words = { theory: "Lines: theory", simulation: `Points: simulation, ${runsOf(cell.simulation)}` };
  element("key").textContent = [...drawn.map((side) => words[side]), "Bands and bars: one standard error",
    "Time: one unit is N D / (α² η) steps of gradient descent at learning rate η",
    "Drag to magnify, double-click to go back; press a name to hide its curve"].join(". ") + ".";
  element("numbers").innerHTML = numbersTable(cell);
  element("verdicts").innerHTML = cell.agreement ? verdictsTable(cell.agreement) : "";
}

const runsOf = (record) => (record?.runs === 1 ? "one seed" : `mean of ${record?.runs} seeds`);

function drawMessages(cell) {
  const messages = page.sides.flatMap((side) => {
    if (cell[side].state === 2) return [["problem", `The ${side} failed: ${cell[side].message}`]];
    return cell[side].state === 0 && page.sides[0] === side ? [["note", `The ${side} was not computed here.`]] : [];
  });
  cell.notes.forEach((note) => messages.push(["note", note]));
  element("messages").replaceChildren(...messages.map(([kind, text]) => {
    const paragraph = document.createElement("p");
    Object.assign(paragraph, { className: kind, textContent: text });
    return paragraph;
  }));
}

// Agreement

/** z against time; the grey area is where |z| may be, for the observable with the least room. */
function drawScores(cell) {
  const { time, threshold, z } = cell.agreement ?? { time: [], threshold: [], z: {} };
  const names = Object.keys(z).filter((name) => page.styles[name]);
  const limits = threshold.filter((value) => value !== null);
  const most = Math.max(1, ...limits, ...names.flatMap((name) => z[name].map(Math.abs)));
  const limit = threshold.map((value) => value ?? 2 * most);
  const edge = { type: "scatter", mode: "lines", x: time, hoverinfo: "skip", line: { color: "#6e7781", width: 1 } };
  const dashOf = (name) => DASHES.across[page.styles[name].panel];
  const traces = [
    { ...edge, name: "lower limit", y: limit.map((value) => -value) },
    { ...edge, name: "limit", y: limit, fill: "tonexty", fillcolor: "#d0d7de66" },
    ...names.map((name) => ({
      type: "scatter", mode: "lines", name: page.styles[name].label, legendgroup: name, x: time, y: z[name],
      line: { color: page.styles[name].color, width: 1.8, dash: dashOf(name) },
      hovertemplate: `${page.styles[name].label}: z = %{y:.3g}<br>t = %{x:.4g}<extra></extra>`,
    })),
  ];
  const title = { text: "z  (grey: what it may reach)", standoff: 4 };
  drawPanel("zscores", names, traces, cell, { title, range: [-1.08 * most, 1.08 * most], zerolinecolor: "#8c959f" }, dashOf);
}

const row = (head, texts) => `<tr><th scope="row">${head}</th>${texts.map((text) => `<td>${text}</td>`).join("")}</tr>`;
const heads = (texts) => `<tr>${texts.map((text) => `<th scope="col">${text}</th>`).join("")}</tr>`;

function numbersTable(cell) {
  const done = page.sides.filter((side) => cell[side].state === 1);
  if (done.length === 0) return "";
  const lines = Object.entries(NUMBERS).map(([key, text]) => row(text, done.map((side) => inWords(cell, side, key))));
  return heads(["", ...done]) + row("regime", done.map((side) => inWords(cell, side, "regime"))) + lines.join("");
}

function verdictsTable({ significance, rows: observables }) {
  const lines = Object.entries(observables).map(([name, found]) => {
    const exact = found.exact_differences ? ` (${found.exact_differences} times with no error)` : "";
    const difference = found.difference === undefined ? "–" : `${short(100 * found.difference, 2)} %`;
    const numbers = [found.max_abs_z, found.threshold, found.time].map((value) => `<td>${short(value, 3)}</td>`).join("");
    return `<tr><th scope="row">${escaped(page.styles[name]?.label ?? name)}</th>`
      + `<td class="${found.verdict.replace(" ", "-")}">${found.verdict}${exact}</td>${numbers}`
      + `<td>${difference}</td><td>${short(found.p_value, 2)}</td></tr>`;
  });
  return `<caption>Do they agree? Chance of a false alarm in each row: ${100 * significance} %</caption>`
    + heads(["observable", "verdict", "max |z|", "may reach", "at t", "difference", "p"]) + lines.join("");
}
