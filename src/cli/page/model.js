// SPDX-License-Identifier: Apache-2.0
// What the page knows, and which part of it is shown. Text of others (labels, names, rules) is only
// ever set by textContent.

const byId = (id) => document.getElementById(id);
const counted = (count, one, many = one + "s") => `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;
const kRank = {deny: 0, audit: 1, allow: 2, open: 3};

// The data in the page, or the newest that the server has sent.
const known = JSON.parse(byId("data").textContent);
// `node`: its id; `pair`: the names of two groups. The table has their connections only.
const choice = {terms: [], states: new Set(Object.keys(kRank)), group: "", detail: "auto", node: null, pair: null};

function make(name, text, style) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (style) element.className = style;
  return element;
}

const wordsOfNode = (node) => [node.text, ...Object.entries(node.labels).map(([key, value]) => `${key}=${value}`),
  ...node.members, ...node.parties].join("\n").toLowerCase();
const wordsOfEdge = (edge) => [edge.may, ...edge.rules, edge.state, ...edge.did.map((use) => `${use.verdict} ${use.ports}`)]
  .join("\n").toLowerCase();
const wordsOfDenial = (denial) => [denial.from, denial.to, denial.from_end, denial.to_end, denial.port, denial.verdict, denial.rule, denial.reason]
  .join("\n").toLowerCase();
const matches = (words) => choice.terms.every((term) => words.includes(term));

/// Prepares a map that has just arrived: edges refer to their nodes, and both have their words.
function prepare(map) {
  for (const node of map.nodes) node.words = wordsOfNode(node);
  for (const edge of map.edges) {
    edge.source = map.nodes[edge.from];
    edge.target = map.nodes[edge.to];
    edge.words = [edge.source.words, edge.target.words, wordsOfEdge(edge)].join("\n");
    edge.key = `${edge.source.id}\n${edge.target.id}`;
  }
  return map;
}

const hasAllStates = () => choice.states.size === Object.keys(kRank).length;
const isFiltered = () => choice.terms.length > 0 || !hasAllStates();

/// The nodes and edges that search and filter leave, and the edges of each node. A node that matches is shown without its
/// edges too; an edge that matches is shown with both of its nodes.
function visible(map) {
  const edges = map.edges.filter((edge) => choice.states.has(edge.state) && matches(edge.words));
  const ends = new Set(edges.flatMap((edge) => [edge.source, edge.target]));
  const all = hasAllStates();
  const nodes = map.nodes.filter((node) => ends.has(node) || (all && matches(node.words)));
  const byNode = new Map(nodes.map((node) => [node, []]));
  for (const edge of edges) {
    byNode.get(edge.source).push(edge);
    if (edge.target !== edge.source) byNode.get(edge.target).push(edge);
  }
  return {nodes, edges, byNode};
}

/// Label keys with the number of different values and of nodes that have the key.
function keysOf(nodes) {
  const keys = new Map();
  for (const node of nodes) {
    for (const [key, value] of Object.entries(node.labels)) {
      if (!keys.has(key)) keys.set(key, {values: new Set(), nodes: 0});
      keys.get(key).values.add(value);
      keys.get(key).nodes++;
    }
  }
  return keys;
}

/// The key that divides the identities best: most of them have it, and it makes about as many
/// groups as each group has members. "" if none does.
function bestKey(nodes) {
  const workloads = nodes.filter((node) => node.kind === "workload");
  const wanted = Math.sqrt(workloads.length);
  let best = "";
  let score = 0.2;
  for (const [key, {values, nodes: having}] of keysOf(workloads)) {
    if (values.size < 2 || values.size === having || values.size > Math.max(3, workloads.length * 0.6)) continue;
    const fit = Math.min(values.size / wanted, wanted / values.size) * having / workloads.length;
    if (fit > score || (fit === score && key < best)) [best, score] = [key, fit];
  }
  return best;
}

const kOutside = "not workloads";
/// The name of the group of a node.
function groupOf(node, key) {
  if (node.kind !== "workload") return kOutside;
  if (!key) return "";
  return Object.hasOwn(node.labels, key) ? `${key}=${node.labels[key]}` : `without ${key}`;
}

/// The text of a node in its group: without the label that the group's title shows.
function textIn(node, group) {
  const labels = Object.entries(node.labels).map(([key, value]) => `${key}=${value}`);
  if (node.kind !== "workload" || node.parties.length || labels.length < 2 || !labels.includes(group)) return node.text;
  return labels.filter((label) => label !== group).join(",");
}

/// The node of one end of a denial, or undefined.
const nodeOf = (map, text) => map.nodes.find((node) => node.text === text || node.parties.includes(text) || node.members.includes(text)) ||
  (/^[0-9]/.test(text) ? map.nodes.find((node) => node.text === "@world") : undefined);

function usesText(edge) {
  const uses = edge.did.map((use) => `${use.verdict} ${use.ports} ×${use.count.toLocaleString("en-US")}`);
  if (edge.did_left_out) uses.push(`and ${edge.did_left_out} more`);
  return uses;
}

const kStateText = {allow: "allowed, seen", open: "allowed, not seen", audit: "passes in audit mode; would be denied", deny: "denied"};
function edgeText(edge) {
  const lines = [`${edge.source.text} → ${edge.target.text}`, kStateText[edge.state]];
  if (edge.may) lines.push(`allowed: ${edge.may}`);
  if (edge.did.length) lines.push(`seen: ${usesText(edge).join(", ")}`);
  if (edge.rules.length) lines.push(`by ${edge.rules.join("; ")}`);
  return lines.join("\n");
}
/// `edges`: its own.
function nodeText(node, edges) {
  const lines = [node.text];
  if (node.workloads) lines.push(`${counted(node.workloads, "workload")}: ${node.members.join(", ")}${node.workloads > node.members.length ? ", …" : ""}`);
  if (node.parties.length) lines.push(`identities: ${node.parties.join("; ")}${node.parties_left_out ? ` and ${node.parties_left_out} more` : ""}`);
  const out = edges.filter((edge) => edge.source === node && edge.target !== node).length;
  const into = edges.filter((edge) => edge.target === node && edge.source !== node).length;
  const denied = edges.filter((edge) => edge.state === "deny").length;
  lines.push(`reaches ${out}, reached by ${into}${denied ? `, ${denied} denied` : ""}`);
  return lines.join("\n");
}
