"use strict";
// Curves with their errors in panels, as the report and the page of sliders show them.

const page = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);

const PANEL_AXES = {
  losses: "mean squared error", decomposition: "part of the test loss", order: "trace, overlap, mean weight",
};
/** Dashes tell curves apart in grey: by place within a panel; by panel where all are drawn together. */
const DASHES = { within: ["solid", "dash", "dot"], across: { losses: "solid", decomposition: "dash", order: "dot" } };
const PLAIN = { displayModeBar: false, responsive: true };
const FONT = { family: "system-ui, sans-serif", size: 12 };

function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(Math.max(digits - 2, 1)).replace(/\.?0*e\+?/, "e");
  return String(Number(value.toPrecision(digits)));
}

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/** 1, 10, ..., or where that is little 1, 2, 5, 10, ...: those within the range. */
function roundNumbers(low, high) {
  const steps = Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5], ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    ticks.push(...steps.map((step) => Number(`${step}e${power}`)));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

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
