// Shows the states that the server sends. Names and labels come from the service, so they are only set as text, never as markup.

const $ = (id) => document.getElementById(id);
const watched = new URLSearchParams(location.search).get("trial"); // null: the current trial
let state = null; // the newest state
let rights = { step: false, reset: false }; // what this viewer may do
let spoken = null; // the verdict that was announced last
let curtain = false; // whether this viewer hides the judge; in a rehearsal, the state says so for all viewers

const isCurtained = () => state?.rehearsal?.curtain ?? curtain;

// ---- Text and numbers

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function draw(name, attributes, text = "") {
  const made = document.createElementNS($("marks").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

const count = (number) => number.toLocaleString("en");
const clock = (seconds) => {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return `${hours > 0 ? `${hours}:` : ""}${two((seconds % 3600) / 60)}:${two(seconds % 60)}`;
};

// A rate from 0 to 1 in per cent, with two significant digits. `round` is the direction for bounds. A rate that is
// not exactly 0 or 1 is never shown as 0 % or 100 %.
function percent(part, round = Math.round) {
  if (part === null) return "–";
  const value = part * 100;
  if (value === 0 || value === 100) return `${value}\u00a0%`;
  if (value < 0.0001) return round === Math.floor ? "0\u00a0%" : "<0.0001\u00a0%";
  const decimals = value >= 10 ? 0 : Math.min(4, 1 - Math.floor(Math.log10(value)));
  // rounded to 9 digits, because 0.07 * 100 is not exactly 7
  const rounded = round(Number((value * 10 ** decimals).toPrecision(9))) / 10 ** decimals;
  if (rounded >= 100 && round === Math.round) return ">99\u00a0%";
  return `${Number(rounded.toFixed(decimals))}\u00a0%`;
}

// A share of the traffic, with one decimal.
function sharePercent(part) {
  if (part === null) return "–";
  if (part > 0 && part < 0.001) return "<0.1\u00a0%";
  if (part < 1 && part > 0.999) return ">99.9\u00a0%";
  return `${(part * 100).toFixed(1)}\u00a0%`;
}

const limitPercent = (part) => `${Number((part * 100).toPrecision(6))}\u00a0%`;

function milliseconds(time) {
  if (time < 0.1) return "<0.1\u00a0ms";
  return time < 10 ? `${time.toFixed(1)}\u00a0ms` : `${count(Math.round(time))}\u00a0ms`;
}

// The odds of an e-value, as text. Beyond 100,000 to 1, no class learns more from the number.
function odds(ln) {
  if (ln === null) return "–";
  if (ln < Math.log(0.1)) return "less than 0.1 to 1";
  if (ln > Math.log(1e5)) return "over 100,000 to 1";
  return `${count(Number(Math.exp(ln).toPrecision(2)))} to 1`;
}

// A length of time that nobody needs to read exactly.
function about(seconds) {
  if (seconds < 90) return `${count(Math.max(1, Math.round(seconds)))} s`;
  if (seconds < 5400) return `${count(Math.round(seconds / 60))} min`;
  return `${count(Math.round(seconds / 3600))} h`;
}

const ratio = ({ failures, answers }) => `${count(failures)} of ${count(answers)}`;
const timeOf = (text) => new Date(text).toLocaleTimeString("en-GB");

// ---- The parts of the page, from top to bottom. Each function draws the newest state.

function showButton(button, label, key) {
  if (button.dataset.label === label) return;
  button.dataset.label = label;
  const keys = key === "" ? [] : [element("kbd", "", key)];
  button.replaceChildren(label, ...keys);
}

function showHeader({ title, requests, seconds, trial, rehearsal }) {
  // where there is no wall, what is above it is here
  const now = $("requests").hidden ? ` · ${presentOf(state)}` : "";
  const totals = `${count(requests)} requests · ${clock(seconds)} · trial ${trial}${now}`;
  setText($("totals"), rehearsal === null ? totals : "");
  $("steps").hidden = rehearsal === null;
  if (rehearsal === null) {
    setText($("step"), title);
    setText($("text"), "");
    $("told").classList.remove("long");
  } else {
    showSteps(rehearsal);
  }
  const mayHide = rehearsal === null || rights.step;
  $("curtain").hidden = !mayHide;
  showButton($("curtain"), isCurtained() ? "Show the judge" : "Hide the judge", "j");
  $("pause").hidden = rehearsal === null || !rights.step;
  showButton($("pause"), rehearsal?.held ? "Go on" : "Pause", "p");
  $("next").hidden = rehearsal === null || !rights.step;
  $("show-conditions").hidden = !rights.step || [undefined, "mystery"].includes(rehearsal?.conditions?.canary);
  document.body.classList.toggle("curtained", isCurtained());
}

function showSteps({ number: taken, of: all, before, title, text, commands, note, began, next, under_way, held }) {
  const [number, of] = [taken - before, all - before];
  while ($("steps").childElementCount > of) $("steps").lastElementChild.remove();
  while ($("steps").childElementCount < of) $("steps").append(element("li", "", $("steps").childElementCount + 1));
  [...$("steps").children].forEach((item, index) => {
    item.className = index + 1 < number ? "done" : "";
    if (index + 1 === number) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
  setText($("step"), `${number > 0 ? `${number}. ` : ""}${title}`);
  setText($("text"), text);
  $("told").classList.toggle("long", text.length > 120);
  setText($("commands"), commands.map((command) => `$ ${command}`).join("   "));
  const told = [began, held ? "Paused: no requests are sent." : note].filter(Boolean).join(" ");
  setText($("note"), told);
  setText($("began"), began ?? "");
  // not `disabled` and not hidden, because a keyboard user would lose the focus
  const isOver = next === null;
  $("next").setAttribute("aria-disabled", String(under_way || isOver));
  const label = isOver ? "That was the last step" : `Next: ${next}`;
  showButton($("next"), under_way ? "Under way …" : label, under_way || isOver ? "" : "n");
}

function showOutage({ outage }) {
  $("outage").hidden = outage === null;
  if (outage === null) return;
  const what = outage.kind === "no_answer" ? "No answer" : "Every answer is a failure";
  const verdict = outage.kind === "no_answer" ? " No verdict is possible." : "";
  setText($("outage"), `${what} since ${timeOf(outage.since)} (${about(outage.seconds)}, ${count(outage.requests)} ` +
    `requests): ${outage.cause}.${verdict}`);
}

// Below the title where there is no rehearsal.
function showTimes({ rehearsal, counting_since: since, process_started: started, trial_began: began }) {
  const times = [
    began && `The trial counts since ${began}`,
    since && `requests are counted since ${since}`,
    started && started !== since && `the server has restarted at ${started}`,
  ];
  setText($("times"), `${times.filter(Boolean).join(" · ")}`);
  if (rehearsal !== null) return;
  const restarted = started && started !== since ? ` · the server has restarted at ${timeOf(started)}` : "";
  setText($("note"), began ? `Counting since ${timeOf(began)}${restarted}` : "");
  setText($("commands"), "");
}

const WORDS = {
  promote: "Promote", roll_back: "Roll back", not_yet: "Not yet", hold: "Hold",
  no_canary: "No canary", gone: "Canary gone", rolled_back: "Rolled back",
};

// The one fact that matters now, what is missing, and what it means.
function factOf(now) {
  const { standing, judged, limit, promotion_bound, more_answers, present, sides, alpha, price_sentence, reason } = now;
  const { canary, stable } = judged;
  const trials = count(Math.round(1 / alpha));
  const both = `${ratio(canary)} failed`;
  const ofStable = `stable: ${ratio(stable)} failed`;
  switch (standing) {
    case "no_canary":
      return ["", ofStable, "No canary has answered in this trial."];
    case "roll_back":
      return [both, ofStable, `If both were alike, such a difference would come up in at most one of ${trials} trials. ` +
        (price_sentence !== null && price_sentence.length < 90 ? price_sentence : "")];
    case "rolled_back":
      return [both, ofStable, "The canary does not answer any more."];
    case "gone":
      return [both, ofStable, "The canary does not answer any more."];
    case "promote":
      return [both, ofStable, reason === "ratio"
        ? `Stable itself fails more than ${limitPercent(limit)}, and the canary is shown not to be much worse.`
        : `At most ${limitPercent(limit)} of its requests fail, and it is not shown to be worse than stable.`];
    case "hold":
      return [both, ofStable, `Both fail more than ${limitPercent(limit)}. Look for a common cause.`];
    default: {
      if (canary.answers === 0) return ["", ofStable, "No answer of the canary is judged yet."];
      const rate = present.rate * (sides.canary.share ?? 0);
      const time = rate > 0 && more_answers !== null && now.outage === null ? `, about ${about(more_answers / rate)}` : "";
      const more = more_answers === null ? "It has failed too often for a promotion soon"
        : more_answers === 0 ? "" : `${count(more_answers)} more good answers${time}`;
      return [both, more, `So far: at most ${percent(promotion_bound, Math.ceil)} of its requests fail. ` +
        `A promotion takes at most ${limitPercent(limit)}. ${ofStable.replace("s", "S")}.`];
    }
  }
}

function showVerdict(now) {
  const { standing, sentence, price_sentence } = now;
  const word = WORDS[standing];
  const [fact, more, meaning] = factOf(now);
  $("verdict").dataset.standing = standing;
  setText($("word"), word);
  setText($("fact"), fact);
  // the panel keeps its size, so long texts are smaller
  $("fact").classList.toggle("long", fact.length > 18);
  $("verdict").classList.toggle("dense", fact.length + more.length + meaning.length > 200);
  setText($("more"), more);
  setText($("meaning"), meaning);
  const said = classSaid(now);
  setText($("class-said"), said);
  $("class-said").hidden = said === "";
  $("verdict").classList.toggle("voted", said !== "");
  setText($("sentence"), sentence);
  setText($("price"), price_sentence ?? "");
  const shown = isCurtained() ? "hidden" : standing;
  if (spoken !== shown) {
    spoken = shown;
    setText($("announcement"), isCurtained() ? "The judge is hidden." : [`Verdict: ${word}. ${sentence}`, said].filter(Boolean).join(" "));
    document.title = isCurtained() ? "canary" : `${word} · canary`;
    $("icon").href = icon(shown);
  }
}

// ---- The vote of the class

const CHOICES = ["promote", "wait", "roll_back"];

// What the class said, and when the judge knew it, once it is shown.
function classSaid({ rehearsal, standing, sure_after: sure }) {
  const round = rehearsal?.vote?.round ?? null;
  if (round === null || round.open || CHOICES.every((choice) => round[choice] === 0)) return "";
  const seconds = sure === null ? "" : count(sure < 10 ? sure : Math.round(sure));
  const judge = sure !== null && ["promote", "roll_back", "rolled_back"].includes(standing)
    ? `The judge was sure after ${seconds}\u00a0s.`
    : { not_yet: "The judge is not sure yet.", hold: "The judge cannot say: both fail." }[standing]
      ?? "There is no canary to judge.";
  const told = (choice, words) => `${count(round[choice])} ${words}`.replaceAll(" ", "\u00a0");
  const votes = [told("roll_back", "roll back"), told("wait", "wait"), told("promote", "promote")];
  return `The class: ${votes.join(", ")}. ${judge}`;
}

function showVote({ rehearsal }) {
  const vote = rehearsal?.vote ?? null;
  for (const id of ["show-place", "scan", "scan-text"]) $(id).hidden = vote === null;
  for (const id of ["evidence-behind", "bound-behind"]) $(id).hidden = vote !== null;
  const round = vote?.round ?? null;
  $("votes").hidden = $("vote-count").hidden = round === null || !round.open;
  if (vote === null) return;
  if ($("scan-code").dataset.shown !== vote.url) {
    for (const code of [$("scan-code"), $("place-code")]) {
      code.src = "v1/vote.svg";
      code.alt = `QR code of ${vote.url}`;
      code.dataset.shown = vote.url;
    }
    setText($("scan-url"), vote.url);
    setText($("place-url"), vote.url);
  }
  if (round === null) return;
  const all = CHOICES.reduce((sum, choice) => sum + round[choice], 0);
  setText($("vote-count"), `${count(all)} vote${all === 1 ? "" : "s"}`);
  for (const line of $("votes").children) {
    const number = round[line.dataset.choice];
    line.querySelector(".bar-of span").style.width = `${all === 0 ? 0 : (number / all) * 100}%`;
    setText(line.querySelector("b"), count(number));
  }
}

// ---- The conditions that the teacher changes

const UNITS = { share: "\u00a0%", fails: "\u00a0%", delay_ms: "\u00a0ms", rate: "\u00a0requests/s" };
const sliders = [...document.querySelectorAll(".slider input")];
let touched = new Set(); // only what was moved is sent

// The share has no number while the pods or the evidence decide it. Then its slider begins where the share is.
function showSlider(slider) {
  const key = slider.dataset.of;
  const { canary, share } = state.rehearsal.conditions;
  const isFixed = key === "fails" && canary === "broken";
  slider.disabled = key !== "rate" && (canary === "none" || isFixed);
  const told = slider.disabled ? (isFixed ? "all, whatever is set" : "there is no canary")
    : key === "share" && share === null && !touched.has(key) ? "as in the step"
      : `${Number(slider.value)}${UNITS[key]}`;
  setText(slider.parentElement.querySelector("b"), told);
  slider.setAttribute("aria-valuetext", told);
}

function showTheConditions() {
  if ($("show-conditions").hidden) return;
  const { conditions } = state.rehearsal;
  touched = new Set();
  for (const slider of sliders) {
    slider.value = conditions[slider.dataset.of] ?? 100 * (state.sides.canary.expected_share ?? 0.25);
    showSlider(slider);
  }
  setText($("incident"), conditions.incident ? "End the incident" : "Start an incident");
  setText($("conditions-problem"), "");
  $("conditions").showModal();
}

async function change(conditions) {
  if (await post("v1/rehearsal", { conditions }, $("conditions-problem"))) $("conditions").close();
}

const COLOURS = { promote: "#00603a", roll_back: "#9c0019", hold: "#5b2fa0" };

// The verdict's colour, with a shape of its own for each.
function icon(standing) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const pen = canvas.getContext("2d");
  pen.fillStyle = COLOURS[standing] ?? "#39434f";
  pen.fillRect(0, 0, 32, 32);
  pen.strokeStyle = "#fff";
  pen.lineWidth = 5;
  const lines = {
    promote: [[6, 17, 13, 24], [13, 24, 26, 8]],
    roll_back: [[8, 8, 24, 24], [24, 8, 8, 24]],
    hold: [[11, 7, 11, 25], [21, 7, 21, 25]],
  }[standing] ?? [[8, 16, 24, 16]];
  for (const [x1, y1, x2, y2] of lines) {
    pen.beginPath();
    pen.moveTo(x1, y1);
    pen.lineTo(x2, y2);
    pen.stroke();
  }
  return canvas.toDataURL();
}

function presentOf({ present, rehearsal, paused, failing }) {
  const rate = present.rate < 10 ? Number(present.rate.toFixed(1)) : count(Math.round(present.rate));
  const pace = rehearsal?.held || paused ? "paused" : `${rate} requests/s`;
  const codes = present.failures === 0 ? "" : codesOf(failing);
  const minute = `last minute: ${count(present.failures)} of ${count(present.requests)} failed`;
  return `${pace} · ${minute}${codes && ` (${codes})`}`;
}

function showPresent(now) {
  setText($("present"), presentOf(now));
  $("present").classList.toggle("minute-failed", now.present.failures > 0);
}

// The codes of this trial's failures, the most frequent first.
function codesOf(failing) {
  const codes = Object.entries(failing?.statuses ?? {}).sort((one, other) => other[1] - one[1]);
  const shown = codes.slice(0, 3).map(([code]) => code).join(", ");
  return codes.length > 3 ? `${shown}, …` : shown;
}

const hasAnswered = (sides) => Object.values(sides).some((side) => side.success + side.failure > 0);

const MARKS = {
  s: "stable", S: "stable-failed", c: "canary", C: "canary-failed", o: "other", O: "other-failed",
  u: "unnamed", U: "unnamed-failed", "!": "no-answer",
};
const LONGEST = 300; // the number of requests in a state

let columns = 1;
let roomOfColumns = "";

// The size of a mark that fits, in pixels.
function cellOf({ width, height }, columns) {
  const rows = Math.ceil((LONGEST + columns - 1) / columns); // the first mark may be in the last column
  return Math.max(Math.floor(Math.min(width / columns, height / rows)), 1);
}

function bestColumns(room) {
  const choices = Array.from({ length: 51 }, (_, index) => index + 10);
  return choices.reduce((best, choice) => (cellOf(room, choice) > cellOf(room, best) ? choice : best));
}

// A request stays in its column while it is shown: the wall moves by whole rows.
function showWall({ dots: { first, outcomes }, sides }) {
  // with counters, single requests are not known
  $("requests").hidden = outcomes === "" && hasAnswered(sides);
  $("state").classList.toggle("counters", $("requests").hidden);
  if ($("requests").hidden) return;
  const wall = $("wall");
  const { width, height } = wall.getBoundingClientRect();
  // only with the window, because all marks would move
  const room = `${Math.round(width)}×${Math.round(height)}`;
  if (roomOfColumns !== room) {
    roomOfColumns = room;
    columns = bestColumns({ width, height });
  }
  const cell = cellOf({ width, height }, columns);
  const offset = first % columns;
  wall.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const size = cell - Math.ceil(cell / 20);
  while (wall.childElementCount > outcomes.length) wall.lastElementChild.remove();
  while (wall.childElementCount < outcomes.length) wall.append(draw("use", {}));
  [...outcomes].forEach((outcome, index) => {
    const dot = wall.children[index];
    const place = offset + index;
    const [x, y] = [(place % columns) * cell, Math.floor(place / columns) * cell];
    const wanted = { href: `#${MARKS[outcome]}`, x, y, width: size, height: size };
    for (const [key, value] of Object.entries(wanted)) {
      if (dot.getAttribute(key) !== String(value)) dot.setAttribute(key, value);
    }
  });
  const told = Object.entries(MARKS)
    .map(([letter, name]) => [outcomes.split(letter).length - 1, name.replace("-", " ")])
    .filter(([times]) => times > 0);
  const list = told.map(([times, name]) => `${times} ${name}`).join(", ");
  wall.setAttribute("aria-label", `The last ${outcomes.length} requests: ${list}`);
}

// ---- Charts

// The trial's course. At its beginning, nothing is known, and the evidence is 1.
function course({ history, gap }) {
  return gap || !(history[0]?.[0] > 0) ? history : [[0, null, 0, 1, null, 0, 1, 0, null], ...history];
}

// The frame of a chart in pixels, with the positions of times and heights (0 to 1).
function frame(svg, history, { trial_began, rehearsal }) {
  const { width, height } = svg.getBoundingClientRect();
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const box = { left: 4.3 * rem, right: width - 0.5 * rem, top: 0.6 * rem, bottom: height - 1.5 * rem, rem };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const began = history[0]?.[0] ?? 0;
  const ended = Math.max(history.at(-1)?.[0] ?? 0, began + 1);
  box.x = (seconds) => box.left + ((seconds - began) / (ended - began)) * (box.right - box.left);
  box.y = (part) => box.bottom - part * (box.bottom - box.top);
  const time = { y: height - 0.25 * rem };
  // a lesson counts from its beginning, an engineer compares with other clocks
  const first = Date.parse(trial_began);
  const isClock = rehearsal === null && !Number.isNaN(first);
  const label = (seconds) => (isClock ? timeOf(first + seconds * 1000) : clock(seconds));
  box.times = [
    draw("text", { ...time, x: box.left }, label(began)),
    draw("text", { ...time, x: box.right, "text-anchor": "end" }, label(ended)),
  ];
  return box;
}

// Where the server has restarted in this trial: nothing was seen in between, and the charts begin again.
function restarts(box, { gap }) {
  if (!gap) return [];
  const x = box.left + 0.1 * box.rem;
  return [
    draw("line", { class: "restarted", x1: x, x2: x, y1: box.top, y2: box.bottom }),
    draw("text", { x: x + 0.3 * box.rem, y: box.top + 0.9 * box.rem }, `restart ${timeOf(gap[1])}`),
  ];
}

function level(box, part, label, className = "grid", strong = "") {
  const y = box.y(part);
  return [
    draw("line", { class: className, x1: box.left, x2: box.right, y1: y, y2: y }),
    draw("text", { class: strong, x: box.left - 0.4 * box.rem, y: y + 0.33 * box.rem, "text-anchor": "end" }, label),
  ];
}

// A line through the points, with gaps at unknown points.
function path(box, points) {
  let pen = "M";
  let commands = "";
  for (const [seconds, part] of points) {
    if (part === null) {
      pen = "M";
    } else {
      commands += `${pen}${box.x(seconds).toFixed(1)} ${box.y(part).toFixed(1)}`;
      pen = "L";
    }
  }
  return commands;
}

const scaled = (points, scale) => points.map(([seconds, value]) => [seconds, value === null ? null : scale(value)]);

// The position of a rate on the axis: a cube root, so that both 0.1 % and 100 % can be read.
const RATES = [0, 1, 0.1, 0.01, 0.001];

function showBound(now) {
  const { limit, promotion_bound, judged, sides } = now;
  const svg = $("bound-chart");
  const history = course(now);
  const box = frame(svg, history, now);
  const column = (index) => scaled(history.map((point) => [point[0], point[index] ?? null]), Math.cbrt);
  const parts = restarts(box, now);
  // labels must not overlap
  const told = [limit];
  for (const rate of RATES) {
    const near = (other) => Math.abs(box.y(Math.cbrt(rate)) - box.y(Math.cbrt(other))) < 1.1 * box.rem;
    if (told.some(near)) continue;
    told.push(rate);
    parts.push(...level(box, Math.cbrt(rate), limitPercent(rate)));
  }
  parts.push(...level(box, Math.cbrt(limit), limitPercent(limit), "limit", "strong"));
  parts.push(draw("path", { class: "line stable", d: path(box, column(1)) }));
  parts.push(draw("path", { class: "line canary seen", d: path(box, column(4)) }));
  parts.push(draw("path", { class: "line canary", d: path(box, column(8)) }));
  // the bound comes from above, so there is room on the left until it is below the line
  const below = { x: box.left + 0.3 * box.rem, y: box.y(Math.cbrt(limit)) + 1 * box.rem, class: "strong" };
  parts.push(draw("text", below, "promote below this line"));
  const size = 1.2 * box.rem;
  for (const [name, index] of [["stable", 1], ["canary", 8]]) {
    const last = column(index).at(-1);
    if (!last || last[1] === null) continue;
    const at = { x: box.x(last[0]) - size / 2, y: box.y(last[1]) - size / 2 };
    parts.push(draw("use", { href: `#${name}`, ...at, width: size, height: size }));
  }
  svg.replaceChildren(...parts, ...box.times);
  const isKnown = judged.canary.answers > 0;
  const atMost = isKnown ? `at most ${percent(promotion_bound, Math.ceil)}` : "unknown";
  setText($("bound-title"), isKnown ? `The canary fails ${atMost}` : "The canary's failure rate");
  const seen = Object.entries(sides).map(([name, side]) => `${name} has failed ${side.failure} of ${side.success + side.failure}`);
  svg.setAttribute("aria-label", `Failure rate of the canary: ${atMost}; the limit is ${limitPercent(limit)}; ${seen.join(", ")}`);
}

// The time at which the line first reaches the threshold; null if it never does.
function crossing(points, threshold) {
  const after = points.findIndex(([, ln]) => ln !== null && ln >= threshold);
  if (after <= 0) return null; // never, or before a restart
  const [ended, high] = points[after];
  const [began, low] = points[after - 1] ?? [ended, null];
  return low === null ? ended : began + ((ended - began) * (threshold - low)) / (high - low);
}

// The axis is logarithmic, and always the same: it must not jump while a class looks at it.
function showEvidence(now) {
  const { ln_e_value, ln_threshold: threshold } = now.evidence;
  const svg = $("evidence-chart");
  const known = course(now).map((point) => [point[0], point[7]]);
  const box = frame(svg, known, now);
  const highest = Math.max(Math.log(1e5), threshold * 1.3);
  const lowest = Math.log(0.2);
  const part = (ln) => (Math.min(Math.max(ln, lowest), highest) - lowest) / (highest - lowest);
  const top = box.y(1);
  const line = box.y(part(threshold));
  const zone = { x: box.left, width: box.right - box.left, y: top, height: line - top };
  const parts = [draw("rect", { class: "beyond", ...zone }), ...restarts(box, now)];
  for (const times of [1, 20, 1000, 100000]) {
    const at = Math.log(times);
    if (Math.abs(box.y(part(at)) - line) < 1.1 * box.rem) continue;
    parts.push(...level(box, part(at), count(times)));
  }
  const needed = count(Number(Math.exp(threshold).toPrecision(2)));
  parts.push(...level(box, part(threshold), needed, "limit", "strong"));
  parts.push(draw("path", { class: "line ink", d: path(box, scaled(known, part)) }));
  const said = { class: "strong", x: box.right, y: line - 0.35 * box.rem, "text-anchor": "end" };
  parts.push(draw("text", said, "roll back above this line"));
  const crossed = crossing(known, threshold);
  if (crossed !== null) {
    parts.push(draw("circle", { class: "crossing", cx: box.x(crossed), cy: line, r: 0.6 * box.rem }));
  }
  svg.replaceChildren(...parts, ...box.times);
  setText($("evidence-title"), `Evidence against it: ${odds(ln_e_value)}`);
  svg.setAttribute("aria-label", `Evidence ${odds(ln_e_value)}; the canary is rolled back from ${needed} to 1 on`);
}

// ---- Rules of thumb

function showRules({ rules, gap }) {
  const list = rules?.list ?? [];
  const rows = list.map(({ name, said, wrong, judge }) => {
    const row = element("tr", judge ? "the-judge" : "");
    const when = said === null ? "–" : `${said < 100 ? said.toFixed(1) : count(Math.round(said))}\u00a0s`;
    row.append(element("td", "", name), element("td", "", when), element("td", wrong > 5 ? "wrong" : "", `${wrong}\u00a0%`));
    return row;
  });
  const shown = JSON.stringify(list);
  if ($("rule-list").dataset.shown !== shown) {
    $("rule-list").dataset.shown = shown;
    $("rule-list").replaceChildren(...rows);
  }
  const without = gap ? "They have not seen what was before the restart." : "Single requests are not known.";
  setText($("rules-setting"), rules ? `* good canaries that it rolls back, ${rules.setting}` : without);
}

// ---- The share of the traffic

// The mark is part of the verdict, so it is hidden with the judge. The share itself may be seen.
function showShare({ max_share: most, sides: { canary, stable } }) {
  const share = canary.share;
  // the share is that of the last 300 requests, so chance alone moves it by this much
  const chance = 2 * Math.sqrt(most * (1 - most) / 300);
  const above = !isCurtained() && share !== null && share > most + chance;
  const now = share === null ? "no share yet" : `now ${sharePercent(share)}`;
  const told = `at most ${percent(most, Math.floor)} for now${above ? ": it has more" : ""}`;
  $("share-canary").style.width = `${(share ?? 0) * 100}%`;
  $("share-stable").style.width = `${(stable.share ?? 0) * 100}%`;
  $("share-mark").style.insetInlineStart = `${isCurtained() ? 0 : most * 100}%`;
  $("share").classList.toggle("above", above);
  setText($("share-now"), `Canary: ${now}`);
  setText($("share-most"), isCurtained() ? "" : told);
  $("share").setAttribute("aria-label", `The canary's share of the traffic: ${now}${isCurtained() ? "" : `, ${told}`}`);
}

// ---- Versions and pods

function label(name, { text, changed }) {
  const item = element(name, changed ? "changed" : "", text);
  if (changed) item.append(element("span", "spoken", " (changed)"));
  return item;
}

const markOf = (release) => (["stable", "canary"].includes(release) ? release : "other");

function mark(release) {
  const root = draw("svg", { class: "mark", "aria-hidden": "true" });
  root.append(draw("use", { href: `#${markOf(release)}` }));
  return root;
}

// The first words of a line: mark, release, and how many pods.
function who(release, text) {
  const words = element("span", "");
  words.append(mark(release), element("b", "", text));
  return words;
}

function called(name) {
  const words = element("span", "name", name);
  words.title = name;
  return words;
}

const failedOf = (failures, requests) =>
  element("span", failures > 0 ? "some" : "counts", `${count(failures)} of ${count(requests)} failed`);

// What the judge says of a version; behind the curtain, nothing.
const saidOf = (word) => element("b", "said", isCurtained() ? "" : word);

// The maximum number of lines. The last one says how many more there are.
const LINES = 3;

// A line for each version of this trial, and one for each other version of the canary that answers now.
function showVersions({ versions, more_versions, others, standing }) {
  const shown = JSON.stringify([versions, more_versions, others, standing, isCurtained()]);
  if ($("versions").dataset.shown === shown) return;
  $("versions").dataset.shown = shown;
  const own = versions.map(({ release, name, pods, requests, failures, labels }) => {
    const line = element("li", pods === 0 ? "gone" : "");
    const number = pods === 0 ? "gone" : `${count(pods)} pod${pods === 1 ? "" : "s"}`;
    const all = element("span", "labels");
    all.append(...labels.map((one) => label("span", one)));
    // a single version has its verdict in large letters
    const said = release === "canary" && others.length > 0 ? [saidOf(WORDS[standing])] : [];
    line.append(who(release, `${release}: ${number}`), called(name), failedOf(failures, requests), ...said, all);
    return line;
  });
  const beside = others.map(({ trial, decision, answers, failures }) => {
    const line = element("li", "");
    line.append(who("canary", "canary: another version"), called(trial), failedOf(failures, answers), saidOf(WORDS[decision]));
    return line;
  });
  $("others").replaceChildren(...beside.map((line) => line.cloneNode(true)));
  const lines = [...own, ...beside];
  if (lines.length > LINES || more_versions > 0) {
    const left = lines.splice(LINES - 1).length + more_versions;
    lines.push(element("li", "", `and ${count(left)} more versions: see the details`));
  }
  $("versions").replaceChildren(...lines);
}

function showPods({ pods, more_pods }) {
  setText($("pods-title"), `Pods: ${count(pods.filter((pod) => pod.present).length + more_pods)}`);
  setText($("more-pods"), more_pods > 0 ? `and ${count(more_pods)} more` : "");
  const shown = JSON.stringify(pods);
  if ($("pod-list").dataset.shown === shown) return;
  $("pod-list").dataset.shown = shown;
  $("pod-list").replaceChildren(...pods.map((pod) => {
    const root = element("li", pod.present ? "" : "gone");
    const requests = count(pod.success + pod.failure);
    const told = pod.failure > 0 ? `${count(pod.failure)} of ${requests} failed` : `${requests} requests`;
    const all = [["release", pod.release], ["namespace", pod.namespace || "none"], ...Object.entries(pod.labels)];
    const labels = element("ul", "labels");
    labels.append(...all.map(([key, value]) => label("li", { text: `${key}=${value}`, changed: pod.changed.includes(key) })));
    const counts = element("span", pod.failure > 0 ? "counts some" : "counts", `${pod.present ? "" : "gone · "}${told}`);
    root.append(mark(pod.release), element("span", "name", pod.name), counts, labels);
    return root;
  }));
}

// ---- Details

function showDetails(now) {
  if (!$("details").open) return;
  const { sides, share_given, unattributed, no_answer, causes, failing } = now;
  $("sides").tBodies[0].replaceChildren(...Object.entries(sides).map(([name, side]) => {
    const requests = side.success + side.failure;
    const expected = side.expected_share === null ? "–"
      : share_given ? `given ${limitPercent(side.expected_share)}` : sharePercent(side.expected_share);
    const bounds = `${percent(side.lower, Math.floor)} and ${percent(side.upper, Math.ceil)}`;
    const time = (value) => (value === null ? "–" : milliseconds(value));
    const cells = [name, count(requests), count(side.failure), count(side.slow), requests === 0 ? "–" : bounds,
      requests === 0 ? "no answer yet" : sharePercent(side.share), expected, time(side.p50_ms), time(side.p99_ms)];
    const row = element("tr", "");
    row.append(...cells.map((text) => element("td", "", text)));
    return row;
  }));
  const parts = [];
  if (no_answer > 0) {
    const told = Object.entries(causes).map(([cause, times]) => `${count(times)} ${cause}`).join(", ");
    parts.push(`${count(no_answer)} without an answer${told && ` (${told})`}`);
  }
  if (unattributed > 0) parts.push(`${count(unattributed)} failed and name neither stable nor the canary`);
  setText($("neither"), parts.join(" · "));
  setText($("max-share"), `At most ${percent(now.max_share, Math.floor)} of the traffic for the canary for now.`);
  showStrata(now.strata);
  const codes = Object.entries(failing?.statuses ?? {}).map(([code, times]) => `${code}: ${count(times)}`).join(", ");
  setText($("statuses"), codes === "" ? "No answer was a failure." : `Status codes of failures: ${codes}`);
  const last = failing?.last ?? null;
  $("last-failure").hidden = last === null;
  if (last !== null) {
    setText($("last-failure"), `${timeOf(last.at)}  ${last.status}  ${last.release}  ${last.pod ?? ""}\n${last.body}`);
  }
  showPods(now);
  $("reset").hidden = !rights.reset;
}

// The kinds of requests that are compared, if they are divided: the worse ones first, then those with most failures.
function showStrata(strata) {
  $("kinds").hidden = strata.length === 0;
  const failed = (kind) => kind.canary.failures;
  const sorted = [...strata].sort((one, other) => other.worse - one.worse || failed(other) - failed(one));
  $("strata").tBodies[0].replaceChildren(...sorted.map((kind) => {
    const told = kind.worse ? "the canary is worse" : kind.covered ? "" : "too few answers to say anything";
    const of = (side) => `${count(side.failures)} of ${count(side.answers)}`;
    const row = element("tr", kind.worse ? "some" : "");
    row.append(...[kind.name ?? "all others", of(kind.canary), of(kind.stable), told].map((text) => element("td", "", text)));
    return row;
  }));
}

// ---- Drawing

const PARTS = [showWall, showHeader, showOutage, showTimes, showVerdict, showVote, showPresent, showEvidence, showBound, showRules,
  showShare, showVersions, showDetails];
let due = false;

// Draws only the newest state of those that have arrived since the last frame.
function drawSoon() {
  if (due || state === null) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    for (const show of PARTS) show(state);
  });
}

new ResizeObserver(drawSoon).observe($("wall"));
new ResizeObserver(drawSoon).observe($("evidence-chart"));

// ---- The connection

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 8000;
const SILENCE = 20000; // in milliseconds, as the two above
let pause = FIRST_PAUSE;
let events = null;
let silence = null;
let lastState = null; // the time of its arrival

function connect() {
  events = new EventSource(`v1/events${watched === null ? "" : `?trial=${encodeURIComponent(watched)}`}`);
  events.addEventListener("state", ({ data }) => {
    state = JSON.parse(data);
    lastState = new Date();
    pause = FIRST_PAUSE;
    connected();
    drawSoon();
  });
  events.addEventListener("rights", ({ data }) => {
    rights = JSON.parse(data);
    drawSoon();
  });
  events.addEventListener("error", disconnected);
}

function connected() {
  $("connection").dataset.state = "live";
  setText($("connection"), "Live");
  $("lost").hidden = true;
  document.body.classList.remove("stale");
  clearTimeout(silence);
  silence = setTimeout(askWhetherItIsThere, SILENCE);
}

// The browser does not reconnect after some errors, so this does.
function disconnected() {
  events.close();
  clearTimeout(silence);
  $("connection").dataset.state = "lost";
  setText($("connection"), "Not connected");
  const seen = lastState === null ? "" : ` What you see is from ${lastState.toLocaleTimeString()}.`;
  setText($("lost"), `The connection is lost.${seen} Trying again.`);
  $("lost").hidden = false;
  document.body.classList.add("stale");
  setTimeout(connect, pause);
  pause = Math.min(pause * 2, LONGEST_PAUSE);
}

// Without events, either nothing has changed, or the server cannot be reached any more.
async function askWhetherItIsThere() {
  const asked = events;
  try {
    await fetch("healthz", { signal: AbortSignal.timeout(5000) });
    if (events === asked && events.readyState === EventSource.OPEN) connected();
  } catch {
    if (events === asked && events.readyState === EventSource.OPEN) disconnected();
  }
}

// ---- Buttons and keys

// Whether it was done. If not, `told` tells why.
async function post(path, body, told = $("message")) {
  const problem = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }).then(
    async (response) => {
      if (response.ok) return "";
      const answer = await response.json().catch(() => ({}));
      return answer.error ?? `The server answers with status ${response.status}.`;
    },
    () => "The server cannot be reached.",
  );
  setText(told, problem);
  $("message").hidden = $("message").textContent === "";
  return problem === "";
}

