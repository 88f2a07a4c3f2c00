// Shows the states that the server sends. Names and labels come from the service, so they are only set as text, never as markup.

const $ = (id) => document.getElementById(id);
const watched = new URLSearchParams(location.search).get("trial"); // null: the current trial
let state = null; // the newest state
let spoken = null; // the decision that was announced last

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

const superscript = (number) =>
  String(number).replace(/[-\d]/g, (digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]);

// e to this power, as text, because it may be too large for a number.
function exponential(ln) {
  if (ln < Math.log(0.001)) return "<0.001";
  if (ln < Math.log(1e5)) return count(Number(Math.exp(ln).toPrecision(2)));
  const log10 = ln / Math.LN10 + Math.log10(1.05) / 2;
  return `10${superscript(Math.floor(log10))}`;
}

// ---- The parts of the page, from top to bottom. Each function draws the newest state.

function showHeader({ title, requests, rate, seconds, paused, trial, counting_since: since, process_started: started, trial_began: began }) {
  setText($("title"), title);
  const pace = paused ? "paused" : `${rate < 10 ? Number(rate.toFixed(1)) : count(Math.round(rate))}/s`;
  setText($("totals"), `${count(requests)} requests · ${pace} · ${clock(seconds)} · trial ${trial}`);
  const times = [
    began && `The trial counts since ${began}`,
    since && `requests are counted since ${since}`,
    started && started !== since && `the server has restarted at ${started}`,
  ];
  setText($("times"), `${times.filter(Boolean).join(" · ")}`);
  $("reset").setAttribute("aria-disabled", "false");
}

function showRehearsal({ rehearsal }) {
  $("rehearsal").hidden = rehearsal === null;
  if (rehearsal === null) return;
  const place = rehearsal.number > 0 ? `Step ${rehearsal.number} of ${rehearsal.of}: ` : "";
  setText($("step"), `${place}${rehearsal.title}`);
  setText($("text"), rehearsal.text);
  setText($("note"), rehearsal.note ?? "");
  const commands = rehearsal.commands.join("\n");
  if ($("commands").dataset.shown !== commands) {
    $("commands").dataset.shown = commands;
    $("commands").replaceChildren(...rehearsal.commands.map((command) => element("li", "", command)));
  }
  // not `disabled` and not hidden, because a keyboard user would lose the focus
  const is_over = rehearsal.next === null;
  $("next").setAttribute("aria-disabled", String(rehearsal.under_way || is_over));
  const told = is_over ? "That was the last step" : `Next: ${rehearsal.next}`;
  setText($("next"), rehearsal.under_way ? "Under way …" : told);
}

const WORDS = { promote: "Promote", roll_back: "Roll back", not_yet: "Not yet", hold: "Hold" };

function showVerdict({ decision, sentence, price_sentence }) {
  const word = WORDS[decision];
  // without the first word, which is shown in large letters above
  const rest = sentence.startsWith(`${word}: `) ? sentence.slice(word.length + 2) : sentence;
  const below = rest.charAt(0).toUpperCase() + rest.slice(1);
  $("verdict").dataset.decision = decision;
  setText($("word"), word);
  setText($("sentence"), below);
  setText($("price"), price_sentence ?? "");
  if (spoken !== decision) {
    spoken = decision;
    setText($("announcement"), `Verdict: ${word}. ${below}`);
    document.title = `${word} · canary`;
  }
}

