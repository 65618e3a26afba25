// SPDX-License-Identifier: Apache-2.0
// What the controls and keys do, and the updates from trirectl.
// Between two requests for updates in ms, at least: while there are denials all the time, a new one
// is shown after that. A server that does not answer is asked less often.
const kPause = 250;
const kRetry = 1000;
const kTyping = 150;  // ms

const kAgain = "Start trirectl ui again, and open the address that it prints.";
const kStopped = `trirectl ui was stopped. ${kAgain}`;

// What trirectl knows this page by, and this page trirectl: {secret, instance}, or null. The page
// that the token opens has it; it is kept for reloads of this tab. Only pages of this very port can
// read it, unlike a cookie.
const session = (() => {
  if (!known.live) return null;
  try {
    if (known.session) sessionStorage.setItem("trireme-session", JSON.stringify(known.session));
    return known.session || JSON.parse(sessionStorage.getItem("trireme-session"));
  } catch {
    return known.session || null;
  }
})();

const hooks = {
  /// The answer, or {error}; with "ended" if there will be no other one.
  fetchJson: async (path) => {
    if (!session) return {error: `This page has no session. ${kAgain}`, ended: true};
    let answer, body;
    try {
      answer = await fetch(path, {credentials: "omit", cache: "no-store", redirect: "error", headers: {"X-Trireme-Session": session.secret}});
      body = await answer.json();
    } catch {
      return {error: "trirectl ui does not answer."};
    }
    // Any program can listen at the port when trirectl has ended.
    if (body?.instance !== session.instance) return {error: `Another trirectl ui, or another program, answers at this address. ${kAgain}`, ended: true};
    if (body.ended) return {error: kStopped, ended: true};
    return answer.ok ? body : {error: body.error || `HTTP status ${answer.status}`};
  },
  chooseNode: (node) => {
    choice.node = choice.node === node.id ? null : node.id;
    choice.pair = null;
    if (choice.node) selectTab("tab-edges");
    draw();
  },
  chooseLink: (link) => {
    if (!link.bundle) return hooks.chooseNode(link.edges[0].source);
    [choice.node, choice.pair] = [null, [link.a.name, link.b.name]];
    selectTab("tab-edges");
    draw();
  },
  focusNode: (box, element) => {
    picture.last = box.node.id;
    nodeLayer.selectAll("g.node").attr("tabindex", (each) => (each === box ? 0 : -1));
    if (!element.matches(":focus-visible")) return;
    reveal(box);
    light(box.node);
    const [frame, rect] = [byId("mapbox").getBoundingClientRect(), element.querySelector("rect").getBoundingClientRect()];
    showTip(nodeText(box.node, ownEdges(box.node)), rect.left - frame.left, rect.bottom - frame.top);
  },
  nodeKey: (event, box) => {
    const arrows = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1]};
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (arrows[event.key]) {
      const next = neighbor(box, arrows[event.key]);
      if (next) focusBox(next);
    } else if (event.key === "Home" || event.key === "End") {
      const boxes = [...picture.layout.boxes.values()];
      focusBox(event.key === "Home" ? boxes[0] : boxes[boxes.length - 1]);
    } else if (event.key === "Enter" || event.key === " ") {
      hooks.chooseNode(box.node);
    } else if (event.key === "Escape") {
      choice.node = choice.pair = null;
      hideTip();
      draw();
    } else if (event.key === "+" || event.key === "=") {
      svg.call(zoom.scaleBy, 1.3);
    } else if (event.key === "-") {
      svg.call(zoom.scaleBy, 1 / 1.3);
    } else if (event.key === "0") {
      fit();
    } else {
      return;
    }
    event.preventDefault();
  },
  showDenial: (denial) => {
    const nodes = [denial.from_end, denial.to_end].map((end) => nodeOf(known.map, end)).filter(Boolean);
    if (!nodes.length) {
      byId("problem").textContent = "The endpoints of this denial are not on the map.";
      return;
    }
    byId("search").value = "";
    choice.terms = [];
    choice.states = new Set(Object.keys(kRank));
    for (const box of byId("states").querySelectorAll("input")) box.checked = true;
    [choice.node, choice.pair] = [nodes[0].id, null];
    draw();
    const boxes = nodes.map((node) => picture.layout.boxes.get(node)).filter(Boolean);
    if (!boxes.length) return;
    focusBox(boxes[0]);
    reveal(...boxes);
  },
};

function selectTab(id) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const selected = tab.id === id;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !selected;
  }
  drawTable();
}

/// `isUpdate`: trirectl has sent something; else the user has changed something.
function draw(isUpdate = false) {
  drawMap(known.map, isUpdate);
  drawTable();
  drawDenials();
  drawState(known.map);
}

