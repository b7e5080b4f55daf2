// The live chart on Referee Optimizer: losses over the steps, restarts as dashed lines. Fed by the server's "referee.steps" messages
// (nodes/bridge/curves.py); what was missed is fetched when the page loads. Without the functions it needs it does nothing.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const NODE = "RefereeOptimizer";
const HEIGHT = 110;
const WIDTH = 430; // of a new node, so that the status line fits
const COLOURS = ["#e8a33d", "#5fb3f3", "#7fd08a", "#d98ad6", "#e57373", "#b0b0b0"];
const NORMS = ["referee gradient", "SDS gradient"]; // shown only where there is no loss: score distillation alone

const runs = new Map(); // "workflow|node" -> {workflow, node, steps, rows}
const charts = new Map(); // node id -> canvas

function take({ workflow, node, steps, rows }) {
  const key = `${workflow}|${node}`;
  if (!rows.length || !runs.has(key)) runs.set(key, { workflow, node, steps, rows: [] });
  const run = runs.get(key);
  run.rows.push(...rows);
  draw(run);
}

// Of a run in this graph; one started without a browser belongs to any. Inside a subgraph the server names a node by its whole
// path, "12:3".
function canvasOf({ workflow, node }) {
  const graph = app.rootGraph ?? app.graph;
  if (workflow && graph?.id && workflow !== graph.id) return undefined;
  return charts.get(node) ?? charts.get(String(node).split(":").pop());
}

// One row a pixel is enough.
function thinned(rows, width) {
  const every = Math.max(1, Math.floor(rows.length / Math.max(1, width)));
  return rows.filter((row, i) => i % every === 0 || i === rows.length - 1);
}

function series(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.values)))];
  const losses = names.filter((name) => !NORMS.includes(name));
  return (losses.length ? losses : names).map((name) => ({
    name,
    points: rows.filter((row) => name in row.values).map((row) => [row.step, row.values[name]]),
  }));
}

function draw(run) {
  const canvas = canvasOf(run);
  if (!canvas) return;
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth || 240;
  const height = canvas.clientHeight || HEIGHT;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "10px sans-serif";

  const lines = series(thinned(run.rows, width));
  const values = lines.flatMap((line) => line.points.map(([, y]) => y));
  const top = values.reduce((a, b) => Math.max(a, b), 1e-6);
  const low = values.reduce((a, b) => Math.min(a, b), 0); // below 0 where a sentence is pushed away
  const area = { left: 26, right: width - 4, top: 16, bottom: height - 12 };
  const x = (step) => area.left + ((area.right - area.left) * step) / Math.max(1, run.steps - 1);
  const y = (value) => area.bottom - ((area.bottom - area.top) * (value - low)) / (top - low);

  pen.strokeStyle = pen.fillStyle = "rgba(160,160,160,0.8)";
  pen.lineWidth = 0.5;
  pen.strokeRect(area.left, area.top, area.right - area.left, area.bottom - area.top);
  pen.textAlign = "right";
  if (values.length) pen.fillText(top.toPrecision(2), area.left - 3, area.top + 6);
  pen.fillText(low < 0 ? low.toPrecision(2) : "0", area.left - 3, area.bottom);
  pen.fillText(String(run.steps), area.right, height - 1);
  pen.setLineDash([2, 3]);
  for (const row of run.rows.filter((r) => r.restart)) {
    pen.beginPath();
    pen.moveTo(x(row.step), area.top);
    pen.lineTo(x(row.step), area.bottom);
    pen.stroke();
  }
  pen.setLineDash([]);
  pen.lineWidth = 1.4;
  pen.textAlign = "left";
  let place = area.left;
  lines.forEach(({ name, points }, i) => {
    pen.strokeStyle = pen.fillStyle = COLOURS[i % COLOURS.length];
    pen.beginPath();
    pen.moveTo(x(points[0][0]) - 1, y(points[0][1])); // a single step is a dot
    for (const [step, value] of points) pen.lineTo(x(step), y(value));
    pen.stroke();
    const label = `${name} ${points.at(-1)[1].toFixed(2)}`;
    pen.fillText(label, place, 10);
    place += pen.measureText(label).width + 10;
  });
  canvas.dataset.steps = run.rows.length;
  canvas.setAttribute("aria-label", lines.map((l) => `${l.name} ${l.points.at(-1)[1]}`).join(", "));
}

function addChart(node) {
  if (typeof node.addDOMWidget !== "function") return;
  const canvas = document.createElement("canvas");
  canvas.className = "referee-chart";
  canvas.style.width = "100%";
  canvas.style.height = canvas.style.maxHeight = `${HEIGHT}px`;
  const widget = node.addDOMWidget("referee_chart", "referee_chart", canvas, {
    serialize: false,
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
  });
  widget.serialize = false; // neither in the prompt nor in the saved graph
  node.setSize?.([Math.max(WIDTH, node.size[0]), node.size[1]]);
  // a node gets its id after it is made, and another one when it is pasted
  const register = () => {
    charts.set(String(node.id), canvas);
    for (const run of runs.values()) if (canvasOf(run) === canvas) draw(run);
  };
  const added = node.onAdded;
  node.onAdded = function (...args) {
    added?.apply(this, args);
    register();
  };
  const configured = node.onConfigure;
  node.onConfigure = function (...args) {
    configured?.apply(this, args);
    register();
  };
  const removed = node.onRemoved;
  node.onRemoved = function (...args) {
    removed?.apply(this, args);
    if (charts.get(String(node.id)) === canvas) charts.delete(String(node.id));
  };
  register();
}

app.registerExtension({
  name: "Referee.Chart",
  async setup() {
    api.addEventListener("referee.steps", ({ detail }) => take(detail));
    let missed = [];
    try {
      const answer = await api.fetchApi("/referee/curves");
      if (answer.ok) missed = await answer.json();
    } catch {
      // an older server: the chart begins with the next run
    }
    for (const run of missed) {
      runs.set(`${run.workflow}|${run.node}`, run);
      draw(run);
    }
  },
  nodeCreated(node) {
    if ((node.comfyClass ?? node.type) === NODE) addChart(node);
  },
});