function showSide(name, side, share_given) {
  const root = $(`side-${name}`);
  const part = (className) => root.querySelector(`.${className}`);
  const requests = side.success + side.failure;
  part("share").style.width = `${(side.share ?? 0) * 100}%`;
  part("expected").hidden = side.expected_share === null;
  part("expected").style.insetInlineStart = `${(side.expected_share ?? 0) * 100}%`;
  setText(part("share-text"), requests === 0 ? "no answer yet" : sharePercent(side.share));
  const told = share_given ? `given ${limitPercent(side.expected_share)}` : `expected ${sharePercent(side.expected_share)}`;
  const expected = side.expected_share === null ? "" : told;
  setText(part("expected-text"), expected);
  const latency = side.p50_ms === null ? "" : `p50 ${milliseconds(side.p50_ms)} · p99 ${milliseconds(side.p99_ms)}`;
  setText(part("latency"), latency);
  const slow = side.slow > 0 ? `, ${count(side.slow)} slow` : "";
  setText(part("failures"), requests === 0 ? "" : `${count(side.failure)} failed`);
  const bounds = `${percent(side.lower, Math.floor)} to ${percent(side.upper, Math.ceil)}`;
  setText(part("interval"), requests === 0 ? "" : `of ${count(requests)}${slow} · ${bounds}`);
  root.classList.toggle("some", side.failure > 0);
}

function showSides({ sides, share_given, unattributed, no_answer, causes }) {
  showSide("stable", sides.stable, share_given);
  showSide("canary", sides.canary, share_given);
  const parts = [];
  if (no_answer > 0) {
    const told = Object.entries(causes).map(([cause, times]) => `${count(times)} ${cause}`).join(", ");
    parts.push(`${count(no_answer)} without an answer${told && ` (${told})`}`);
  }
  if (unattributed > 0) parts.push(`${count(unattributed)} failed and name no release`);
  setText($("neither"), parts.join(" · "));
}

const hasAnswered = (sides) => Object.values(sides).some((side) => side.success + side.failure > 0);

const MARKS = {
  s: "stable", S: "stable-failed", c: "canary", C: "canary-failed", o: "other", O: "other-failed",
  u: "unnamed", U: "unnamed-failed", "!": "no-answer",
};
const LONGEST = 300; // the number of requests in a state

let columns = 1;

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
  if ($("requests").hidden) return;
  const wall = $("wall");
  const { width, height } = wall.getBoundingClientRect();
  const best = bestColumns({ width, height });
  // small changes of the size are left out, because all marks would move
  if (cellOf({ width, height }, best) > 1.2 * cellOf({ width, height }, columns)) columns = best;
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

// The trial's course. At its beginning the bounds are 0 and 1, and the evidence is 1.
function course(history) {
  return history[0]?.[0] > 0 ? [[0, null, 0, 1, null, 0, 1, 0], ...history] : history;
}

