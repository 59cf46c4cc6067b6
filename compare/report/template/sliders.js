// Sliders, and the curves where they stand: rough ones while one moves, better ones when it rests.

const chosen = { hidden: {} };
/** Milliseconds without a move after which a slider rests. */
const REST = 250;
let moves = 0, busy = false;

function prepareSliders() {
  element("sliders").replaceChildren(...page.sliders.map(({ field, values, at }) => {
    const label = document.createElement("label"), input = document.createElement("input");
    const output = document.createElement("output"), [sign, words] = page.fields[field];
    Object.assign(input, { type: "range", id: field, min: 0, max: values.length - 1, step: 1, value: at });
    const say = () => {
      output.textContent = `${sign} = ${short(values[input.value], 3)}`;
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => { say(); follow(); });
    say();
    label.append(words, output, input);
    return label;
  }));
  const about = Object.entries(page.about).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`);
  element("about").textContent = about.join(" · ");
}

async function ask(stage) {
  const values = page.sliders.map(({ field, values }) => [field, values[element(field).value]]);
  try {
    return await (await fetch(`curves?${new URLSearchParams([...values, ["stage", stage]])}`)).json();
  } catch {
    return { message: "The program that serves this page has ended. Start it again, and load its page." };
  }
}

/** Ask until the curves are those of where the sliders stand, as good as they get; one question at a time. */
async function follow() {
  moves += 1;
  element("panels").className = "old";
  if (busy) return;
  busy = true;
  let seen = 0, stage = 0;
  while (seen !== moves || stage < page.stages) {
    if (seen !== moves) [seen, stage] = [moves, 0];
    if (stage === 0) element("status").textContent ||= "The first curve takes longest: its programs are made, or loaded.";
    const answer = await ask(stage);
    if (stage === 0 || seen === moves) show(answer, seen === moves, stage + 1 < page.stages);
    stage = answer.message ? page.stages : stage + 1;
    if (seen === moves && stage < page.stages) await new Promise((rested) => setTimeout(rested, REST));
  }
  busy = false;
}

/** Draw an answer, which is `current` unless a slider has moved since, and of which a better one follows or not. */
function show(answer, current, more) {
  element("message").hidden = !answer.message;
  element("message").textContent = answer.message ?? "";
  element("panels").className = current && !answer.message ? "" : "old";
  if (answer.message) return;
  const sides = ["theory", "simulation"].filter((side) => answer[side]);
  Object.keys(PANEL_AXES).forEach((panel) => drawCurves(panel, answer, sides));
  const error = answer.error === null ? "" : `Losses known to ${short(100 * answer.error, 2)} %`;
  const how = page.stages > 1 ? `, in ${short(answer.seconds, 2)} s` : ", as stored";
  element("status").textContent = `${error}${how}${more ? "; a better curve follows where the sliders rest" : ""}.`;
  element("numbers").textContent = answer.numbers;
}

prepareSliders();
follow();
