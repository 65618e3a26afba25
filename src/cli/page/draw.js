// SPDX-License-Identifier: Apache-2.0
// Draws the map: groups, edges with arrows, nodes. d3 binds the elements to what they show, so that
// an element keeps the keyboard's focus when the map changes.
// More connections are drawn as one line for each pair of groups.
const kManyEdges = {all: 150, few: 60, perNode: 2.5};
const kArrow = 11;  // px, at least 8 px on the screen
// `last`: id of the node that Tab leads to; `lit`: id of the one under the pointer or with the focus,
// whose own connections are drawn; `moved`: the user has chosen what the map shows; `links`: those
// of the map without `lit`.
const picture = {layout: null, shown: null, byGroups: false, last: null, lit: null, moved: false, links: []};
const svg = d3.select("#map");
const marks = svg.append("defs");
for (const state of Object.keys(kRank)) {
  marks.append("marker").attr("id", `arrow-${state}`).attr("class", state).attr("viewBox", "0 0 10 10").attr("refX", 9)
    .attr("refY", 5).attr("markerWidth", kArrow).attr("markerHeight", kArrow).attr("markerUnits", "userSpaceOnUse")
    .attr("orient", "auto-start-reverse").append("path").attr("d", "M0 0.5 L10 5 L0 9.5 z");
}
const world = svg.append("g");
// A line between groups is below them, so that it never seems to touch a node of a group on its way.
const [bundleLayer, groupLayer, edgeLayer, titleLayer, nodeLayer, countLayer] = ["bundles", "groups", "edges", "titles", "nodes", "counts"]
  .map((name) => world.append("g").attr("class", name));
const zoom = d3.zoom().scaleExtent([0.05, 4]).on("zoom", () => {
  const now = d3.zoomTransform(svg.node());
  world.attr("transform", now);
  marks.selectAll("marker").attr("markerWidth", Math.max(kArrow, 8 / now.k)).attr("markerHeight", Math.max(kArrow, 8 / now.k));
  picture.moved = true;
});
svg.call(zoom).on("dblclick.zoom", null);

/// Shows the whole map, with the lines that lead around it.
function fit() {
  const {clientWidth, clientHeight} = svg.node();
  if (!clientWidth || !clientHeight) return;
  const {x, y, width, height} = world.node().getBBox();
  if (!width || !height) return;
  const [head, edge] = [44, 14];
  const scale = Math.min(1.3, (clientWidth - 2 * edge) / width, (clientHeight - head - edge) / height);
  svg.call(zoom.transform, d3.zoomIdentity
    .translate((clientWidth - width * scale) / 2 - x * scale, head + (clientHeight - head - edge - height * scale) / 2 - y * scale)
    .scale(scale));
  picture.moved = false;
}

/// Moves the map so that the boxes can be seen; zooms in if their texts would be too small to read.
function reveal(...boxes) {
  const {clientWidth, clientHeight} = svg.node();
  const now = d3.zoomTransform(svg.node());
  const [x, y] = [Math.min(...boxes.map((box) => box.x)), Math.min(...boxes.map((box) => box.y))];
  const width = Math.max(...boxes.map((box) => box.x + box.width)) - x;
  const height = Math.max(...boxes.map((box) => box.y + box.height)) - y;
  const most = Math.min((clientWidth - 16) / width, (clientHeight - 52) / height);
  const scale = Math.min(Math.max(now.k, 0.75), most);
  const [left, top] = [x * scale + now.x, y * scale + now.y];
  const inside = scale === now.k && left > 8 && top > 44 && left + width * scale < clientWidth - 8 &&
    top + height * scale < clientHeight - 8;
  if (inside) return;
  svg.call(zoom.transform, d3.zoomIdentity.translate(clientWidth / 2 - (x + width / 2) * scale,
    clientHeight / 2 - (y + height / 2) * scale).scale(scale));
}

// --- groups and nodes ---

