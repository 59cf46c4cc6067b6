// What compare/report/data.py wrote, the words and colours it is shown with, and what is shown now.
const [xAxis, yAxis] = page.axes;
const columns = xAxis ? xAxis.values.length : 1;
const rows = yAxis ? yAxis.values.length : 1;
const narrow = () => window.innerWidth < 640;

const QUANTITIES = {
  regime: "regime", delay: "delay", final_test_loss: "final test loss", peak_test_loss: "peak test loss",
  t_train: "time to train", t_test: "time to generalise",
};
const NUMBERS = { // rows of the table of one point
  t_train: `train ${page.counted} reaches ${page.threshold} at`, t_test: `test ${page.counted} reaches ${page.threshold} at`,
  delay: "delay",
  final_train_loss: "final train loss", final_test_loss: "final test loss", peak_test_loss: "peak test loss",
};
const SPECIAL = {
  unreached: { fill: "#d9d9d9", mark: "–", ink: "#24292f", text: `not reached by t = ${page.t_max}` },
  failed: { fill: "#24292f", mark: "✕", ink: "#ffffff", text: "failed" },
  absent: { fill: "#ffffff", mark: "", ink: "#24292f", text: "not computed" },
};
/** Signs of simulated cells: plotly's symbol, and the same as a path for the legend. */
const SIGNS = {
  agrees: { symbol: "circle", path: "M9 4.5a4.5 4.5 0 1 0 .01 0z", text: "simulated: every curve agrees with the theory" },
  differs: { symbol: "x", path: "M4 6l2-2 3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3z", text: "simulated: some curve differs" },
  other: { symbol: "diamond", path: "M9 3.5l5.5 5.5-5.5 5.5-5.5-5.5z", text: "simulated: not comparable" },
  failed: { symbol: "triangle-down", path: "M3.5 5h11l-5.5 9z", text: "simulation failed" },
};
/** What is shown: a quantity of the diagram, theory or simulation, the index of a cell, hidden curves by panel. */
const chosen = { quantity: "regime", side: page.sides[0], cell: firstDone(), hidden: {} };

function firstDone() {
  const index = page.cells.findIndex((cell) => page.sides.some((side) => cell[side].curves));
  const both = page.cells.findIndex((cell) => cell.agreement);
  return Math.max(both >= 0 ? both : index, 0);
}

/** The value with its error, unless that is rounding. */
function withError([value, error]) {
  return short(value) + (error === null || error < 1e-12 * Math.abs(value) ? "" : ` ± ${short(error, 2)}`);
}

/** What the cell's theory or simulation (`side`) is in the diagram of `quantity`: a value, or one of SPECIAL. */
function kindOf(cell, side, quantity) {
  const record = cell[side];
  if (record.state !== 1) return record.state === 2 ? "failed" : "absent";
  if (quantity === "regime") return record.regime > 0 ? "value" : "absent";
  const [value, , reached] = record.numbers[quantity];
  return !reached ? "unreached" : value === null ? "absent" : "value";
}

function inWords(cell, side, quantity) {
  const record = cell[side], kind = kindOf(cell, side, quantity);
  if (kind === "failed") return `failed: ${wrapped(escaped(record.message))}`;
  if (kind === "unreached") return "not reached";
  if (kind === "absent") return SPECIAL.absent.text;
  if (quantity !== "regime") return withError(record.numbers[quantity]);
  return page.regimes[record.regime - 1] + (record.certain ? "" : " (not certain)");
}

const wrapped = (text) => text.replace(/(.{1,48})(\s|$)/g, "$1<br>").replace(/<br>$/, "");
const placeOf = (index) => ({ column: index % columns, row: Math.floor(index / columns) });

function coordinates(index) {
  const { column, row } = placeOf(index);
  return [[xAxis, column], [yAxis, row]].filter(([axis]) => axis)
    .map(([axis, at]) => `${page.fields[axis.field][0]} = ${short(axis.values[at], 5)}`).join(", ");
}

function hover(index) {
  const cell = page.cells[index], word = QUANTITIES[chosen.quantity];
  const lines = page.sides.filter((side) => side === chosen.side || cell[side].state > 0)
    .map((side) => `${side}: ${inWords(cell, side, chosen.quantity)}`);
  return [`<b>${coordinates(index)}</b>`, word, ...lines].join("<br>");
}
