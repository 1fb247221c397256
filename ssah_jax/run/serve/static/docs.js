"use strict";
const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
for (const place of document.querySelectorAll(".here")) place.textContent = location.origin;
fetch("/openapi.json").then((response) => response.json()).then((document_) => {
  document.getElementById("about").textContent = document_.info.description;
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      const schema = element("pre", JSON.stringify(about, null, 2));
      const details = document.createElement("details");
      details.append(element("summary", "Parameters and answers"), schema);
      document.getElementById("paths").append(
        element("h2", `${method.toUpperCase()} ${path}`), element("p", about.summary), details);
    }
  }
  const schemas = document.createElement("details");
  schemas.append(element("summary", "Schemas"),
    element("pre", JSON.stringify(document_.components.schemas, null, 2)));
  document.getElementById("paths").append(element("h2", "Objects"), schemas);
});