function setLines(element, lines, x, y, step) {
  d3.select(element).selectAll("tspan").data(lines).join("tspan").attr("x", x)
    .attr("y", (line, i) => y + i * step).text((line) => line);
}

/// The connections inside of each group: they are not drawn if there is one line for each pair of groups.
function insideGroups(edges) {
  const inside = new Map();
  for (const edge of picture.byGroups ? edges : []) {
    const group = picture.layout.boxes.get(edge.source).group;
    if (picture.layout.boxes.get(edge.target).group !== group) continue;
    if (!inside.has(group)) inside.set(group, []);
    inside.get(group).push(edge);
  }
  return inside;
}

function insideTexts(inside) {
  if (!inside) return [];
  const [[all], ...some] = countTexts(inside);
  return [[`${all} inside`, "all"], ...some];
}

function drawGroups({groups, style}, edges) {
  const named = groups.filter((group) => group.name || groups.length > 1);
  groupLayer.selectAll("g.group").data(named, (group) => group.name).join((enter) => {
    const made = enter.append("g").attr("class", "group");
    made.append("rect").attr("rx", 8);
    return made;
  }).select("rect").attr("x", (group) => group.x).attr("y", (group) => group.y).attr("width", (group) => group.width)
    .attr("height", (group) => group.height);
  const titles = titleLayer.selectAll("g.title").data(named.filter((group) => group.name), (group) => group.name).join((enter) => {
    const made = enter.append("g").attr("class", "title");
    made.append("text").attr("class", "name");
    made.append("text").attr("class", "note");
    return made;
  });
  titles.select("text.name").style("font-size", `${style.font}px`).each(function lines(group) {
    setLines(this, group.title, group.x + style.inside, group.y + style.font * 1.35, style.font * 1.2);
  });
  const inside = insideGroups(edges);
  titles.select("text.note").attr("x", (group) => group.x + style.inside).attr("y", (group) => group.y + group.head - 12)
    .each(function texts(group) { setTexts(this, insideTexts(inside.get(group))); });
}

function drawNodes(layout, edges) {
  const denied = new Map();  // how many connections to a node are denied
  for (const {state, target} of edges) if (state === "deny") denied.set(target, (denied.get(target) || 0) + 1);
  const boxes = [...layout.boxes.values()];
  if (!boxes.some((box) => box.node.id === picture.last)) picture.last = boxes.length ? boxes[0].node.id : null;
  const all = nodeLayer.selectAll("g.node").data(boxes, (box) => box.node.id).join((enter) => {
    const made = enter.append("g").attr("role", "button");
    made.append("rect").attr("rx", 5);
    made.append("text").attr("class", "text");
    made.append("text").attr("class", "more");
    made.append("circle").attr("r", 8);
    made.append("text").attr("class", "badge").attr("text-anchor", "middle");
    return made.each(function bind() {
      const box = () => d3.select(this).datum();
      withTip(this, () => nodeText(box().node, ownEdges(box().node)));
      this.addEventListener("mouseenter", () => light(box().node));
      this.addEventListener("mouseleave", () => light(null));
      this.addEventListener("focus", () => hooks.focusNode(box(), this));
      this.addEventListener("blur", () => { hideTip(); light(null); });
      this.addEventListener("click", () => hooks.chooseNode(box().node));
      this.addEventListener("keydown", (event) => hooks.nodeKey(event, box()));
    });
  }).attr("class", (box) => `node ${box.node.kind}`)
    .attr("tabindex", (box) => (box.node.id === picture.last ? 0 : -1))
    .attr("aria-pressed", (box) => String(box.node.id === choice.node))
    .attr("aria-label", (box) => nodeText(box.node, ownEdges(box.node))).order();
  all.select("rect").attr("x", (box) => box.x).attr("y", (box) => box.y).attr("width", (box) => box.width)
    .attr("height", (box) => box.height);
  all.select("text.text").each(function lines(box) {
    setLines(this, box.lines, box.x + kText.pad, box.y + kText.pad + 11, kText.line);
  });
  all.select("circle").attr("display", (box) => (denied.has(box.node) ? null : "none")).attr("cx", (box) => box.x + box.width - 3)
    .attr("cy", (box) => box.y + 3);
  all.select("text.badge").text((box) => (denied.has(box.node) ? Math.min(99, denied.get(box.node)) : ""))
    .attr("x", (box) => box.x + box.width - 3).attr("y", (box) => box.y + 7);
  all.select("text.more").text((box) => box.more).attr("x", (box) => box.x + kText.pad)
    .attr("y", (box) => box.y + box.height - kText.pad);
}