function drawKeys() {
  const list = byId("group");
  const keys = [...keysOf(known.map.nodes).keys()].sort();
  const wanted = ["", ...keys, "-"];
  if ([...list.options].map((option) => option.value).join("\n") === wanted.join("\n")) return;
  list.replaceChildren(...wanted.map((key) => {
    const option = make("option", key === "" ? `automatic${bestKey(known.map.nodes) ? `: ${bestKey(known.map.nodes)}` : ""}` : key === "-" ? "nothing" : key);
    option.value = key;
    return option;
  }));
  list.value = wanted.includes(choice.group) ? choice.group : "";
}

function readSearch() {
  choice.terms = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
}

// --- dark and light ---

const darkSystem = matchMedia("(prefers-color-scheme: dark)");
function applyTheme() {
  const theme = byId("theme").value;
  document.documentElement.dataset.theme = theme === "auto" ? (darkSystem.matches ? "dark" : "light") : theme;
}
function rememberTheme() {
  applyTheme();
  try {
    localStorage.setItem("trireme-theme", byId("theme").value);
  } catch { /* a page from disk may have no storage */ }
}
try {
  byId("theme").value = localStorage.getItem("trireme-theme") || "auto";
} catch { /* see above */ }
if (!byId("theme").value) byId("theme").value = "auto";
darkSystem.addEventListener("change", applyTheme);
applyTheme();

// --- controls ---

// The map is drawn when the typing pauses: on a large one that takes a moment.
let typing = 0;
function search() {
  clearTimeout(typing);
  typing = 0;
  readSearch();
  draw();
}
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, kTyping);
});
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && typing) search();
  const first = picture.layout.boxes.values().next().value;
  if (event.key === "Enter" && first) focusBox(first);
});
byId("states").addEventListener("change", () => {
  choice.states = new Set([...byId("states").querySelectorAll("input:checked")].map((box) => box.value));
  draw();
});
byId("group").addEventListener("change", () => { [choice.group, choice.pair] = [byId("group").value, null]; draw(); });
byId("detail").addEventListener("change", () => { choice.detail = byId("detail").value; draw(); });
byId("theme").addEventListener("change", rememberTheme);
byId("in").addEventListener("click", () => svg.call(zoom.scaleBy, 1.3));
byId("out").addEventListener("click", () => svg.call(zoom.scaleBy, 1 / 1.3));
byId("fit").addEventListener("click", fit);
byId("unselect").addEventListener("click", () => { choice.node = choice.pair = null; draw(); byId("tab-edges").focus(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  const node = nodeLayer.select("g.node[tabindex='0']").node();
  if (node) node.focus();
});
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => selectTab(tab.id));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = tab.id === "tab-edges" ? "tab-denials" : "tab-edges";
    selectTab(other);
    byId(other).focus();
  });
}
addEventListener("resize", () => { if (!picture.moved) fit(); });

// --- updates ---

function take(update) {
  byId("problem").textContent = update.error || update.problem || "";
  if (update.change) known.change = update.change;
  if (update.map_time) known.map_time = update.map_time;
  if (update.denials) {
    const changed = new Set(update.denials.map((denial) => denial.id));
    const ids = new Set(update.denial_ids);
    known.denials = [...update.denials, ...known.denials.filter((denial) => ids.has(denial.id) && !changed.has(denial.id))];
    known.denials_left_out = update.denials_left_out;
  }
  if (update.map) {
    known.map = prepare(update.map);
    known.title = update.map.title;
    showTitle();
    answers.clear();
    drawKeys();
  }
  // Denials come often: they change neither the map nor the table.
  if (update.map) draw(true);
  else if (update.denials) drawDenials();
  drawAge();
}

function showTitle() {
  byId("title").textContent = known.title;
  document.title = known.title;
}

const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });
const shownAgain = () => new Promise((done) => {
  document.addEventListener("visibilitychange", function again() {
    if (document.hidden) return;
    document.removeEventListener("visibilitychange", again);
    done();
  });
});

/// trirectl answers when something is new, or after some seconds. A page that nobody sees asks
/// nothing, so that it costs nothing.
async function follow() {
  for (;;) {
    if (document.hidden) await shownAgain();
    const began = performance.now();
    const update = await hooks.fetchJson(`/api/updates?since=${known.change}`);
    take(update);
    if (update.ended) return;
    await pause(update.error ? kRetry : Math.max(0, kPause - (performance.now() - began)));
  }
}

known.map = prepare(known.map);
showTitle();
try {
  if (location.hash.length > 1) byId("search").value = decodeURIComponent(location.hash.slice(1));
} catch { /* not a search */ }
readSearch();
drawKeys();
draw();
if (known.live) {
  // The token in the address has been used: a reload needs the address without it.
  history.replaceState(null, "", "/");
  follow();
}
