// An import's page: its counts follow the server's events, and what its state decides is fetched anew.
"use strict";

const SAY_EVERY_MS = 10000;
const REFUSED_WAIT_MS = 10000;
const said = document.getElementById("said");
let saidAt = Date.now();

function say(text) {
  said.textContent = text;
  saidAt = Date.now();
}

function stateOf(job) {
  return [job.status, job.attempts, job.cancel_requested].join(" ");
}

function shownState() {
  const { status, attempts, cancel } = document.getElementById("job").dataset;
  return [status, attempts, cancel].join(" ");
}

function showCounts(job) {
  for (const place of document.querySelectorAll("[data-count]")) {
    place.textContent = job[place.dataset.count].toLocaleString("en");
  }
  if (job.status === "PROCESSING" && Date.now() - saidAt > SAY_EVERY_MS) {
    say(`${job.rows_read.toLocaleString("en")} rows read`);
  }
}

// The page as the server shows it now, in place of the old; whoever was in a part that is gone is at the title.
async function showAgain() {
  const answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
  if (answer.status === 401) location.reload(); // leads here again after a sign-in
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const old = document.getElementById("job");
  const focused = old.contains(document.activeElement) ? document.activeElement.id : null;
  old.replaceWith(document.adoptNode(page.getElementById("job")));
  if (focused !== null) (document.getElementById(focused) || document.getElementById("job-title")).focus();
  say(document.getElementById("state").textContent);
}

let queue = Promise.resolve();

function hear(event) {
  const job = JSON.parse(event.data);
  queue = queue.then(async () => {
    if (stateOf(job) === shownState()) {
      showCounts(job);
    } else {
      await showAgain().catch(() => {});
    }
  });
}

function follow() {
  const address = document.getElementById("job").dataset.events;
  if (!address) return;
  const events = new EventSource(address);
  events.addEventListener("progress", hear);
  events.addEventListener("end", (event) => {
    events.close();
    hear(event);
  });
  // A cut connection is made again by the browser. A refusal is not: signed out, or too many follow already.
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) window.setTimeout(followAgain, REFUSED_WAIT_MS);
  });
}

async function followAgain() {
  await showAgain().catch(() => {});
  follow();
}

follow();
