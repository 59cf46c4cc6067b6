// The diagram: a map of cells over two swept fields, or points over one.

/** Colours of the cells' values: z by value, and plotly's colour scale. */
function colors(values) {
  if (chosen.quantity === "regime") {
    const scale = page.colors.flatMap((color, number) => [[number / 6, color], [(number + 1) / 6, color]]);
    return { z: (value) => value, look: { colorscale: scale, zmin: -0.5, zmax: 5.5, showscale: false } };
  }
  if (values.length === 0) return { z: (value) => value, look: { showscale: false, colorbar: {} } };
  const positive = values.filter((value) => value > 0);
  const top = Math.max(...positive), bottom = Math.max(Math.min(...positive), top * 10 ** -page.decades);
  const log = positive.length > 0 && top > 3 * bottom;
  const z = (value) => (log ? Math.log10(Math.max(value, bottom)) : value);
  const [low, high] = log ? [bottom, top] : [Math.min(...values), Math.max(...values, Math.min(...values) + 1e-9)];
  const ticks = log ? roundNumbers(low, high) : undefined;
  const bar = {
    orientation: "h", thickness: 12, len: 1, y: 1.0, yanchor: "bottom", ypad: 4, xpad: 0, tickfont: { size: 11 },
    ticks: "outside", ticklen: 3,
    ...(log ? { tickvals: ticks.map(Math.log10), ticktext: ticks.map((tick) => short(tick)) } : {}),
    title: { text: QUANTITIES[chosen.quantity] + (log ? " (logarithmic)" : ""), side: "top", font: { size: 12 } },
  };
  return { z, look: { colorscale: "Viridis", zmin: z(low), zmax: z(high), showscale: true, colorbar: bar } };
}

/** plotly's axis with the values at their places, at most `most` of them written. */
function ticked(axis, most) {
  const every = Math.ceil(axis.values.length / most);
  const kept = axis.values.map((_, index) => index).filter((index) => index % every === 0);
  return {
    title: { text: page.fields[axis.field][1], standoff: 6 }, tickvals: kept.map((index) => axis.places[index]),
    ticktext: kept.map((index) => short(axis.values[index], 3)), range: [axis.edges[0], axis.edges.at(-1)],
    fixedrange: true, showgrid: false, zeroline: false, ticks: "outside", ticklen: 4,
  };
}

function drawDiagram() {
  if (!xAxis) return;
  const cells = page.cells, side = chosen.side, quantity = chosen.quantity;
  const kinds = cells.map((cell) => kindOf(cell, side, quantity));
  const values = cells.map((cell, index) => (kinds[index] !== "value" ? null
    : quantity === "regime" ? cell[side].regime : cell[side].numbers[quantity][0]));
  const layout = {
    margin: { l: 58, r: 12, t: 14, b: 48 }, xaxis: ticked(xAxis, narrow() ? 5 : 7), showlegend: false, hovermode: "closest",
    dragmode: false, font: FONT, plot_bgcolor: "#ffffff",
    hoverlabel: { align: "left", bgcolor: "#ffffff", font: { color: "#1b1f24" } },
  };
  const traces = yAxis ? mapTraces(kinds, values, layout) : lineTraces(kinds, values, layout);
  Plotly.react("diagram", traces, layout, PLAIN);
  drawLegend(kinds);
}

