// SPDX-License-Identifier: Apache-2.0
// The lines of the map: their ways around boxes, one for each connection or for each pair of groups.
const kMostLabels = 200;  // counts of lines
const kMostRouted = 300;  // lines that look for a way around boxes
const kCrowded = 500;  // lines, of which those that are allowed are drawn faintly
const kAway = {right: [1, 0], left: [-1, 0], top: [0, -1], bottom: [0, 1]};
const kSides = Object.keys(kAway);

/// The sides of two boxes with the wider gap between them.
function nearSides(from, to) {
  const across = Math.max(to.x - from.x - from.width, from.x - to.x - to.width);
  const down = Math.max(to.y - from.y - from.height, from.y - to.y - to.height);
  if (across >= down) return to.x > from.x ? ["right", "left"] : ["left", "right"];
  return to.y > from.y ? ["bottom", "top"] : ["top", "bottom"];
}

/// A point of a side of a box; `along`: 0 to 1.
function pointAt(box, side, along) {
  const upright = side === "right" || side === "left";
  return {away: kAway[side],
    x: upright ? box.x + (side === "right" ? box.width : 0) : box.x + box.width * along,
    y: upright ? box.y + box.height * along : box.y + (side === "bottom" ? box.height : 0)};
}

/// The four points of a curve. `bend`: how far it goes straight on from both boxes.
function curveOf(begin, end, bend) {
  const far = Math.max(18, Math.min(160 + 200 * (bend - 0.42), Math.hypot(end.x - begin.x, end.y - begin.y) * bend));
  return [begin, ...[begin, end].map((point) => ({x: point.x + point.away[0] * far, y: point.y + point.away[1] * far})), end];
}

function onCurve([a, b, c, d], t) {
  const u = 1 - t;
  const at = (axis) => u * u * u * a[axis] + 3 * u * u * t * b[axis] + 3 * u * t * t * c[axis] + t * t * t * d[axis];
  return {x: at("x"), y: at("y")};
}

/// How much of a curve is behind boxes.
function hidden(curve, boxes) {
  const [left, right] = [Math.min(...curve.map((point) => point.x)), Math.max(...curve.map((point) => point.x))];
  const [top, bottom] = [Math.min(...curve.map((point) => point.y)), Math.max(...curve.map((point) => point.y))];
  const near = boxes.filter((box) => box.x < right && left < box.x + box.width && box.y < bottom && top < box.y + box.height);
  let count = 0;
  for (let t = 0.02; near.length && t < 0.99; t += 0.04) {
    const {x, y} = onCurve(curve, t);
    if (near.some((box) => x > box.x + 1 && x < box.x + box.width - 1 && y > box.y + 1 && y < box.y + box.height - 1)) count++;
  }
  return count;
}

/// Sets link.sides and link.bend to a way that is behind as few boxes as possible, and short.
function chooseWay(link, boxes) {
  let best = Infinity;
  const consider = (sides, bend, extra) => {
    const [begin, end] = [pointAt(link.a, sides[0], 0.5), pointAt(link.b, sides[1], 0.5)];
    const curve = curveOf(begin, end, bend);
    const behind = hidden(curve, boxes);
    const cost = behind + extra + Math.hypot(end.x - begin.x, end.y - begin.y) / 1000;
    if (cost < best) [best, link.sides, link.bend] = [cost, sides, bend];
    return behind;
  };
  if (consider(nearSides(link.a, link.b), 0.42, 0) === 0) return;
  for (const bend of [0.42, 0.8, 1.2]) {
    for (const first of kSides) for (const second of kSides) consider([first, second], bend, bend);
  }
}

const spline = d3.line().x((point) => point.x).y((point) => point.y).curve(d3.curveBasis);

