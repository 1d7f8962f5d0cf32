// A page of which the server sends each part anew when it has changed.
"use strict";

const REFUSED_WAIT_MS = 10000;
const live = document.getElementById("live");
const said = document.getElementById("said");

function partOf(html) {
  return new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
}

// How to find what has the focus in the part as it will be: by its id, or as the link that it is.
function focusIn(part) {
  const focused = document.activeElement;
  if (!part.contains(focused)) return null;
  if (focused.id) return `#${CSS.escape(focused.id)}`;
  const href = focused.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : ".wide";
}

// Whoever writes into a form or has opened something is not disturbed: parts hold neither but their own.
function show(name, html) {
  const old = document.getElementById(name);
  const part = partOf(html);
  if (!part || (old && old.outerHTML === part.outerHTML)) return;
  if (!old) {
    location.reload(); // a part that was not there: the key may see more now
    return;
  }
  const focused = focusIn(old);
  const scrolled = [...old.querySelectorAll(".wide")].map((wide) => wide.scrollLeft);
  const news = part.dataset.say !== old.dataset.say;
  old.replaceWith(document.adoptNode(part));
  [...part.querySelectorAll(".wide")].forEach((wide, at) => { wide.scrollLeft = scrolled[at] || 0; });
  if (focused !== null) {
    const place = part.querySelector(focused) || document.querySelector("h1");
    place.focus({ preventScroll: true });
  }
  if (news) said.textContent = part.dataset.say;
}

function follow() {
  const events = new EventSource(live.dataset.events);
  events.addEventListener("parts", (event) => {
    for (const [name, html] of Object.entries(JSON.parse(event.data))) show(name, html);
  });
  events.addEventListener("over", () => {
    events.close();
    location.reload(); // leads here again after a sign-in
  });
  // A cut connection is made again by the browser. A refusal is not: signed out, or too many follow already.
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) window.setTimeout(follow, REFUSED_WAIT_MS);
  });
}

follow();