/** Two axes: cells of a heat map; those without a value are rectangles with a mark; signs where it was simulated. */
function mapTraces(kinds, values, layout) {
  const rowsOf = (list) => Array.from({ length: rows }, (_, row) => list.slice(row * columns, (row + 1) * columns));
  const { z, look } = colors(values.filter((value) => value !== null));
  const indices = page.cells.map((_, index) => index);
  const box = (index) => {
    const { column, row } = placeOf(index);
    const [x0, x1] = xAxis.edges.slice(column), [y0, y1] = yAxis.edges.slice(row);
    return { type: "rect", x0, x1, y0, y1 };
  };
  const special = indices.filter((index) => kinds[index] !== "value");
  layout.yaxis = ticked(yAxis, 8);
  layout.shapes = [
    ...special.map((index) => ({
      ...box(index), layer: "below", fillcolor: SPECIAL[kinds[index]].fill,
      line: { width: 1, color: kinds[index] === "absent" ? "#e6e8eb" : "#ffffff" },
    })),
    { ...box(chosen.cell), line: { width: 6, color: "#ffffff" } },
    { ...box(chosen.cell), line: { width: 3, color: "#000000" } },
  ];
  if (look.showscale) layout.margin.t = 64;
  const heat = {
    type: "heatmap", name: "cells", x: xAxis.edges, y: yAxis.edges, ...look,
    z: rowsOf(values.map((value) => (value === null ? null : z(value)))),
    xgap: 1, ygap: 1, hoverongaps: true, text: rowsOf(indices.map(hover)), hovertemplate: "%{text}<extra></extra>",
  };
  const writing = (list, text, ink, dx, dy) => {
    const boxes = list.map(box);
    return {
      type: "scatter", mode: "text", hoverinfo: "skip", text: list.map(text),
      textfont: { size: narrow() ? 10 : 13, color: list.map(ink) },
      x: boxes.map(({ x0, x1 }) => x0 + dx * (x1 - x0)), y: boxes.map(({ y0, y1 }) => y0 + dy * (y1 - y0)),
    };
  };
  const marks = writing(special, (index) => SPECIAL[kinds[index]].mark, (index) => SPECIAL[kinds[index]].ink, 0.5, 0.5);
  const isDoubtful = (index) => kinds[index] === "value" && !page.cells[index][chosen.side].certain;
  const doubtful = chosen.quantity === "regime" ? indices.filter(isDoubtful) : [];
  const doubts = writing(doubtful, () => "?", () => "#000000", 0.2, 0.76);
  return [heat, marks, doubts, ...simulatedSigns(indices)];
}

function simulatedSigns(indices) {
  return Object.entries(SIGNS).map(([sign, { symbol }]) => {
    const places = indices.filter((index) => signOf(index) === sign).map(placeOf);
    return {
      type: "scatter", mode: "markers", name: sign, hoverinfo: "skip", x: places.map(({ column }) => xAxis.places[column]),
      y: places.map(({ row }) => yAxis.places[row]),
      marker: { symbol, size: narrow() ? 7 : 9, color: "#ffffff", line: { color: "#000000", width: 1.4 } },
    };
  });
}

/** A key of SIGNS if there is theory and the cell was to be simulated too, else null. */
function signOf(index) {
  const cell = page.cells[index];
  if (page.sides.length < 2 || cell.simulation.state === 0) return null;
  if (cell.simulation.state === 2) return chosen.side === "theory" ? "failed" : null;
  return cell.agreement && cell.agreement.verdict in SIGNS ? cell.agreement.verdict : "other";
}

/** One axis: points with bars, theory joined by a line; what has no value is marked at the foot. */
function lineTraces(kinds, values, layout) {
  const regime = chosen.quantity === "regime";
  const { look } = colors(values.filter((value) => value !== null));
  const bottom = !regime && look.colorbar.tickvals !== undefined ? 10 ** look.zmin : undefined; // of a logarithmic axis
  layout.yaxis = {
    domain: [0.1, 1], automargin: true, fixedrange: true,
    ...(regime ? { tickvals: [1, 2, 3, 4, 5], ticktext: page.regimes, range: [0.4, 5.6] }
      : { title: { text: QUANTITIES[chosen.quantity], standoff: 6 }, type: bottom === undefined ? "linear" : "log" }),
  };
  if (bottom !== undefined && look.colorbar.tickvals.length > 1) {
    Object.assign(layout.yaxis, { tickvals: look.colorbar.tickvals.map((tick) => 10 ** tick), ticktext: look.colorbar.ticktext });
  }
  layout.yaxis2 = { range: [-1, 1], domain: [0, 0.08], visible: false, fixedrange: true };
  Object.assign(layout.xaxis, { anchor: "free", position: 0 });
  Object.assign(layout.margin, { t: page.sides.length > 1 ? 30 : 14 });
  layout.showlegend = page.sides.length > 1;
  layout.legend = { orientation: "h", y: 1.01, yanchor: "bottom" };
  const middle = xAxis.places[chosen.cell];
  layout.shapes = [{
    type: "line", x0: middle, x1: middle, yref: "paper", y0: 0, y1: 1, layer: "below", line: { width: 6, color: "#ffd58a" },
  }];
  return [...page.sides.map((side) => sideTrace(side, regime, bottom)), footTrace(kinds)];
}

