// SPDX-License-Identifier: Apache-2.0
// Draws the map: groups, edges with arrows, nodes. d3 binds the elements to what they show, so that
// an element keeps the keyboard's focus when the map changes.
// More connections are drawn as one line for each pair of groups.
const kManyEdges = {all: 150, few: 60, perNode: 2.5};
const kMostLabels = 200;
// `last`: id of the node that Tab leads to; `lit`: id of the one under the pointer or with the focus,
// whose own connections are drawn; `moved`: the user has chosen what the map shows; `links`: those
// of the map without `lit`.
const picture = {layout: null, shown: null, byGroups: false, last: null, lit: null, moved: false, links: []};
const svg = d3.select("#map");
const marks = svg.append("defs");
for (const state of Object.keys(kRank)) {
  marks.append("marker").attr("id", `arrow-${state}`).attr("class", state).attr("viewBox", "0 0 10 10").attr("refX", 9)
    .attr("refY", 5).attr("markerWidth", 11).attr("markerHeight", 11).attr("markerUnits", "userSpaceOnUse")
    .attr("orient", "auto-start-reverse").append("path").attr("d", "M0 0.5 L10 5 L0 9.5 z");
}
const world = svg.append("g");
const [groupLayer, edgeLayer, titleLayer, nodeLayer] = ["groups", "edges", "titles", "nodes"]
  .map((name) => world.append("g").attr("class", name));
const zoom = d3.zoom().scaleExtent([0.05, 4]).on("zoom", () => {
  world.attr("transform", d3.zoomTransform(svg.node()));
  picture.moved = true;
});
svg.call(zoom).on("dblclick.zoom", null);

function fit() {
  const {width, height} = picture.layout;
  const {clientWidth, clientHeight} = svg.node();
  if (!clientWidth || !clientHeight) return;
  const [head, edge] = [44, 14];
  const scale = Math.min(1.3, (clientWidth - 2 * edge) / width, (clientHeight - head - edge) / height);
  svg.call(zoom.transform, d3.zoomIdentity
    .translate((clientWidth - width * scale) / 2, head + (clientHeight - head - edge - height * scale) / 2).scale(scale));
  picture.moved = false;
}

/// Moves the map so that the box can be seen; zooms in if its text would be too small to read.
function reveal(box) {
  const {clientWidth, clientHeight} = svg.node();
  const now = d3.zoomTransform(svg.node());
  const scale = Math.max(now.k, 0.75);
  const [left, top] = [box.x * scale + now.x, box.y * scale + now.y];
  const inside = scale === now.k && left > 8 && top > 44 && left + box.width * scale < clientWidth - 8 &&
    top + box.height * scale < clientHeight - 8;
  if (inside) return;
  svg.call(zoom.transform, d3.zoomIdentity.translate(clientWidth / 2 - (box.x + box.width / 2) * scale,
    clientHeight / 2 - (box.y + box.height / 2) * scale).scale(scale));
}

// --- edges ---

/// Which sides of two boxes an edge connects: the pair with the wider gap between them.
function sidesOf(from, to) {
  const across = Math.max(to.x - from.x - from.width, from.x - to.x - to.width);
  const down = Math.max(to.y - from.y - from.height, from.y - to.y - to.height);
  if (across >= down) return to.x > from.x ? ["right", "left"] : ["left", "right"];
  return to.y > from.y ? ["bottom", "top"] : ["top", "bottom"];
}
const kAway = {right: [1, 0], left: [-1, 0], top: [0, -1], bottom: [0, 1]};