/// Draws what is visible. Places stay as they are while the same nodes are shown in the same groups.
/// What the user looks at stays too if `isUpdate`: other changes are the user's own.
function drawMap(map, isUpdate) {
  const shown = visible(map);
  const key = choice.group === "-" ? "" : choice.group || bestKey(map.nodes);
  const {nodes, edges} = shown;
  const many = edges.length > kManyEdges.all || (edges.length > kManyEdges.few && edges.length > kManyEdges.perNode * nodes.length);
  picture.byGroups = new Set(nodes.map((node) => groupOf(node, key))).size > 1 && (choice.detail === "groups" || (choice.detail === "auto" && many));
  const plan = [key, picture.byGroups, ...nodes.map((node) => `${node.id}\n${node.text}\n${digitsOf(node)}`).sort()].join("\0");
  const old = picture.layout;
  picture.shown = shown;
  if (!old || old.plan !== plan) {
    const {clientWidth, clientHeight} = svg.node();
    picture.layout = layOut(nodes, edges, key, picture.byGroups ? kStyles.tight : kStyles.loose,
      {width: clientWidth || 1000, height: clientHeight || 700});
    picture.layout.plan = plan;
  } else {
    const now = new Map(shown.nodes.map((node) => [node.id, node]));
    const boxes = new Map();
    for (const box of old.boxes.values()) {
      box.node = now.get(box.node.id);
      box.more = moreText(box.node);
      boxes.set(box.node, box);
    }
    old.boxes = boxes;
  }
  picture.links = picture.byGroups ? placeLabels(route(bundles(edges))) : route(edges.map(linkOf));
  drawGroups(picture.layout, edges);
  drawNodes(picture.layout, edges);
  drawEdges();
  byId("empty").hidden = nodes.length > 0 || !isFiltered();
  if (picture.layout !== old && !(isUpdate && picture.moved)) fit();
}

/// The next node in the direction of an arrow key, or null.
function neighbor(box, [dx, dy]) {
  let [best, score] = [null, Infinity];
  const middle = (of) => [of.x + of.width / 2, of.y + of.height / 2];
  const [x, y] = middle(box);
  for (const other of picture.layout.boxes.values()) {
    const [ox, oy] = middle(other);
    const ahead = (ox - x) * dx + (oy - y) * dy;
    const aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
    if (other !== box && ahead > 1 && ahead + 2.5 * aside < score) [best, score] = [other, ahead + 2.5 * aside];
  }
  return best;
}

function focusBox(box) {
  picture.last = box.node.id;
  nodeLayer.selectAll("g.node").attr("tabindex", (each) => (each === box ? 0 : -1)).filter((each) => each === box).node().focus();
}

// --- tooltips ---

function showTip(text, x, y) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const {clientWidth, clientHeight} = byId("mapbox");
  tip.style.left = `${Math.max(4, Math.min(x + 12, clientWidth - tip.offsetWidth - 6))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > clientHeight ? Math.max(4, y - tip.offsetHeight - 10) : y + 18}px`;
}
const hideTip = () => { byId("tip").hidden = true; };

function withTip(element, text) {
  element.addEventListener("mousemove", (event) => {
    const frame = byId("mapbox").getBoundingClientRect();
    showTip(text(), event.clientX - frame.left, event.clientY - frame.top);
  });
  element.addEventListener("mouseleave", hideTip);
}