/// Sets link.path. The ends of edges at one side of a box are spread in the order of their other ends,
/// so that they do not cross there. A line leads around boxes, where it can.
function route(links) {
  const ends = new Map();
  const {layout} = picture;
  for (const link of links) {
    if (link.a === link.b) continue;
    link.points = pointsOf(layout, link.a, link.b);
    if (link.points) continue;
    chooseWay(link, links.length > kMostRouted ? [] : link.bundle ? layout.groups : [...layout.boxes.values()]);
    [[link.a, link.b, "begin"], [link.b, link.a, "end"]].forEach(([box, other, name], i) => {
      if (!ends.has(box)) ends.set(box, {right: [], left: [], top: [], bottom: []});
      ends.get(box)[link.sides[i]].push({link, name, other});
    });
  }
  for (const [box, sides] of ends) {
    for (const [side, list] of Object.entries(sides)) {
      const upright = side === "right" || side === "left";
      const center = (end) => (upright ? end.other.y + end.other.height / 2 : end.other.x + end.other.width / 2);
      list.sort((a, b) => center(a) - center(b) || (a.name < b.name ? -1 : 1));
      list.forEach((end, i) => { end.link[end.name] = pointAt(box, side, (i + 1) / (list.length + 1)); });
    }
  }
  for (const link of links) {
    if (link.a === link.b) {
      const [x, y] = [link.a.x + link.a.width, link.a.y + link.a.height];
      link.path = `M${x - 14} ${y} C${x - 14} ${y + 20} ${x + 20} ${y - 6} ${x} ${y - 10}`;
    } else if (link.points) {
      link.path = spline(link.points);
    } else {
      const [begin, c1, c2, end] = curveOf(link.begin, link.end, link.bend);
      link.path = `M${begin.x} ${begin.y} C${c1.x} ${c1.y} ${c2.x} ${c2.y} ${end.x} ${end.y}`;
    }
  }
  return links;
}

const linkOf = (edge) => ({key: edge.key, state: edge.state, edges: [edge], forward: [edge],
  a: picture.layout.boxes.get(edge.source), b: picture.layout.boxes.get(edge.target)});

/// The state that most of the edges have; of several, the one that is worst.
function mostly(edges) {
  const counts = new Map();
  for (const edge of edges) counts.set(edge.state, (counts.get(edge.state) || 0) + 1);
  return [...counts].sort(([a, some], [b, others]) => others - some || kRank[a] - kRank[b])[0][0];
}

/// One link for each pair of groups: many connections are readable as few lines. The line, and the
/// arrow of each direction, have the color of most of the connections; their count says how many are
/// denied.
function bundles(edges) {
  const found = new Map();
  for (const edge of edges) {
    const {a, b} = linkOf(edge);
    if (a.group === b.group) continue;
    const [first, second] = a.group.name < b.group.name ? [a.group, b.group] : [b.group, a.group];
    const key = `groups\n${first.name}\n${second.name}`;  // an edge has one line end in its key
    if (!found.has(key)) found.set(key, {key, edges: [], forward: [], backward: [], a: first, b: second, bundle: true});
    const link = found.get(key);
    link.edges.push(edge);
    (b.group === second ? link.forward : link.backward).push(edge);
  }
  for (const link of found.values()) link.state = mostly(link.edges);
  return [...found.values()];
}

/// What a count says, as texts with their styles: of 5 connections "5", or "5", ", 1 denied". `isShort`:
/// without the words, where there is no room for them.
function countTexts(edges, isShort = false) {
  const texts = [[edges.length.toLocaleString("en-US"), "all"]];
  for (const [state, word] of [["deny", "denied"], ["audit", "audited"]]) {
    const count = edges.filter((edge) => edge.state === state).length;
    if (!count) continue;
    if (isShort) texts.push([` ${count.toLocaleString("en-US")}`, state]);
    else texts.push([count === edges.length ? ` ${word}` : `, ${count.toLocaleString("en-US")} ${word}`, state]);
  }
  return texts;
}
function setTexts(element, texts) {
  d3.select(element).selectAll("tspan").data(texts).join("tspan").attr("class", ([, style]) => style).text(([text]) => text);
}

function linkText(link) {
  if (!link.bundle) return edgeText(link.edges[0]);
  const worst = [...link.edges].sort((a, b) => kRank[a.state] - kRank[b.state]);
  const some = worst.slice(0, 8).map((edge) => `${kStateText[edge.state]}: ${edge.source.text} → ${edge.target.text} ${edge.may || usesText(edge).join(", ")}`);
  const more = worst.length > some.length ? [`and ${worst.length - some.length} more`] : [];
  const arrow = link.forward.length && link.backward.length ? "↔" : link.forward.length ? "→" : "←";
  return [`${link.a.name || "no group"} ${arrow} ${link.b.name || "no group"}: ${counted(worst.length, "connection")}`, ...some, ...more].join("\n");
}

