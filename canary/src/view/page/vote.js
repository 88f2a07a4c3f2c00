// Asks what the vote is about, and sends the vote. The server knows a phone by its cookie.

const $ = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("button")];
const EVERY = 2000; // the time between two questions, in milliseconds
const TOO_SOON = 1100; // a vote may be changed once a second

let question = null; // the newest one
let asking = null; // the timer of the next question
let sent = 0; // the number of the last request, so that an older answer does not replace a newer one

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// `cause` is what failed: a vote, or a question.
function tellProblem(text, cause) {
  setText($("problem"), text);
  $("problem").hidden = text === "";
  $("problem").dataset.cause = cause;
}

function show(before) {
  const { round, step, title, canary, yours } = question;
  const isOpen = round !== null;
  if (before?.round !== round) tellProblem("", "");
  setText($("step"), step === 0 ? "The lesson has not begun." : `Step ${step}: ${title}`);
  const count = (number) => number.toLocaleString("en");
  setText($("canary"), step === 0 ? "" : canary.answers === 0 ? "No canary has answered yet."
    : `The canary has failed ${count(canary.failures)} of ${count(canary.answers)}.`);
  for (const button of buttons) {
    // not `disabled`, because a keyboard user would lose the focus
    button.setAttribute("aria-disabled", String(!isOpen));
    button.setAttribute("aria-pressed", String(button.dataset.choice === yours));
  }
  const own = buttons.find((button) => button.dataset.choice === yours)?.textContent;
  setText($("told"), isOpen
    ? own ? `You vote: ${own}. You may change it until the judge is shown.` : "Vote now: tap one of the three."
    : own ? `The vote is closed. You voted: ${own}. Look at the screen.` : "There is no vote at the moment. Look at the screen.");
}

// One request: the question itself, or a vote.
async function ask(vote) {
  clearTimeout(asking);
  const number = ++sent;
  const cause = vote === null ? "question" : "vote";
  const body = vote && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(vote) };
  try {
    const response = await fetch("v1/vote", { ...body, signal: AbortSignal.timeout(8000) });
    const told = await response.json().catch(() => ({}));
    if (response.status === 429 && vote !== null && number === sent) {
      // changed too fast: the last tap counts a moment later
      asking = setTimeout(() => ask(vote), TOO_SOON);
      return;
    }
    if (!response.ok) {
      tellProblem(told.error ?? `The server answers with status ${response.status}.`, cause);
    } else if (number === sent) {
      const before = question;
      question = told;
      show(before);
      // a vote that was refused is told until the next one
      if (cause === "vote" || $("problem").dataset.cause !== "vote") tellProblem("", "");
    }
  } catch {
    tellProblem("The teacher's computer cannot be reached. Trying again.", "question");
    if (vote !== null && number === sent) {
      // it may not have arrived, and twice the same is one vote
      asking = setTimeout(() => ask(vote), EVERY);
      return;
    }
  }
  if (number === sent) asking = setTimeout(askUnlessHidden, EVERY);
}

// A phone in a pocket asks nothing.
function askUnlessHidden() {
  if (!document.hidden) ask(null);
}

document.addEventListener("visibilitychange", askUnlessHidden);
for (const button of buttons) {
  button.addEventListener("click", () => {
    if (question?.round != null) ask({ round: question.round, choice: button.dataset.choice });
  });
}
ask(null);