const enabled = (button) => button.getAttribute("aria-disabled") !== "true";

function next() {
  // with the step's number, so that a double click takes only one step
  if (!$("next").hidden && enabled($("next"))) post("v1/step", { step: state.rehearsal.number + 1 });
}

function hideOrShow() {
  if ($("curtain").hidden || state === null) return;
  if (state.rehearsal === null) {
    curtain = !curtain;
    drawSoon();
  } else {
    post("v1/rehearsal", { curtain: !state.rehearsal.curtain });
  }
}

function pauseOrGoOn() {
  if (!$("pause").hidden) post("v1/rehearsal", { paused: !state.rehearsal.held });
}

function showThePlace() {
  if (!$("show-place").hidden) $("place").showModal();
}

function showTheDetails() {
  $("details").showModal();
  drawSoon();
}

const KEYS = { j: hideOrShow, p: pauseOrGoOn, n: next, ArrowRight: next, PageDown: next, d: showTheDetails, v: showThePlace,
  s: showTheConditions };

document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.altKey || event.metaKey || event.repeat || state === null) return;
  if (act === showThePlace && $("place").open) return $("place").close();
  if (document.querySelector("dialog[open]") !== null) return;
  if (act === next && $("next").hidden) return; // the keys scroll, as ever
  event.preventDefault();
  act();
});