/// A place on a line for a text of this width that covers none of `taken`; null if there is none.
function placeOn(line, width, taken) {
  const [length, height] = [line.getTotalLength(), 24];
  for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82, 0.1, 0.9]) {
    const point = line.getPointAtLength(length * t);
    const [x, y] = [point.x - width / 2, point.y - height / 2];
    if (!taken.some((box) => x < box.x + box.width && box.x < x + width && y < box.y + box.height && box.y < y + height)) return {x, y, width, height};
  }
  return null;
}

/// Sets link.texts, and link.label to a place on the line where they cover neither a group nor other
/// texts; null if there is none, or if there are too many lines to read: the tooltip has the number too.
function placeLabels(links) {
  const around = (box, gap) => ({x: box.x - gap, y: box.y - gap, width: box.width + 2 * gap, height: box.height + 2 * gap});
  const taken = picture.layout.groups.map((group) => around(group, 2));
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const link of links) {
    link.label = null;
    if (links.length > kMostLabels) continue;
    line.setAttribute("d", link.path);
    for (const isShort of [false, true]) {
      if (link.label) break;
      link.texts = countTexts(link.edges, isShort);
      link.label = placeOn(line, measure(link.texts.map(([text]) => text).join(""), "bold 16px sans-serif") + 14, taken);
    }
    if (link.label) taken.push(around(link.label, 5));
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

/// Draws these links in a layer. Denied ones are drawn last, above the others.
function drawLines(layer, links, styleOf) {
  links.sort((a, b) => kRank[b.state] - kRank[a.state]);
  const all = layer.selectAll("g.edge").data(links, (link) => link.key).join((enter) => {
    const made = enter.append("g");
    made.append("path").attr("class", "line");
    made.append("path").attr("class", "hit");
    return made.each(function bind() {
      withTip(this, () => linkText(d3.select(this).datum()));
      this.addEventListener("click", () => hooks.chooseLink(d3.select(this).datum()));
    });
  }).attr("class", (link) => `edge ${link.state}${styleOf(link)}`).order();
  const arrow = (edges) => (edges && edges.length ? `url(#arrow-${mostly(edges)})` : null);
  all.select("path.line").attr("d", (link) => link.path)
    .attr("marker-end", (link) => arrow(link.forward)).attr("marker-start", (link) => arrow(link.backward))
    .style("stroke-width", (link) => (link.bundle ? `${1.2 + Math.log2(link.edges.length + 1) * 0.35}px` : null));
  all.select("path.hit").attr("d", (link) => link.path);
}

/// The counts of the lines between groups, above all lines.
function drawCounts(links, styleOf) {
  const all = countLayer.selectAll("g.count").data(links.filter((link) => link.label), (link) => link.key).join((enter) => {
    const made = enter.append("g");
    made.append("rect").attr("rx", 7);
    made.append("text").attr("text-anchor", "middle");
    return made.each(function bind() {
      withTip(this, () => linkText(d3.select(this).datum()));
      this.addEventListener("click", () => hooks.chooseLink(d3.select(this).datum()));
    });
  }).attr("class", (link) => `count ${link.state}${styleOf(link)}`);
  all.select("rect").attr("x", (link) => link.label.x).attr("y", (link) => link.label.y).attr("width", (link) => link.label.width)
    .attr("height", (link) => link.label.height);
  all.select("text").attr("x", (link) => link.label.x + link.label.width / 2).attr("y", (link) => link.label.y + 17)
    .each(function texts(link) { setTexts(this, link.texts); });
}

function drawEdges() {
  const lit = nodeById(picture.lit) || chosenNode();
  const own = lit && picture.byGroups ? route(ownEdges(lit).map(linkOf)) : [];
  const touches = (link) => link.edges.some((edge) => edge.source === lit || edge.target === lit);
  const crowded = !picture.byGroups && picture.links.length > kCrowded;
  const style = (link) => (lit ? (!link.bundle && touches(link) ? " lit" : " faded") : crowded ? " crowded" : "");
  drawLines(bundleLayer, picture.byGroups ? picture.links : [], style);
  drawLines(edgeLayer, picture.byGroups ? own : [...picture.links], style);
  drawCounts(picture.byGroups ? picture.links : [], style);
}
