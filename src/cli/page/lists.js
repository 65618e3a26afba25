// SPDX-License-Identifier: Apache-2.0
// The lists beside the map: denials with their reasons and the rules that would allow them, and the
// connections as a table, which says everything that the map shows.
const kMostRows = 1000;
// Of the denials that trirectl lists, by id: their elements, which stay while a search hides them, and
// {why, allow} by the policy of the map.
const items = new Map();
const answers = new Map();

function clock(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  const today = date.toDateString() === new Date().toDateString();
  return (today ? "" : `${date.toLocaleDateString()} `) + date.toLocaleTimeString([], {hour12: false});
}

/// Explanation and TOML are in the page, or asked of trirectl, which asks the daemon.
async function answerOf(denial) {
  if (!known.live) return {why: denial.why, allow: denial.allow};
  if (!answers.has(denial.id)) {
    const answer = await hooks.fetchJson(`/api/denial?id=${denial.id}`);
    if (!answer.error) answers.set(denial.id, answer);
    return answer;
  }
  return answers.get(denial.id);
}

/// item.dataset.open: which of the texts is shown, "why" or "allow", or nothing.
async function toggle(denial, what, item) {
  if (item.dataset.open === what) {
    delete item.dataset.open;
    showTexts(item, null);
    return;
  }
  item.dataset.open = what;
  showTexts(item, await answerOf(denial));
}

function copyButton(pre) {
  const button = make("button", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(pre);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  return button;
}

function showTexts(item, answer) {
  const what = item.dataset.open;
  for (const button of item.querySelectorAll("button[aria-expanded]")) {
    button.setAttribute("aria-expanded", String(button.dataset.what === what));
  }
  const box = item.querySelector(".answer");
  if (!what || !answer) {
    box.replaceChildren();
    return;
  }
  if (answer.error || !answer[what]) {
    box.replaceChildren(make("p", answer.error || "Not in this page: it has the explanations of the newest denials only.", "note"));
    return;
  }
  const pre = make("pre", answer[what], what === "allow" ? "toml" : undefined);
  pre.tabIndex = 0;
  // The policy can change while the text is shown.
  const then = `By the policy of ${clock(known.map_time)}`;
  if (what === "allow") {
    box.replaceChildren(make("p", `${then}. Nothing has changed. To allow this, review the text and save it in a file in policy.d:`, "note"), pre, copyButton(pre));
  } else {
    box.replaceChildren(make("p", `${then}:`, "note"), pre);
  }
}

function denialItem(denial) {
  const item = make("li");
  item.dataset.id = denial.id;
  const line = make("p", undefined, "line");
  line.append(make("time"), " ", make("span", denial.verdict, denial.verdict), " ", make("span", denial.from), " → ", make("span", denial.to),
    ` ${denial.port} `, make("span", undefined, "count"));
  const why = make("p", [denial.rule, denial.reason].filter(Boolean).join(": "), "note");
  item.append(line, why);
  for (const [what, text] of [["why", "Why"], ["allow", "Suggest a rule"]]) {
    const button = make("button", text);
    button.type = "button";
    button.dataset.what = what;
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `${text}: ${denial.from} to ${denial.to} ${denial.port}`);
    button.addEventListener("click", () => toggle(denial, what, item));
    item.append(button);
  }
  const show = make("button", "Show on the map");
  show.type = "button";
  show.addEventListener("click", () => hooks.showDenial(denial));
  item.append(show, make("div", undefined, "answer"));
  return item;
}

/// The element of a denial, with its newest time and count. `isFresh`: it came while the page was open.
function itemOf(denial, isFresh) {
  if (!items.has(denial.id)) {
    items.set(denial.id, denialItem(denial));
    if (isFresh) items.get(denial.id).classList.add("fresh");
  }
  const item = items.get(denial.id);
  const time = item.querySelector("time");
  time.dateTime = denial.time;
  time.textContent = clock(denial.time);
  item.querySelector(".count").textContent = denial.count > 1 ? `×${denial.count.toLocaleString("en-US")}` : "";
  return item;
}

function drawDenials() {
  const isFresh = known.live && items.size > 0;
  const all = known.denials.map((denial) => [denial, itemOf(denial, isFresh)]);
  const shown = all.filter(([denial]) => choice.states.has(denial.verdict) && matches(wordsOfDenial(denial)));
  arrange(byId("denials"), shown.map(([, item]) => item));
  const listed = new Set(known.denials.map((denial) => denial.id));
  for (const id of items.keys()) if (!listed.has(id)) items.delete(id);
  for (const id of answers.keys()) if (!listed.has(id)) answers.delete(id);
  byId("denials-count").textContent = `(${shown.length})`;
  byId("denials-note").textContent = known.denials_left_out
    ? `${counted(known.denials_left_out, "kind")} of denial ${known.denials_left_out === 1 ? "is" : "are"} not listed: 'trirectl flows' has more.`
    : shown.length ? "" : `No denials${known.denials.length ? " match" : " so far"}.`;
}

