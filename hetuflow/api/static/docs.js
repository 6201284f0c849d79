"use strict";
// Renders /docs/openapi.json. No library, no request to any other place; all text goes in as text, never as markup.

const METHODS = ["get", "post", "put", "delete"];
let api = null;

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

// `code` in texts between backquotes.
function prose(text) {
  return String(text).split(/(`[^`]*`)/).filter(Boolean).map((part) =>
    part.length > 1 && part.startsWith("`") && part.endsWith("`") ? element("code", {}, part.slice(1, -1)) : part);
}

function nameOf(reference) {
  return reference.split("/").pop();
}

function resolved(schema) {
  return schema && schema.$ref ? api.components.schemas[nameOf(schema.$ref)] || {} : schema || {};
}

// One line: "string | null", "array of SchedJob", "integer ≥ 0".
function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return "any JSON value";
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  let text = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type || "any JSON value";
  if (schema.type === "array") text = "array of " + typeOf(schema.items);
  if (schema.format) text += " (" + schema.format + ")";
  const bounds = [];
  if (schema.minimum !== undefined) bounds.push("≥ " + schema.minimum);
  if (schema.exclusiveMinimum !== undefined) bounds.push("> " + schema.exclusiveMinimum);
  if (schema.maximum !== undefined && schema.maximum < 2 ** 53 - 1) bounds.push("≤ " + schema.maximum);
  if (schema.minLength !== undefined) bounds.push("at least " + schema.minLength + " characters");
  if (schema.maxLength !== undefined) bounds.push("at most " + schema.maxLength + " characters");
  return bounds.length ? text + ", " + bounds.join(", ") : text;
}

// The object schemas worth opening below a line: what it refers to, or has inline.
function inner(schema) {
  if (!schema) return [];
  if (schema.$ref) return [schema];
  if (schema.anyOf) return schema.anyOf.flatMap(inner);
  if (schema.type === "array") return inner(schema.items);
  return schema.properties ? [schema] : [];
}

// Opened on demand: schemas refer to each other, and the page stays small.
function lazily(title, className, build) {
  const details = element("details", { class: className }, element("summary", {}, title));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(build());
  });
  return details;
}

function schemaBlock(schema) {
  const title = schema.$ref ? nameOf(schema.$ref) : "members";
  return lazily(title, "schema", () => element("div", {}, members(resolved(schema))));
}

function members(schema) {
  if (!schema.properties) {
    const opened = inner(schema);
    return element("div", {}, element("p", { class: "type" }, typeOf(schema)), opened.map(schemaBlock));
  }
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties).map(([name, member]) => {
    const notes = [];
    if (member.description) notes.push(element("div", {}, prose(member.description)));
    if (member.default !== undefined) notes.push(element("div", { class: "type" }, "default: " + JSON.stringify(member.default)));
    return element("tr", {},
      element("td", {}, element("code", {}, name), required.has(name) ? element("span", { class: "required", title: "required" }, " *") : null),
      element("td", {}, element("span", { class: "type" }, typeOf(member)), notes, inner(member).map(schemaBlock)));
  });
  const parts = [];
  if (schema.description) parts.push(element("p", { class: "note" }, prose(schema.description)));
  parts.push(element("table", {}, element("tbody", {}, rows)));
  if (schema.additionalProperties === true) parts.push(element("p", { class: "note" }, "Other members are kept."));
  return element("div", {}, parts);
}

function table(headings, rows) {
  return element("table", {},
    element("thead", {}, element("tr", {}, headings.map((text) => element("th", {}, text)))),
    element("tbody", {}, rows.map((cells) => element("tr", {}, cells.map((cell) => element("td", {}, cell))))));
}

function curl(method, path, operation) {
  const parts = ["curl"];
  if (method !== "get") parts.push("-X " + method.toUpperCase());
  parts.push("'" + location.origin + path + "'");
  const example = exampleOf(operation);
  if (example !== undefined) parts.push("-H 'Content-Type: application/json'", "-d '" + JSON.stringify(example).replaceAll("'", "'\\''") + "'");
  return parts.join(" ");
}

function exampleOf(operation) {
  return operation.requestBody ? operation.requestBody.content["application/json"].example : undefined;
}

function details(method, path, operation) {
  const parts = [];
  if (operation.parameters.length) {
    parts.push(element("h3", {}, "Parameters"), table(["name", "in", "type", ""], operation.parameters.map((parameter) => [
      element("code", {}, parameter.name), parameter.in,
      element("span", { class: "type" }, typeOf(parameter.schema)),
      element("span", {}, parameter.description ? prose(parameter.description) : ""),
    ])));
  }
  if (operation.requestBody) {
    const schema = operation.requestBody.content["application/json"].schema;
    parts.push(element("h3", {}, "Request body", operation.requestBody.required ? "" : " (optional)"), members(resolved(schema)));
    const example = exampleOf(operation);
    if (example !== undefined) parts.push(element("h3", {}, "Example"), element("pre", {}, JSON.stringify(example, null, 2)));
  }
  parts.push(element("h3", {}, "Answers"));
  for (const [status, answer] of Object.entries(operation.responses)) {
    const schema = Object.values(answer.content || {})[0];
    const line = element("p", {}, element("code", {}, status), " ", answer.description);
    if (status === "200" && schema) parts.push(line, members(schema.schema.$ref ? resolved(schema.schema) : schema.schema));
  }
  const others = Object.entries(operation.responses).filter(([status]) => status !== "200");
  parts.push(element("p", { class: "note" }, "Otherwise: ", others.map(([status, answer]) => status + " " + answer.description).join(", "), "."));
  parts.push(schemaBlock({ $ref: "#/components/schemas/Error" }));
  parts.push(element("h3", {}, "With curl"), element("pre", {}, curl(method, path, operation)));
  return element("div", {}, parts);
}

function operationBlock(method, path, operation) {
  const summary = element("summary", {},
    element("span", { class: "number" }, operation.operationId.split("_")[0]),
    element("span", { class: "method " + method }, method.toUpperCase()),
    element("span", { class: "path" }, path),
    element("span", { class: "words" }, operation.summary));
  const block = element("details", { class: "operation", id: operation.operationId }, summary);
  block.addEventListener("toggle", () => {
    if (block.open && block.childElementCount === 1) block.append(details(method, path, operation));
  });
  block.dataset.words = [operation.operationId, method, path, operation.summary].join(" ").toLowerCase();
  return block;
}

function render() {
  const contents = document.getElementById("contents");
  const main = document.getElementById("operations");
  main.replaceChildren();
  document.getElementById("version").textContent = api.info.version;
  if (api.info.description) main.append(element("p", { class: "note" }, prose(api.info.description)));
  for (const tag of api.tags) {
    const found = Object.entries(api.paths).flatMap(([path, methods]) =>
      METHODS.filter((method) => methods[method] && methods[method].tags.includes(tag.name)).map((method) => [method, path, methods[method]]));
    if (!found.length) continue;
    main.append(element("section", {},
      element("h2", {}, tag.name), element("p", { class: "note" }, prose(tag.description || "")),
      found.map((row) => operationBlock(...row))));
    contents.append(element("h3", {}, tag.name), ...found.filter((row) => !row[2].operationId.includes("_")).map(([, , operation]) =>
      element("a", { href: "#" + operation.operationId }, operation.summary)));
  }
  openTarget();
}

function openTarget() {
  const block = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (block && block.tagName === "DETAILS") {
    block.open = true;
    block.scrollIntoView();
  }
}

function search(event) {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const block of document.querySelectorAll("details.operation")) {
    block.classList.toggle("hidden", !words.every((word) => block.dataset.words.includes(word)));
  }
  for (const section of document.querySelectorAll("main section")) {
    section.classList.toggle("hidden", !section.querySelector("details.operation:not(.hidden)"));
  }
}

async function start() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("/docs/openapi.json");
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    api = await answer.json();
  } catch (error) {
    state.textContent = "The description could not be loaded: " + error.message;
    return;
  }
  render();
  document.getElementById("search").addEventListener("input", search);
  window.addEventListener("hashchange", openTarget);
}

start();