/// Sets link.path, and link.curve unless it is a loop. The ends of edges at one side of a box are spread in the order
/// of their other ends, so that they do not cross there.
function route(links) {
  const ends = new Map();
  for (const link of links) {
    if (link.a === link.b) continue;
    const sides = sidesOf(link.a, link.b);
    [[link.a, link.b, "begin"], [link.b, link.a, "end"]].forEach(([box, other, name], i) => {
      if (!ends.has(box)) ends.set(box, {right: [], left: [], top: [], bottom: []});
      ends.get(box)[sides[i]].push({link, name, other, side: sides[i]});
    });
  }
  for (const [box, sides] of ends) {
    for (const [side, list] of Object.entries(sides)) {
      const upright = side === "right" || side === "left";
      const center = (end) => (upright ? end.other.y + end.other.height / 2 : end.other.x + end.other.width / 2);
      list.sort((a, b) => center(a) - center(b) || (a.name < b.name ? -1 : 1));
      list.forEach((end, i) => {
        const along = (i + 1) / (list.length + 1);
        end.link[end.name] = {away: kAway[side],
          x: upright ? box.x + (side === "right" ? box.width : 0) : box.x + box.width * along,
          y: upright ? box.y + box.height * along : box.y + (side === "bottom" ? box.height : 0)};
      });
    }
  }
  for (const link of links) {
    if (link.a === link.b) {
      const [x, y] = [link.a.x + link.a.width, link.a.y + link.a.height];
      link.path = `M${x - 14} ${y} C${x - 14} ${y + 20} ${x + 20} ${y - 6} ${x} ${y - 10}`;
      continue;
    }
    const {begin, end} = link;
    const far = Math.max(18, Math.min(160, Math.hypot(end.x - begin.x, end.y - begin.y) * 0.42));
    const [c1, c2] = [begin, end].map((point) => ({x: point.x + point.away[0] * far, y: point.y + point.away[1] * far}));
    link.path = `M${begin.x} ${begin.y} C${c1.x} ${c1.y} ${c2.x} ${c2.y} ${end.x} ${end.y}`;
    link.curve = [begin, c1, c2, end];
  }
  return links;
}

const linkOf = (edge) => ({key: edge.key, state: edge.state, edges: [edge],
  a: picture.layout.boxes.get(edge.source), b: picture.layout.boxes.get(edge.target)});

/// One link for each pair of groups, in the color of its worst verdict, with an arrow at each end
/// that is reached: many connections are readable as few lines.
function bundles(edges) {
  const found = new Map();
  for (const edge of edges) {
    const {a, b} = linkOf(edge);
    if (a.group === b.group) continue;
    const [first, second] = a.group.name < b.group.name ? [a.group, b.group] : [b.group, a.group];
    const key = `groups\n${first.name}\n${second.name}`;  // an edge has one line end in its key
    if (!found.has(key)) found.set(key, {key, state: edge.state, edges: [], a: first, b: second, bundle: true});
    const link = found.get(key);
    link.edges.push(edge);
    if (kRank[edge.state] < kRank[link.state]) link.state = edge.state;
    if (b.group === second) link.forward = true;
    else link.backward = true;
  }
  return [...found.values()];
}

const denialsIn = (edges) => edges.filter((edge) => edge.state === "deny").length;
function bundleText(link) {
  const denied = denialsIn(link.edges);
  return link.edges.length.toLocaleString("en-US") + (denied ? `, ${denied} denied` : "");
}

function linkText(link) {
  if (!link.bundle) return edgeText(link.edges[0]);
  const worst = [...link.edges].sort((a, b) => kRank[a.state] - kRank[b.state]);
  const some = worst.slice(0, 8).map((edge) => `${kStateText[edge.state]}: ${edge.source.text} → ${edge.target.text} ${edge.may || usesText(edge).join(", ")}`);
  const more = worst.length > some.length ? [`and ${worst.length - some.length} more`] : [];
  const arrow = link.forward && link.backward ? "↔" : link.forward ? "→" : "←";
  return [`${link.a.name || "no group"} ${arrow} ${link.b.name || "no group"}: ${counted(worst.length, "connection")}`, ...some, ...more].join("\n");
}

/// Sets link.label to a place on the curve where the text covers neither a group nor another text;
/// null if there is none, or if there are too many lines to read: the tooltip has the number too.
function placeLabels(links) {
  if (links.length > kMostLabels) {
    for (const link of links) link.label = null;
    return links;
  }
  const taken = picture.layout.groups.map((group) => ({x: group.x - 2, y: group.y - 26, width: group.width + 4, height: group.height + 28}));
  for (const link of links) {
    const [a, b, c, d] = link.curve;
    const width = measure(bundleText(link), "16px sans-serif") + 12;
    link.label = null;
    for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82, 0.1, 0.9]) {
      const u = 1 - t;
      const at = (axis) => u * u * u * a[axis] + 3 * u * u * t * b[axis] + 3 * u * t * t * c[axis] + t * t * t * d[axis];
      const box = {x: at("x") - width / 2, y: at("y") - 11, width, height: 22};
      if (taken.some((other) => box.x < other.x + other.width && other.x < box.x + width && box.y < other.y + other.height && other.y < box.y + 22)) continue;
      link.label = box;
      taken.push(box);
      break;
    }
  }
  return links;
}