$("next").addEventListener("click", next);
$("curtain").addEventListener("click", hideOrShow);
$("pause").addEventListener("click", pauseOrGoOn);
$("show-details").addEventListener("click", showTheDetails);
$("show-place").addEventListener("click", showThePlace);
$("close-place").addEventListener("click", () => $("place").close());
$("show-conditions").addEventListener("click", showTheConditions);
$("close-conditions").addEventListener("click", () => $("conditions").close());
for (const slider of sliders) {
  slider.addEventListener("input", () => {
    touched.add(slider.dataset.of);
    showSlider(slider);
  });
}
$("apply").addEventListener("click", () => {
  const moved = sliders.filter((slider) => touched.has(slider.dataset.of));
  if (moved.length === 0) return setText($("conditions-problem"), "Move a slider first.");
  change(Object.fromEntries(moved.map((slider) => [slider.dataset.of, Number(slider.value)])));
});
$("incident").addEventListener("click", () => change({ incident: !state.rehearsal.conditions.incident }));
$("as-in-step").addEventListener("click", () => change({ as_in_step: true }));
$("close-details").addEventListener("click", () => $("details").close());
$("reset").addEventListener("click", () => {
  $("confirm").showModal();
});
$("cancel").addEventListener("click", () => $("confirm").close());
$("do-reset").addEventListener("click", () => {
  $("confirm").close();
  post("v1/reset", { trial: state.trial });
});

connect();
