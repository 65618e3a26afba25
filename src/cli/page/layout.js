// SPDX-License-Identifier: Apache-2.0
// Places for groups and nodes. Nodes of one group are close together in a box, and the boxes are
// arranged by the connections between them (dagre). Nodes never overlap, whatever their texts are.
const kMostLayered = 40;  // boxes that are arranged in layers
const kMostInnerEdges = 500;  // of the map, for layers inside groups
const kText = {width: 190, line: 17, pad: 9, more: 15};
// Gaps and the size of titles in pixels. `loose`: every connection is drawn, between the nodes too.
// `tight`: only those between groups, so that more nodes fit; titles stay readable from afar, and
// the connections inside are a line of text below them (`note`).
const kStyles = {
  loose: {node: 22, group: 46, inside: 16, font: 14, head: 30, note: 0},
  tight: {node: 9, group: 64, inside: 12, font: 28, head: 48, note: 26},
};

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text, font = "13px sans-serif") => {
    context.font = font;
    return context.measureText(text).width;
  };
})();

/// Lines that are at most `width` wide, broken behind a comma, or anywhere if a label is longer.
function wrapped(text, width, font) {
  const lines = [];
  let line = "";
  for (const part of text.split(/(?<=[,; ])/)) {
    if (line && measure(line + part.trimEnd(), font) > width) {
      lines.push(line.trimEnd());
      line = "";
    }
    line += part;
    while (measure(line.trimEnd(), font) > width && line.length > 1) {
      let size = line.length - 1;
      while (size > 1 && measure(line.slice(0, size), font) > width) size--;
      lines.push(line.slice(0, size));
      line = line.slice(size);
    }
  }
  if (line.trimEnd() || !lines.length) lines.push(line.trimEnd());
  return lines;
}

/// Digits of the number of workloads, 0 if it is not shown. A box has room for any such number, so that
/// the map does not move when workloads start and end.
const digitsOf = (node) => (node.workloads > 1 ? String(node.workloads).length : 0);
const moreText = (node) => (node.workloads > 1 ? counted(node.workloads, "workload") : "");

function boxOf(node, group) {
  const lines = wrapped(textIn(node, group), kText.width);
  const more = moreText(node);
  const widest = more ? counted(Number("8".repeat(digitsOf(node))), "workload") : "";
  const width = Math.max(64, ...lines.map((line) => measure(line)), measure(widest, "12px sans-serif")) + 2 * kText.pad;
  return {node, lines, more, width, height: 2 * kText.pad + lines.length * kText.line - 3 + (more ? kText.more : 0)};
}

/// How much a map of this size is made smaller or larger to fill the frame.
const scaleOf = (size, frame) => Math.min(1.3, frame.width / size.width, frame.height / size.height);

/// Rows of boxes that are at most `limit` wide, or as wide as the widest box.
function rowsWithin(boxes, gap, limit) {
  let [x, y, high, wide] = [0, 0, 0, 0];
  for (const box of boxes) {
    if (x > 0 && x + box.width > limit) [x, y, high] = [0, y + high + gap, 0];
    box.x = x;
    box.y = y;
    x += box.width + gap;
    high = Math.max(high, box.height);
    wide = Math.max(wide, x - gap);
  }
  return {width: wide, height: y + high};
}

/// Rows of boxes that fill the frame best.
function rows(boxes, gap, frame) {
  const area = boxes.reduce((sum, box) => sum + (box.width + gap) * (box.height + gap), 0);
  const least = Math.sqrt(area * frame.width / frame.height);
  const limits = [0.7, 0.85, 1, 1.15, 1.3, 1.5, 1.8].map((factor) => least * factor);
  const scales = limits.map((limit) => scaleOf(rowsWithin(boxes, gap, limit), frame));
  return rowsWithin(boxes, gap, limits[scales.indexOf(Math.max(...scales))]);
}

/// Columns of equal width, so that the nodes of a group are easy to read.
function grid(boxes, gap) {
  const width = Math.max(...boxes.map((box) => box.width));
  const height = Math.max(...boxes.map((box) => box.height));
  const columns = Math.max(1, Math.round(Math.sqrt(boxes.length * 1.3 * (height + gap) / (width + gap))));
  let y = 0;
  for (let at = 0; at < boxes.length; at += columns) {
    const row = boxes.slice(at, at + columns);
    row.forEach((box, i) => Object.assign(box, {x: i * (width + gap), y, width}));
    y += Math.max(...row.map((box) => box.height)) + gap;
  }
  return {width: Math.min(columns, boxes.length) * (width + gap) - gap, height: y - gap};
}