/// Makes these elements, in this order, the children of a list. Those that stay where they are keep the
/// keyboard's focus and what is selected in them.
function arrange(list, wanted) {
  const keep = new Set(wanted);
  for (const item of [...list.children]) if (!keep.has(item)) item.remove();
  wanted.forEach((item, at) => { if (list.children[at] !== item) moveBefore(list, item, at); });
}

/// Moving an element takes the focus from the button in it.
function moveBefore(list, item, at) {
  const focused = item.contains(document.activeElement) ? document.activeElement : null;
  list.insertBefore(item, list.children[at] || null);
  if (focused) focused.focus({preventScroll: true});
}

function edgeRow(edge, text) {
  const row = make("tr");
  [row.dataset.key, row.dataset.text] = [edge.key, text];
  row.append(make("td", edge.source.text), make("td", edge.target.text), make("td", edge.may || "–"));
  const did = make("td");
  for (const use of edge.did) did.append(make("div", `${use.verdict} ${use.ports} ×${use.count.toLocaleString("en-US")}`, use.verdict));
  if (edge.did_left_out) did.append(make("div", `and ${edge.did_left_out} more`));
  row.append(did, make("td", edge.rules.join("; ")));
  return row;
}

/// Only while it is shown: it can have a thousand rows.
function drawTable() {
  if (byId("panel-edges").hidden) return;
  const chosen = chosenNode();
  const pair = picture.byGroups ? choice.pair : null;
  byId("selected").hidden = !chosen && !pair;
  if (chosen) {
    byId("selected-text").textContent = chosen.text;
    byId("selected-members").textContent = nodeText(chosen, ownEdges(chosen)).split("\n").slice(1).join(" · ");
  } else if (pair) {
    byId("selected-text").textContent = pair.map((name) => name || "no group").join(" ↔ ");
    byId("selected-members").textContent = "";
  }
  const groupName = (node) => picture.layout.boxes.get(node).group.name;
  const isBetween = (edge) => groupName(edge.source) !== groupName(edge.target) && pair.includes(groupName(edge.source)) && pair.includes(groupName(edge.target));
  const edges = (chosen ? [...ownEdges(chosen)] : picture.shown.edges.filter((edge) => !pair || isBetween(edge)))
    .sort((a, b) => kRank[a.state] - kRank[b.state] || (a.key < b.key ? -1 : 1));
  const list = byId("edges");
  const rows = new Map([...list.children].map((row) => [row.dataset.key, row]));
  arrange(list, edges.slice(0, kMostRows).map((edge) => {
    const text = edgeText(edge);
    const row = rows.get(edge.key);
    return row && row.dataset.text === text ? row : edgeRow(edge, text);
  }));
  byId("edges-note").textContent = edges.length > kMostRows
    ? `The first ${counted(kMostRows, "connection")} of ${edges.length.toLocaleString("en-US")}: a search shows others.` : counted(edges.length, "connection");
}

function drawState(map) {
  const {nodes, edges} = picture.shown;
  const part = (count, all, one, many) => (count === all ? counted(all, one, many) : `${count.toLocaleString("en-US")} of ${counted(all, one, many)}`);
  const notes = [`${part(nodes.length, map.nodes.length, "identity", "identities")}, ${part(edges.length, map.edges.length, "connection")}`];
  if (picture.byGroups) notes.push("arrows between groups have the number of connections; select an identity to see each of its own");
  if (map.nodes_left_out) notes.push(`${counted(map.nodes_left_out, "identity", "identities")} left out, those with denials last`);
  if (map.left_out) notes.push(`${counted(map.left_out, "connection")} left out, those that are allowed and not seen first`);
  if (map.folded) notes.push("identities that match the same rules share a box");
  notes.push(...(map.notes || []));
  const text = `${notes.join(" · ")}.`;
  if (byId("count").textContent !== text) byId("count").textContent = text;
  drawAge();
}

/// The age grows with every answer, also while nothing changes.
function drawAge() {
  const mode = known.map.mode === "audit" ? "Audit mode: no rule blocks anything. " : "";
  const text = known.map_time ? `${mode}${known.live ? "Live; the map is" : "State"} of ${clock(known.map_time)}.` : "";
  if (byId("age").textContent !== text) byId("age").textContent = text;
}
