// The front page: several files, chosen or dropped, are sent one after the other with their progress shown.
// Without it the form sends one file by itself.
"use strict";

const LOOK_EVERY_MS = 3000;
const form = document.getElementById("send");
const said = document.getElementById("said");
const sending = document.getElementById("sending");

function say(text) {
  said.textContent = text;
}

function made(name, parent, text = "") {
  const found = document.createElement(name);
  found.textContent = text;
  parent.append(found);
  return found;
}

// A line of the list for one file, with what is happening to it.
function line(file) {
  const item = made("li", sending);
  made("span", item, file.name).className = "name";
  const bar = made("progress", item);
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `${file.name} on its way`);
  const state = made("span", item, "Waits to be sent");
  sending.hidden = false;
  return { item, bar, state };
}

function refuse(shown, file, title, remedy) {
  shown.bar.remove();
  shown.state.className = "bad";
  shown.state.textContent = `${title}. ${remedy}`;
  say(`${file.name}: ${title}. ${remedy}`);
}

function read(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return {};
  }
}

// The form's fields and the file, in the order in which the server reads them: the file comes last.
function body(file) {
  const fields = new FormData(form);
  fields.delete("file");
  fields.append("file", file);
  return fields;
}

function send(file, shown) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.upload.onprogress = (event) => {
      if (!event.lengthComputable) return;
      shown.bar.value = event.loaded / event.total;
      shown.state.textContent = `${Math.floor((100 * event.loaded) / event.total)} % sent`;
    };
    request.onload = () => {
      const answer = read(request);
      if (request.status < 300 && answer.place) {
        done(answer);
        return;
      }
      const title = [answer.title || "The file was refused", ...(answer.details || [])].join(": ");
      refuse(shown, file, title, answer.remedy || "Try again.");
      done(null);
    };
    request.onerror = () => {
      refuse(shown, file, "The connection was cut", "The server is away or refused the file while it was sent. Try again.");
      done(null);
    };
    request.send(body(file));
  });
}

function taken(shown, file, answer) {
  shown.bar.remove();
  shown.state.textContent = answer.known ? "Imported before: " : "Arrived: ";
  const link = made("a", shown.state, "see its import");
  link.href = answer.place;
  say(`${file.name} has arrived`);
}

async function sendAll(files) {
  const button = form.querySelector("button[type=submit]");
  const most = Number(form.dataset.maxBytes);
  const lines = files.map(line);
  button.disabled = true;
  for (const [at, file] of files.entries()) {
    const shown = lines[at];
    if (file.size > most) {
      refuse(shown, file, "The file is too large", document.getElementById("file-hint").textContent.trim());
      continue;
    }
    say(`Sending ${file.name}`);
    const answer = await send(file, shown);
    if (answer && files.length === 1) {
      location.assign(answer.place);
      return;
    }
    if (answer) taken(shown, file, answer);
  }
  button.disabled = false;
  form.elements.file.value = "";
  await lookAgain();
}

function isReady() {
  const { dataset, other } = form.elements;
  const one = Boolean(dataset.value) !== Boolean(other.value.trim());
  dataset.setCustomValidity(one ? "" : "Choose a data set or give another name: one of the two.");
  return form.reportValidity();
}

function acceptDrops() {
  const place = document.getElementById("drop");
  const input = form.elements.file;
  let depth = 0;
  const over = (change) => {
    depth = change ? depth + change : 0;
    place.classList.toggle("over", depth > 0);
  };
  // A file that misses the place must not take the page's.
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => event.preventDefault());
  place.addEventListener("dragenter", () => over(1));
  place.addEventListener("dragleave", () => over(-1));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    over(0);
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    say(`${input.files.length === 1 ? input.files[0].name : `${input.files.length} files`} chosen`);
  });
}

// The list as the server shows it now; not while somebody is in it.
async function lookAgain() {
  const old = document.getElementById("history");
  if (!old || !("fresh" in old.dataset) || document.hidden || old.contains(document.activeElement)) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("history");
    if (answer.ok && fresh) old.replaceWith(document.adoptNode(fresh));
  } catch {
    // The server is away; the next look may find it.
  }
}

if (form) {
  form.elements.file.multiple = true;
  document.querySelector("label[for=file]").textContent = "Files";
  for (const hint of form.querySelectorAll(".scripted")) hint.hidden = false;
  acceptDrops();
  for (const name of ["dataset", "other"]) {
    form.elements[name].addEventListener("input", () => form.elements.dataset.setCustomValidity(""));
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (isReady()) sendAll([...form.elements.file.files]);
  });
}
window.setInterval(() => {
  if (document.querySelector("#history [data-open]")) lookAgain();
}, LOOK_EVERY_MS);