// The frame of a chart in pixels, with the positions of times and heights (0 to 1).
function frame(svg, history, left) {
  const { width, height } = svg.getBoundingClientRect();
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const box = { left: left * rem, right: width - rem, top: 0.6 * rem, bottom: height - 1.5 * rem, rem };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const began = history[0]?.[0] ?? 0;
  const ended = Math.max(history.at(-1)?.[0] ?? 0, began + 1);
  box.x = (seconds) => box.left + ((seconds - began) / (ended - began)) * (box.right - box.left);
  box.y = (part) => box.bottom - part * (box.bottom - box.top);
  const time = { y: height - 0.25 * rem };
  box.times = [
    draw("text", { ...time, x: box.left }, clock(began)),
    draw("text", { ...time, x: box.right, "text-anchor": "end" }, clock(ended)),
  ];
  return box;
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

function band(box, lower, upper) {
  const known = (points) => points.filter(([, part]) => part !== null);
  const outline = [...known(upper), ...known(lower).reverse()];
  return outline.length > 0 ? `${path(box, outline)}Z` : "";
}

const scaled = (points, scale) => points.map(([seconds, value]) => [seconds, value === null ? null : scale(value)]);

// The position of a rate on the axis: a cube root, so that both 0.1 % and 100 % can be read.
const RATES = [0, 1, 0.1, 0.01, 0.001];

function showRates({ history: seen, limit, sides }) {
  const svg = $("rate-chart");
  const history = course(seen);
  const box = frame(svg, history, 4.2);
  const column = (index) => scaled(history.map((point) => [point[0], point[index]]), Math.cbrt);
  const parts = [];
  // labels must not overlap
  const told = [limit];
  for (const rate of RATES) {
    const near = (other) => Math.abs(box.y(Math.cbrt(rate)) - box.y(Math.cbrt(other))) < 1.1 * box.rem;
    if (told.some(near)) continue;
    told.push(rate);
    parts.push(...level(box, Math.cbrt(rate), limitPercent(rate)));
  }
  const lines = { stable: 1, canary: 4 };
  for (const [name, first] of Object.entries(lines)) {
    parts.push(draw("path", { class: `band ${name}`, d: band(box, column(first + 1), column(first + 2)) }));
  }
  parts.push(...level(box, Math.cbrt(limit), limitPercent(limit), "limit", "strong"));
  const above = box.y(Math.cbrt(limit)) - 0.35 * box.rem;
  parts.push(draw("text", { class: "strong", x: box.left + 0.3 * box.rem, y: above }, "limit"));
  for (const [name, first] of Object.entries(lines)) {
    const rates = column(first);
    parts.push(draw("path", { class: `line ${name}`, d: path(box, rates) }));
    const last = rates.at(-1);
    const size = 1.2 * box.rem;
    const at = last && last[1] !== null ? { x: box.x(last[0]) - size / 2, y: box.y(last[1]) - size / 2 } : null;
    if (at) parts.push(draw("use", { href: `#${name}`, ...at, width: size, height: size }));
  }
  svg.replaceChildren(...parts, ...box.times);
  const bounds = Object.entries(sides).map(
    ([name, side]) => `${name} between ${percent(side.lower, Math.floor)} and ${percent(side.upper, Math.ceil)}`,
  );
  svg.setAttribute("aria-label", `Failure rate: ${bounds.join(", ")}; the limit is ${limitPercent(limit)}`);
}

// The time at which the line first reaches the threshold; null if it never does.
function crossing(points, threshold) {
  const after = points.findIndex(([, ln]) => ln !== null && ln >= threshold);
  if (after < 0) return null;
  const [ended, high] = points[after];
  const [began, low] = points[after - 1] ?? [ended, null];
  return low === null ? ended : began + ((ended - began) * (threshold - low)) / (high - low);
}

// The axis is logarithmic. It ends at the sixth power of the threshold: more evidence makes no difference.
function showEvidence({ history, evidence: { ln_e_value: now, ln_threshold: threshold } }) {
  const svg = $("evidence-chart");
  const known = course(history).map((point) => [point[0], point[7]]);
  const box = frame(svg, known, 4.2);
  const seen = known.map(([, ln]) => ln).filter((ln) => ln !== null);
  const highest = Math.min(Math.max(...seen, threshold) * 1.2, threshold * 6);
  const lowest = Math.max(Math.min(...seen, 0), -threshold);
  const part = (ln) => (Math.min(Math.max(ln, lowest), highest) - lowest) / (highest - lowest);
  const top = box.y(1);
  const line = box.y(part(threshold));
  const zone = { x: box.left, width: box.right - box.left, y: top, height: line - top };
  const parts = [draw("rect", { class: "beyond", ...zone })];
  const powers = Math.ceil((highest - lowest) / Math.LN10 / 4);
  for (let power = Math.ceil(lowest / Math.LN10 / powers) * powers; power * Math.LN10 <= highest; power += powers) {
    const at = power * Math.LN10;
    const near = Math.abs(box.y(part(at)) - line) < 1.1 * box.rem;
    const label = power > 4 || power < -2 ? `10${superscript(power)}` : count(Number((10 ** power).toPrecision(1)));
    if (!near) parts.push(...level(box, part(at), label));
  }
  parts.push(...level(box, part(threshold), exponential(threshold), "limit", "strong"));
  const said = { class: "strong", x: box.right - 0.3 * box.rem, y: line - 0.35 * box.rem, "text-anchor": "end" };
  parts.push(draw("text", said, "roll back (1/α)"));
  parts.push(draw("path", { class: "line ink", d: path(box, scaled(known, part)) }));
  const crossed = crossing(known, threshold);
  if (crossed !== null) {
    parts.push(draw("circle", { class: "crossing", cx: box.x(crossed), cy: line, r: 0.6 * box.rem }));
  }
  svg.replaceChildren(...parts, ...box.times);
  const value = now === null ? "–" : exponential(now);
  setText($("evidence-title"), `Evidence against the canary: ${value}`);
  svg.setAttribute("aria-label", `Evidence ${value}; the canary is rolled back from ${exponential(threshold)} on`);
}

// ---- Pods

const cards = new Map(); // by the pods' names

function card(name) {
  const root = element("li", "");
  const mark = draw("svg", { class: "mark", "aria-hidden": "true" });
  const side = draw("use", {});
  mark.append(side);
  const [counts, labels] = [element("span", "counts"), element("ul", "labels")];
  root.append(mark, element("span", "name", name), counts, labels);
  return { root, side, counts, labels };
}

function label(key, value, changed) {
  const item = element("li", changed ? "changed" : "", `${key}=${value}`);
  if (changed) item.append(element("span", "spoken", " (changed)"));
  return item;
}

function showPod(pod) {
  const known = cards.get(pod.name) ?? card(pod.name);
  cards.set(pod.name, known);
  known.root.classList.toggle("gone", !pod.present);
  const requests = count(pod.success + pod.failure);
  const told = pod.failure > 0 ? `${count(pod.failure)} of ${requests} failed` : `${requests} requests`;
  setText(known.counts, `${pod.present ? "" : "gone · "}${told}`);
  known.counts.classList.toggle("some", pod.failure > 0);
  const shown = JSON.stringify([pod.release, pod.namespace, pod.labels, pod.changed]);
  if (known.shown !== shown) {
    known.shown = shown;
    const isSide = ["stable", "canary"].includes(pod.release);
    known.side.setAttribute("href", `#${isSide ? pod.release : "other"}`);
    const all = [["release", pod.release], ["namespace", pod.namespace || "none"], ...Object.entries(pod.labels)];
    const items = all.map(([key, value]) => label(key, value, pod.changed.includes(key)));
    // the mark shows it already
    if (isSide && !pod.changed.includes("release")) items[0].className = "spoken";
    known.labels.replaceChildren(...items);
  }
  return known.root;
}

function showPods({ pods, more_pods, sides }) {
  $("pods").hidden = pods.length === 0 && hasAnswered(sides); // as with the wall
  const names = new Set(pods.map((pod) => pod.name));
  for (const [name, { root }] of cards) {
    if (!names.has(name)) {
      root.remove();
      cards.delete(name);
    }
  }
  const list = $("pod-list");
  pods.map(showPod).forEach((root, index) => {
    if (list.children[index] !== root) list.insertBefore(root, list.children[index] ?? null);
  });
  setText($("pods-title"), `Pods: ${count(pods.filter((pod) => pod.present).length)}`);
  setText($("more-pods"), more_pods > 0 ? `and ${count(more_pods)} more` : "");
}

// ---- Drawing

// The texts come first, because they decide how much space the charts get.
const PARTS = [showHeader, showRehearsal, showVerdict, showSides, showPods, showWall, showRates, showEvidence];
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

new ResizeObserver(drawSoon).observe($("rate-chart"));

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

// ---- Buttons

async function post(path, body) {
  const problem = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }).then(
    async (response) => {
      if (response.ok) return "";
      const told = await response.json().catch(() => ({}));
      return told.error ?? `The server answers with status ${response.status}.`;
    },
    () => "The server cannot be reached.",
  );
  setText($("message"), problem);
  $("message").hidden = problem === "";
}

const enabled = (button) => button.getAttribute("aria-disabled") !== "true";

$("next").addEventListener("click", () => {
  // with the step's number, so that a double click takes only one step
  if (enabled($("next"))) post("v1/step", { step: state.rehearsal.number + 1 });
});
$("reset").addEventListener("click", () => {
  if (enabled($("reset"))) $("confirm").showModal();
});
$("cancel").addEventListener("click", () => $("confirm").close());
$("do-reset").addEventListener("click", () => {
  $("confirm").close();
  post("v1/reset", { trial: state.trial });
});

connect();
