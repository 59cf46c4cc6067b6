// Choosing what is shown, by mouse, touch or keyboard. The page starts at the end of this file.

function choose(changes) {
  Object.assign(chosen, changes);
  drawDiagram();
  if ("cell" in changes) {
    drawPoint();
    const { column, row } = placeOf(chosen.cell);
    [["choose-x", column], ["choose-y", row]].forEach(([id, at]) => { if (element(id)) element(id).value = at; });
  }
}

function buttons(id, options, current, change) {
  element(id).replaceChildren(...Object.entries(options).map(([value, text]) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: id, value, checked: value === current });
    input.addEventListener("change", () => change(value));
    label.append(input, text);
    return label;
  }));
}

function menu(id, axis, change) {
  const label = document.createElement("label"), select = document.createElement("select");
  select.id = id;
  select.append(...axis.values.map((value, index) => new Option(short(value, 5), index)));
  select.addEventListener("change", () => change(Number(select.value)));
  label.append(`${page.fields[axis.field][0]} = `, select);
  element("choose").append(label);
}

function prepareChoices() {
  buttons("quantity", QUANTITIES, chosen.quantity, (quantity) => choose({ quantity }));
  buttons("side", Object.fromEntries(page.sides.map((side) => [side, side])), chosen.side, (side) => choose({ side }));
  element("side").hidden = page.sides.length < 2;
  menu("choose-x", xAxis, (column) => choose({ cell: placeOf(chosen.cell).row * columns + column }));
  if (yAxis) menu("choose-y", yAxis, (row) => choose({ cell: row * columns + placeOf(chosen.cell).column }));
  element("diagram-frame").addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const { column, row } = placeOf(chosen.cell), [right, up] = moves[event.key];
    const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
    choose({ cell: within(row + up, rows) * columns + within(column + right, columns) });
  });
  element("diagram").on("plotly_click", ({ points: [point] }) => {
    const cell = Array.isArray(point.pointNumber) ? point.pointNumber[0] * columns + point.pointNumber[1] : point.customdata;
    if (cell !== undefined) choose({ cell });
  });
}

async function copy() {
  const text = element("command").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // an older browser, or a page that may not
    window.getSelection().selectAllChildren(element("command"));
    document.execCommand("copy");
  }
  element("copied").textContent = "copied";
}

function drawHeader() {
  const { settings } = page, count = (side, state) => page.cells.filter((cell) => cell[side].state === state).length;
  const found = page.sides.map((side) => {
    const asked = side === "simulation" && page.sides.length > 1 ? page.cells.length - count(side, 0) : page.cells.length;
    const failed = count(side, 2) ? `, ${count(side, 2)} failed` : "";
    return `${side}: ${count(side, 1)} of ${asked} point${asked === 1 ? "" : "s"}${failed}`;
  });
  element("about").textContent = `${page.model} Done: ${found.join("; ")}. `
    + `A ${page.counted} counts as learnt at ${page.threshold}; the curves end at t = ${page.t_max}.`;
  element("settings").textContent = Object.entries(settings)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(" · ");
}

drawHeader();
element("copy").addEventListener("click", copy);
if (xAxis) {
  drawDiagram();
  prepareChoices();
  window.matchMedia("(max-width: 640px)").addEventListener("change", () => choose({ cell: chosen.cell }));
} else {
  element("map").hidden = true;
}
choose({ cell: chosen.cell });
