"use strict";
// Names of files and labels are strangers' text: they become text, never markup.
const at = (id) => document.getElementById(id);
let index = "";
let uploaded = null;
let newest = 0;

const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error || `The server said ${response.status}.`);
  return found;
}

// Only the newest question may change the page.
async function show(question, draw) {
  const turn = ++newest;
  say("Looking …");
  try {
    const started = performance.now();
    const found = await question();
    if (turn !== newest) return;
    draw(found, Math.round(performance.now() - started));
  } catch (error) {
    if (turn !== newest) return;
    at("results").replaceChildren();
    say(error.message, true);
  }
}

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function card(hit) {
  const button = element("button", "", { type: "button", title: "Search from this image" });
  const picture = element("img", "", {
    src: `/images/${hit.row}?index=${index}`, alt: "", loading: "lazy",
  });
  picture.addEventListener("error", () => {
    picture.replaceWith(element("span", "not there any more", { class: "none" }));
  });
  const text = element("span", "", { class: "text" });
  text.append(element("b", `distance ${hit.distance}${
    hit.similarity === null ? "" : ` · cosine ${hit.similarity.toFixed(3)}`}`), element("span", hit.id));
  if (hit.labels.length) text.append(element("small", hit.labels.join(", ")));
  button.append(picture, text);
  const of = index;
  button.addEventListener("click", () => { location.hash = `row=${hit.row}&index=${of}`; });
  const item = element("li");
  item.append(button);
  return item;
}

function list(hits) {
  const made = element("ol");
  made.append(...hits.map(card));
  return made;
}

function drawSearch(found, milliseconds) {
  index = found.index;
  at("results").replaceChildren(list(found.results));
  if (found.query) drawQuery(`/images/${found.query.row}?side=large&index=${index}`,
    [found.query.id, ...found.query.labels].join(" · "));
  say(`${plural(found.results.length, "image")} in ${milliseconds} ms, nearest first. `
    + "Choose one to search from it.");
}

function drawQuery(source, name) {
  const old = at("picture").src;
  at("picture").src = source;
  if (old.startsWith("blob:") && old !== source) URL.revokeObjectURL(old);
  at("name").textContent = name;
  at("query").hidden = false;
}

function wanted() {
  const k = Number(at("k").value);
  const made = { k: Number.isInteger(k) ? k : 24 };
  if (at("label").value) made.labels = [at("label").value];
  if (at("path").value) made.paths = [at("path").value];
  return made;
}

function searchFile(file) {
  uploaded = file;
  if (location.hash) history.pushState(null, "", location.pathname);
  drawQuery(URL.createObjectURL(file), file.name);
  const asked = wanted();
  const query = new URLSearchParams({ k: asked.k });
  for (const label of asked.labels || []) query.append("label", label);
  for (const path of asked.paths || []) query.append("path", path);
  const known = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  return show(() => ask(`/search?${query}`, {
    method: "POST", body: file, headers: { "content-type": known },
  }), drawSearch);
}

function searchRow(row, of) {
  uploaded = null;
  return show(() => ask("/search", {
    method: "POST", body: JSON.stringify({ row, ...(of ? { index: of } : {}), ...wanted() }),
    headers: { "content-type": "application/json" },
  }), (found, milliseconds) => {
    drawSearch(found, milliseconds);
    at("query").scrollIntoView({ block: "nearest" });
  });
}

function duplicates(distance) {
  uploaded = null;
  at("query").hidden = true;
  return show(() => ask(`/duplicates?distance=${encodeURIComponent(distance)}`), (found) => {
    index = found.index;
    const parts = found.shown.flatMap((group) => {
      const some = group.images.length < group.size ? `, ${group.images.length} shown` : "";
      return [element("h2", `${plural(group.size, "image")}${some}`), list(group.images)];
    });
    at("results").replaceChildren(...parts);
    const some = found.shown.length < found.groups ? "; the largest are shown" : "";
    say(`${plural(found.groups, "group")} of images with like codes${some}.`);
  });
}

// The address says what is shown, so that the back button works.
function follow() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("row")) return searchRow(Number(asked.get("row")), asked.get("index"));
  if (asked.has("duplicates")) return duplicates(asked.get("duplicates"));
}

function again() {
  if (uploaded) return searchFile(uploaded);
  if (location.hash.startsWith("#row")) return follow();
}

at("file").addEventListener("change", () => {
  if (at("file").files.length) searchFile(at("file").files[0]);
  at("file").value = "";
});
at("duplicates").addEventListener("click", () => {
  const hash = `#duplicates=${at("distance").value || 0}`;
  if (location.hash === hash) follow(); else location.hash = hash;
});
at("form").addEventListener("submit", (event) => { event.preventDefault(); again(); });
for (const id of ["label", "path", "k"]) at(id).addEventListener("change", again);
window.addEventListener("hashchange", follow);
window.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
window.addEventListener("dragleave", () => document.body.classList.remove("over"));
window.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) searchFile(event.dataTransfer.files[0]);
});
window.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) searchFile(event.clipboardData.files[0]);
});

ask("/about").then((about) => {
  at("about").textContent = `${plural(about.images, "image")}, codes of ${about.bits} bits, `
    + `${about.kind} index, model ${about.model}`;
  at("distance").max = about.bits - 1;
  at("labels").replaceChildren(...about.labels.map(
    (label) => element("option", String(label.images), { value: label.name })));
  if (!about.labels.length) at("label").parentElement.hidden = true;
}).catch((error) => say(error.message, true));
follow();
