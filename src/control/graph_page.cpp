// SPDX-License-Identifier: Apache-2.0
// The graph as an HTML page: markup, style and script in one string, with the graph as JSON in it.
#include "trireme/base/printable.hpp"
#include "trireme/control/graph.hpp"

namespace trireme::control {
namespace {

/// The page is kHead, the graph as JSON, and kTail. Its script sets text by textContent only, so
/// that names of workloads cannot inject markup.
constexpr const char* kHead = R"page(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>trireme: who can talk to whom</title>
<style>
body { font: 14px/1.4 sans-serif; margin: 0; color: #222; background: #fff; }
header { padding: 10px 16px; border-bottom: 1px solid #ccc; display: flex; gap: 16px; align-items: baseline; flex-wrap: wrap; }
h1 { font-size: 16px; margin: 0; }
#search { flex: 1; min-width: 220px; padding: 5px 8px; font: inherit; }
main { display: flex; align-items: flex-start; }
#nodes { width: 300px; margin: 0; padding: 8px 0; list-style: none; max-height: 88vh; overflow: auto; border-right: 1px solid #ccc; flex: none; }
#nodes li { padding: 4px 16px; cursor: pointer; overflow-wrap: anywhere; }
#nodes li.chosen { background: #dbe8ff; }
#nodes small, #legend { color: #666; }
section { flex: 1; padding: 12px 16px; min-width: 0; }
svg { width: 100%; height: 420px; border: 1px solid #eee; }
svg text { font: 11px sans-serif; }
svg .faded { opacity: .08; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 4px 8px; border-bottom: 1px solid #eee; vertical-align: top; overflow-wrap: anywhere; }
.allow { color: #137333; } .audit { color: #a56300; } .deny { color: #c5221f; }
label { white-space: nowrap; }
</style></head><body>
<header><h1 id="title"></h1><input id="search" type="search" placeholder="search names, labels, ports, rules" autofocus>
<label><input type="checkbox" id="may" checked> allowed</label><label><input type="checkbox" id="did" checked> seen</label>
<span id="count"></span></header>
<main><ul id="nodes"></ul><section>
<svg id="picture" viewBox="0 0 1000 420" role="img" aria-label="graph"></svg>
<p id="legend">Gray: allowed, not seen. Green: allowed and seen. Orange: seen, would be denied. Red: denied. Select a name to show only its connections.</p>
<table><thead><tr><th>from</th><th>to</th><th>allowed</th><th>seen</th><th>rules</th></tr></thead><tbody id="edges"></tbody></table>
</section></main>
<script type="application/json" id="graph">)page";

constexpr const char* kTail = R"page(</script>
<script>
"use strict";
const graph = JSON.parse(document.getElementById("graph").textContent);
const byId = (id) => document.getElementById(id);
byId("title").textContent = graph.title;
let chosen = -1;

function made(name, text, style) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (style) element.className = style;
  return element;
}
function drawn(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
function color(edge) {
  const verdicts = edge.did.map((use) => use.verdict);
  return verdicts.includes("deny") ? "#c5221f" : verdicts.includes("audit") ? "#d98200" : verdicts.length ? "#137333" : "#aaa";
}
const words = graph.edges.map((edge) => [graph.nodes[edge.from], graph.nodes[edge.to]].map((node) =>
  [node.text, ...node.members, ...node.parties].join(" ")).concat(edge.may, edge.rules,
  edge.did.map((use) => use.verdict + " " + use.ports)).join(" ").toLowerCase());
const nodeWords = graph.nodes.map((node) => [node.text, ...node.members, ...node.parties].join(" ").toLowerCase());

function visible() {
  const terms = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return graph.edges.map((edge, i) => i).filter((i) => {
    const edge = graph.edges[i];
    const kind = (byId("may").checked && edge.may) || (byId("did").checked && edge.did.length);
    return kind && (chosen < 0 || edge.from === chosen || edge.to === chosen) && terms.every((term) => words[i].includes(term));
  });
}

// Sources left, destinations right, in the order of the list. The first 60 nodes only: the table has all connections.
function picture(edges) {
  const svg = byId("picture");
  svg.replaceChildren();
  const used = [...new Set(edges.flatMap((i) => [graph.edges[i].from, graph.edges[i].to]))].sort((a, b) => a - b).slice(0, 60);
  const height = Math.max(420, used.length * 18 + 20);
  svg.setAttribute("viewBox", `0 0 1000 ${height}`);
  svg.style.height = height + "px";
  const place = new Map(used.map((node, i) => [node, 20 + (i + .5) * (height - 30) / used.length]));
  for (const i of edges) {
    const edge = graph.edges[i];
    if (!place.has(edge.from) || !place.has(edge.to)) continue;
    const [y1, y2] = [place.get(edge.from), place.get(edge.to)];
    svg.append(drawn("path", {d: `M330 ${y1} C500 ${y1} 500 ${y2} 670 ${y2}`, fill: "none", stroke: color(edge), "stroke-width": edge.did.length ? 2 : 1}));
  }
  for (const node of used) {
    const text = graph.nodes[node].text;
    const short = text.length > 46 ? text.slice(0, 45) + "…" : text;
    svg.append(drawn("text", {x: 322, y: place.get(node) + 4, "text-anchor": "end"}, short));
    svg.append(drawn("text", {x: 678, y: place.get(node) + 4}, short));
  }
}

function show() {
  const edges = visible();
  byId("count").textContent = `${edges.length} of ${graph.edges.length} connection${graph.edges.length === 1 ? "" : "s"}`;
  const rows = edges.slice(0, 1000).map((i) => {
    const edge = graph.edges[i];
    const row = made("tr");
    row.append(made("td", graph.nodes[edge.from].text), made("td", graph.nodes[edge.to].text), made("td", edge.may || "–"));
    const did = made("td");
    for (const use of edge.did) did.append(made("div", `${use.verdict} ${use.ports} ×${use.count}`, use.verdict));
    row.append(did, made("td", edge.rules.join("; ")));
    return row;
  });
  byId("edges").replaceChildren(...rows);
  picture(edges);
  const terms = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const near = new Set(edges.flatMap((i) => [graph.edges[i].from, graph.edges[i].to]));
  byId("nodes").replaceChildren(...graph.nodes.map((node, i) => i).filter((i) => i === chosen || near.has(i) ||
    terms.every((term) => nodeWords[i].includes(term))).map((i) => {
    const node = graph.nodes[i];
    const item = made("li", node.text, i === chosen ? "chosen" : "");
    if (node.workloads) item.append(made("br"), made("small", node.members.join(", ") + (node.workloads > node.members.length ? " …" : "")));
    item.onclick = () => { chosen = chosen === i ? -1 : i; show(); };
    return item;
  }));
}
for (const id of ["search", "may", "did"]) byId(id).addEventListener("input", show);
if (location.hash.length > 1) byId("search").value = decodeURIComponent(location.hash.slice(1));
show();
</script></body></html>
)page";

/// A name that changes the direction of text would look like another one in the browser.
void replace_control_characters(nlohmann::json& value) {
  if (value.is_string()) {
    value = printable(value.get<std::string>());
  } else if (value.is_structured()) {
    for (nlohmann::json& each : value) {
      replace_control_characters(each);
    }
  }
}

}  // namespace

std::string graph_page(const policy::Graph& graph, const std::string& title) {
  nlohmann::json value = to_json(graph);
  replace_control_characters(value);
  value["title"] = title;
  std::string data = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  // Escape every '<', because "</" and "<!--" have a meaning inside a script element.
  for (std::size_t at = data.find('<'); at != std::string::npos; at = data.find('<', at)) {
    data.replace(at, 1, "\\u003c");
  }
  return kHead + data + kTail;
}

}  // namespace trireme::control