/** Values of theory or simulation against the swept field; a point without a value is a gap in the line. */
function sideTrace(side, regime, bottom) {
  const color = { theory: "#0072b2", simulation: "#d55e00" }[side];
  const look = { theory: { size: 8, symbol: "circle" }, simulation: { size: 14, symbol: "diamond-open", line: { width: 2 } } };
  const numbers = page.cells.map((cell) => (kindOf(cell, side, chosen.quantity) !== "value" ? [null, null]
    : regime ? [cell[side].regime, null] : cell[side].numbers[chosen.quantity]));
  const indices = page.cells.map((_, index) => index);
  return {
    type: "scatter", name: side, mode: side === "theory" && !regime ? "lines+markers" : "markers", x: xAxis.places,
    y: numbers.map(([value]) => (value !== null && bottom !== undefined ? Math.max(value, bottom) : value)),
    error_y: { array: numbers.map(([, error]) => error ?? 0), visible: !regime, thickness: 1.2 },
    customdata: indices, text: indices.map(hover), hovertemplate: "%{text}<extra></extra>",
    line: { color }, marker: { color, ...look[side] },
  };
}

function footTrace(kinds) {
  const special = kinds.flatMap((kind, index) => (kind === "value" ? [] : [index]));
  const looks = special.map((index) => SPECIAL[kinds[index]]);
  return {
    type: "scatter", mode: "markers+text", yaxis: "y2", showlegend: false, x: special.map((index) => xAxis.places[index]),
    y: special.map(() => 0), text: looks.map(({ mark }) => mark), textfont: { color: looks.map(({ ink }) => ink) },
    customdata: special, hovertext: special.map(hover), hovertemplate: "%{hovertext}<extra></extra>",
    marker: { symbol: "square", size: 17, color: looks.map(({ fill }) => fill), line: { width: 1, color: "#8c959f" } },
  };
}

function drawLegend(kinds) {
  const item = (fill, sign, text, ink = "#000") =>
    `<li><span class="swatch" style="background:${fill};color:${ink}">${sign}</span>${text}</li>`;
  const records = page.cells.map((cell) => cell[chosen.side]), items = [];
  if (chosen.quantity === "regime" && yAxis) {
    const found = new Set(records.map(({ regime }) => regime));
    page.regimes.forEach((name, index) => found.has(index + 1) && items.push(item(page.colors[index + 1], "", name)));
    if (records.some(({ state, certain }) => state === 1 && !certain)) items.push(item("#fff", "?", "changes within two errors"));
  }
  Object.entries(SPECIAL).filter(([kind]) => kinds.includes(kind))
    .forEach(([, { fill, mark, text, ink }]) => items.push(item(fill, mark, text, ink)));
  const signs = new Set(yAxis ? page.cells.map((_, index) => signOf(index)) : []);
  const drawn = (path) =>
    `<svg width="15" height="15" viewBox="0 0 18 18"><path d="${path}" fill="#fff" stroke="#000" stroke-width="1.5"/></svg>`;
  Object.entries(SIGNS).filter(([sign]) => signs.has(sign))
    .forEach(([, { path, text }]) => items.push(item("#d9d9d9", drawn(path), text)));
  element("legend").innerHTML = items.join("");
}