const nodeById = (id) => (id === null ? null : picture.shown.nodes.find((node) => node.id === id) || null);
const chosenNode = () => nodeById(choice.node);
const ownEdges = (node) => picture.shown.byNode.get(node) || [];

function light(node) {
  picture.lit = node ? node.id : null;
  drawEdges();
}

function drawEdges() {
  const lit = nodeById(picture.lit) || chosenNode();
  const own = lit && picture.byGroups ? ownEdges(lit) : [];
  const shown = [...picture.links, ...route(own.map(linkOf))];
  // Denied ones are drawn last, above the others.
  shown.sort((a, b) => kRank[b.state] - kRank[a.state]);
  const touches = (link) => !link.bundle && link.edges.some((edge) => edge.source === lit || edge.target === lit);
  const all = edgeLayer.selectAll("g.edge").data(shown, (link) => link.key).join((enter) => {
    const made = enter.append("g");
    made.append("path").attr("class", "line");
    made.append("path").attr("class", "hit");
    made.append("rect").attr("rx", 7);
    made.append("text").attr("text-anchor", "middle");
    return made.each(function bind() {
      withTip(this, () => linkText(d3.select(this).datum()));
      this.addEventListener("click", () => hooks.chooseLink(d3.select(this).datum()));
    });
  }).attr("class", (link) => `edge ${link.state}${lit ? (touches(link) ? " lit" : " faded") : ""}`).order();
  const arrow = (link, at) => (at ? `url(#arrow-${link.state})` : null);
  all.select("path.line").attr("d", (link) => link.path)
    .attr("marker-end", (link) => arrow(link, !link.bundle || link.forward)).attr("marker-start", (link) => arrow(link, link.backward))
    .style("stroke-width", (link) => (link.bundle ? `${1.4 + Math.log2(link.edges.length + 1) * 0.6}px` : null));
  all.select("path.hit").attr("d", (link) => link.path);
  const place = (link) => link.label || {x: 0, y: 0, width: 0, height: 0};
  all.select("text").text((link) => (link.label ? bundleText(link) : "")).attr("x", (link) => place(link).x + place(link).width / 2)
    .attr("y", (link) => place(link).y + 17);
  all.select("rect").attr("display", (link) => (link.label ? null : "none")).attr("x", (link) => place(link).x)
    .attr("y", (link) => place(link).y).attr("width", (link) => place(link).width).attr("height", (link) => place(link).height);
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

function insideText(inside) {
  if (!inside) return "";
  const denied = denialsIn(inside);
  return `${inside.length.toLocaleString("en-US")} inside${denied ? `, ${denied} denied` : ""}`;
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
    made.append("text").attr("class", "note").attr("text-anchor", "end");
    return made;
  });
  titles.select("text.name").style("font-size", `${style.font}px`).each(function lines(group) {
    setLines(this, group.title, group.x + style.inside, group.y + style.font * 1.35, style.font * 1.2);
  });
  const inside = insideGroups(edges);
  titles.select("text.note").text((group) => insideText(inside.get(group))).attr("x", (group) => group.x + group.width)
    .attr("y", (group) => group.y - 7);
}

function drawNodes(layout, edges) {
  const denied = new Set(edges.filter((edge) => edge.state === "deny").flatMap((edge) => [edge.source, edge.target]));
  const boxes = [...layout.boxes.values()];
  if (!boxes.some((box) => box.node.id === picture.last)) picture.last = boxes.length ? boxes[0].node.id : null;
  const all = nodeLayer.selectAll("g.node").data(boxes, (box) => box.node.id).join((enter) => {
    const made = enter.append("g").attr("role", "button");
    made.append("rect").attr("rx", 5);
    made.append("text").attr("class", "text");
    made.append("text").attr("class", "more");
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
  }).attr("class", (box) => `node ${box.node.kind}${denied.has(box.node) ? " denied" : ""}`)
    .attr("tabindex", (box) => (box.node.id === picture.last ? 0 : -1))
    .attr("aria-pressed", (box) => String(box.node.id === choice.node))
    .attr("aria-label", (box) => nodeText(box.node, ownEdges(box.node))).order();
  all.select("rect").attr("x", (box) => box.x).attr("y", (box) => box.y).attr("width", (box) => box.width)
    .attr("height", (box) => box.height);
  all.select("text.text").each(function lines(box) {
    setLines(this, box.lines, box.x + kText.pad, box.y + kText.pad + 11, kText.line);
  });
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
