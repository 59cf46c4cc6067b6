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

// Curves

function drawCurves(panel, cell, sides) {
  const names = Object.keys(page.styles)
    .filter((name) => page.styles[name].panel === panel && sides.some((side) => cell[side].curves[name]));
  const traces = names.flatMap((name) => sides.filter((side) => cell[side].curves[name])
    .flatMap((side) => (side === "theory" ? lineAndBand : pointsAndBars)(name, cell[side].curves)));
  const values = names.flatMap((name) => sides.flatMap((side) => cell[side].curves[name]?.value ?? []));
  const yaxis = { title: { text: PANEL_AXES[panel], standoff: 4 }, ...logRange(values.filter((value) => value > 0)) };
  drawPanel(panel, names, traces, cell, yaxis, (name) => DASHES.within[placeInPanel(name)]);
}

/** A logarithmic axis over the positive `values`, cut so many decades below the largest. */
function logRange(values) {
  if (values.length === 0) return { type: "log" };
  const top = Math.max(...values), bottom = Math.max(Math.min(...values), top * 10 ** -page.decades);
  const margin = 0.06 * Math.log10(top / bottom) + 0.03;
  const range = [Math.log10(bottom) - margin, Math.log10(top) + margin];
  if (top < 3 * bottom) return { type: "log", range, nticks: 6 };
  const tickvals = roundNumbers(10 ** range[0], 10 ** range[1]);
  return { type: "log", range, tickvals, ticktext: tickvals.map((tick) => short(tick)) };
}

/** Draw `traces` into `panel`, with a legend that hides and shows the curves of each of `names`. */
function drawPanel(panel, names, traces, cell, yaxis, dashOf) {
  element(`${panel}-box`).hidden = names.length === 0;
  if (names.length === 0) return Plotly.purge(panel);
  const hidden = (chosen.hidden[panel] ??= new Set());
  const layout = {
    margin: { l: 58, r: 10, t: 6, b: 40 }, hovermode: "closest", showlegend: false, font: FONT,
    dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    xaxis: {
      type: "log", range: cell.range.map((time, end) => Math.log10(time) + (end ? 0.02 : -0.02)), tickformat: "~g",
      title: { text: "training time t", standoff: 4 }, dtick: cell.range[1] > 30 * cell.range[0] ? 1 : undefined,
      gridcolor: "#e6e8eb", zeroline: false,
    },
    yaxis: { gridcolor: "#e6e8eb", tickformat: "~g", ...yaxis },
  };
  traces.forEach((trace) => Object.assign(trace, { visible: !hidden.has(trace.legendgroup) }));
  Plotly.react(panel, traces, layout, PLAIN);
  element(`${panel}-legend`).replaceChildren(...names.map((name) => legendButton(panel, name, dashOf(name), hidden)));
}

function legendButton(panel, name, dash, hidden) {
  const { label, color } = page.styles[name], button = document.createElement("button");
  const pattern = { solid: "", dash: "7 3", dot: "2 2" }[dash];
  button.type = "button";
  button.innerHTML = `<svg width="26" height="8"><line x1="0" x2="26" y1="4" y2="4" stroke="${color}" stroke-width="2.5"`
    + ` stroke-dasharray="${pattern}"/></svg>${escaped(label)}`;
  const show = () => button.setAttribute("aria-pressed", String(!hidden.has(name)));
  button.addEventListener("click", () => {
    if (!hidden.delete(name)) hidden.add(name);
    show();
    const traces = element(panel).data.flatMap((trace, index) => (trace.legendgroup === name ? [index] : []));
    Plotly.restyle(panel, { visible: !hidden.has(name) }, traces);
  });
  show();
  return button;
}

function placeInPanel(name) {
  return Object.keys(page.styles).filter((other) => page.styles[other].panel === page.styles[name].panel).indexOf(name);
}

const described = (label, side, error) => ({
  customdata: error, hovertemplate: `${label}, ${side}: %{y:.4g} ± %{customdata:.2g}<br>t = %{x:.4g}<extra></extra>`,
});

function lineAndBand(name, curves) {
  const { label, color } = page.styles[name], { value, error } = curves[name];
  const edge = (sign) => value.map((v, i) => (v === null ? null : Math.max(v + sign * (error[i] ?? 0), 1e-3 * Math.abs(v))));
  const line = { type: "scatter", mode: "lines", name: label, legendgroup: name, x: curves.time };
  const band = { ...line, name: `${label} band`, line: { width: 0, color }, hoverinfo: "skip" };
  return [
    { ...band, y: edge(-1) },
    { ...band, y: edge(1), fill: "tonexty", fillcolor: `${color}40` },
    { ...line, y: value, line: { color, width: 2, dash: DASHES.within[placeInPanel(name)] }, ...described(label, "theory", error) },
  ];
}

function pointsAndBars(name, curves) {
  const { label, color, symbol } = page.styles[name], { value, error } = curves[name];
  const below = error.map((e, i) => Math.min(e ?? 0, 0.999 * Math.abs(value[i] ?? 0)));
  return [{
    type: "scatter", mode: "markers", name: `${label}, simulation`, legendgroup: name, x: curves.time, y: value,
    marker: { color, symbol, size: 6, line: { color: "#ffffff", width: 0.6 } },
    error_y: { color, thickness: 1.1, width: 2, array: error.map((e) => e ?? 0), arrayminus: below },
    ...described(label, "simulation", error),
  }];
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