/// Layers by dagre, from left to right (LR) or from top to bottom (TB). `edges` are pairs of indexes.
/// routes: a list of points for each of them, around the other boxes, by "FROM TO".
function layers(boxes, edges, rankdir, nodesep, ranksep) {
  const graph = new dagre.graphlib.Graph().setGraph({rankdir, nodesep, ranksep, marginx: 0, marginy: 0});
  boxes.forEach((box, i) => graph.setNode(String(i), {width: box.width, height: box.height}));
  for (const [from, to] of edges) graph.setEdge(String(from), String(to), {});
  dagre.layout(graph);
  boxes.forEach((box, i) => {
    const place = graph.node(String(i));
    box.x = place.x - box.width / 2;
    box.y = place.y - box.height / 2;
  });
  // Lines can be outside of all boxes, as far as their points.
  const routes = new Map(edges.map(([from, to]) => [`${from} ${to}`, graph.edge(String(from), String(to)).points]));
  const bounds = [...boxes, ...[...routes.values()].flat().map(({x, y}) => ({x, y, width: 0, height: 0}))];
  const left = Math.min(...bounds.map((box) => box.x));
  const top = Math.min(...bounds.map((box) => box.y));
  const width = Math.max(...bounds.map((box) => box.x + box.width)) - left;
  const height = Math.max(...bounds.map((box) => box.y + box.height)) - top;
  for (const box of boxes) [box.x, box.y] = [box.x - left, box.y - top];
  for (const [key, points] of routes) routes.set(key, points.map((point) => ({x: point.x - left, y: point.y - top})));
  return {width, height, routes};
}

/// Different pairs of indexes of the edges whose ends `indexOf` knows, without loops.
function pairs(edges, indexOf) {
  const found = new Map();
  for (const edge of edges) {
    const [from, to] = [indexOf(edge.source), indexOf(edge.target)];
    if (from !== undefined && to !== undefined && from !== to) found.set(`${from} ${to}`, [from, to]);
  }
  return [...found.values()];
}

function layOutGroup(name, nodes, edges, style) {
  const boxes = nodes.map((node) => boxOf(node, name)).sort((a, b) => (a.node.text < b.node.text ? -1 : 1));
  const index = new Map(boxes.map((box, i) => [box.node, i]));
  const inner = style === kStyles.loose ? pairs(edges, (node) => index.get(node)) : [];
  const size = inner.length && inner.length <= 2 * boxes.length && boxes.length <= kMostLayered && edges.length <= kMostInnerEdges
    ? layers(boxes, inner, "LR", style.node, 2.6 * style.node) : grid(boxes, style.node);
  const font = `bold ${style.font}px sans-serif`;
  const title = name ? wrapped(name, Math.max(size.width, 150), font) : [];
  const head = (name ? style.head + (title.length - 1) * style.font * 1.2 : style.inside) + style.note;
  boxes.forEach((box, i) => { [box.x, box.y, box.at] = [box.x + style.inside, box.y + head, i]; });
  const wide = Math.max(size.width, style.note ? 190 : 0, ...title.map((line) => measure(line, font)));
  return {name, title, boxes, head, routes: size.routes, inside: style.inside,
    width: wide + 2 * style.inside, height: head + size.height + style.inside};
}

/// Layers show nothing where every group has connections to most others, and take seconds.
const hasLayers = (groups, between) => groups.length <= kMostLayered && between.length <= 3 * groups.length;

/// Places groups so that the map is as large as possible in the frame: from left to right or from
/// top to bottom in layers, or in rows if there would be too many layers. Those rows keep neighbors of
/// the layers close; without layers, they are in the order of the names.
function layOutGroups(groups, between, style, frame) {
  const inRows = (sorted) => rows(sorted, 1.5 * style.group, frame);
  if (!hasLayers(groups, between)) return inRows(groups);
  const ways = ["LR", "TB"].map((direction) => () => layers(groups, between, direction, style.group, 2.6 * style.group));
  ways.push(() => inRows([...groups].sort((a, b) => a.x + a.width / 2 - b.x - b.width / 2 || a.y - b.y)));
  const scores = ways.map((way, i) => scaleOf(way(), frame) * (i === 2 ? 0.7 : 1));
  const best = scores.indexOf(Math.max(...scores));
  if (best === 2) ways[0]();
  return ways[best]();
}

/// The points of a line from one node, or group, to another, around what is between them; undefined
/// if the layout has none.
function pointsOf(layout, a, b) {
  if (a.node) {
    const {group} = a;
    const points = group === b.group && group.routes?.get(`${a.at} ${b.at}`);
    return points ? points.map((point) => ({x: point.x + group.x + group.inside, y: point.y + group.y + group.head})) : undefined;
  }
  const [from, to] = [layout.groups.indexOf(a), layout.groups.indexOf(b)];
  return layout.routes?.get(`${from} ${to}`) || layout.routes?.get(`${to} ${from}`)?.toReversed();
}

/// {groups: [{name, x, y, width, height, boxes}], boxes: Map of node to its box, width, height}.
/// All positions are absolute. `frame`: width and height of the part of the page for the map.
function layOut(nodes, edges, key, style, frame) {
  const members = new Map();
  for (const node of nodes) {
    const name = groupOf(node, key);
    if (!members.has(name)) members.set(name, []);
    members.get(name).push(node);
  }
  const names = [...members.keys()].sort();
  const groups = names.map((name) => layOutGroup(name, members.get(name), edges, style));
  const boxes = new Map();
  if (!groups.length) return {groups, boxes, style, width: 1, height: 1};
  const index = new Map();
  groups.forEach((group, i) => group.boxes.forEach((box) => index.set(box.node, i)));
  const between = pairs(edges, (node) => index.get(node));
  const size = layOutGroups(groups, between, style, frame);
  for (const group of groups) {
    for (const box of group.boxes) {
      [box.x, box.y, box.group] = [box.x + group.x, box.y + group.y, group];
      boxes.set(box.node, box);
    }
  }
  return {groups, boxes, style, ...size};
}
