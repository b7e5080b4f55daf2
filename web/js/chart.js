// What a node shows of its run: a chart of the losses or matches, with dashed lines at restarts and at what was given up;
// on a subgraph that holds such a node also its status line and picture. Fed by the server's messages "referee.steps"
// (nodes/bridge/curves.py says what a run is); what a page has missed is fetched when a graph is opened. Without the
// functions it needs it does nothing.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { finishButton, offer } from "./finish.js";
import { forget, sayRefused } from "./messages.js";
import { draw } from "./plot.js";

const NODES = [
  "RefereeOptimizer",
  "RefereeSearch",
  "RefereeGuidance",
  "RefereeRounds",
  "RefereePromptOptimizer",
  "RefereePromptTrainer",
  "RefereeInverseSampler",
]; // whose runs are shown
const WIDTH = 380; // of a new node, so that the status line fits
const CHART = 110, STATUS = 20, PICTURE = 200; // heights
const TOLD = ["progress_text", "b_preview_with_metadata"]; // ComfyUI's own messages of a text and a picture on a node

const runs = new Map(); // "workflow|path" -> run
const panels = new WeakMap(); // node -> {element, canvas, run, finish, status, picture}
const opened = new Map(); // id of a subgraph -> path of the node through which the user looks into it

const rootGraph = () => app.rootGraph ?? app.graph;
const shows = (node) => NODES.includes(node.comfyClass ?? node.type) || holds(node);
const holds = (node) => Boolean(node.subgraph?.nodes?.some(shows));

// A message is new rows, and what has changed; "running" is true in a run's first message, false in its last.
function take({ rows, ...news }) {
  const key = `${news.workflow}|${news.node}`;
  if (news.running) runs.delete(key);
  if (!runs.has(key)) runs.set(key, { rows: [], status: "", picture: "", running: true });
  const run = Object.assign(runs.get(key), news);
  run.rows.push(...rows);
  show(run);
}

// The nodes on a run's path, from the root graph's node inwards. Instances of a subgraph share their inner nodes: these
// belong to the instance that the user looks into. A run that was started without a graph belongs to any.
function nodesOf({ workflow, node: path }) {
  let graph = rootGraph();
  if (workflow && graph?.id && workflow !== graph.id) return [];
  const found = [];
  let above = "";
  for (const id of String(path).split(":")) {
    const node = graph?.getNodeById(id);
    if (!node) break;
    if (!above || opened.get(graph.id) === above) found.push(node);
    above = above ? `${above}:${id}` : id;
    graph = node.subgraph;
  }
  return found;
}

// The node whose run it is.
function innermost(path) {
  const inside = (node, id) => node?.subgraph?.getNodeById(id);
  return String(path).split(":").reduce(inside, { subgraph: rootGraph() });
}

function show(run) {
  for (const node of nodesOf(run)) {
    const panel = panels.get(node);
    if (!panel) continue;
    plot(panel, run);
    offer(panel.finish, run, innermost(run.node));
    if (panel.status) panel.status.textContent = run.status;
    if (panel.picture && run.picture) {
      panel.picture.src = run.picture;
      panel.picture.style.visibility = "visible";
    }
    node.setDirtyCanvas?.(true, true);
  }
}

function plot(panel, run) {
  panel.run = run;
  if (run) draw(panel.canvas, run, CHART);
}

// Charts are drawn for the size at which they are seen, so anew once the graph's zoom or the screen is another. Vue may
// have made a node's element anew.
function watchFrames() {
  if (!app.canvas) return;
  const drawn = app.canvas.onDrawForeground;
  let seen, timer;
  const look = () => {
    const now = `${app.canvas.ds.scale} ${window.devicePixelRatio}`;
    if (now === seen) return;
    seen = now;
    clearTimeout(timer);
    timer = setTimeout(plotAll, 100); // the nodes follow the zoom a little later
  };
  app.canvas.onDrawForeground = function (...given) {
    drawn?.apply(this, given);
    look();
    this.graph?.nodes.forEach(mount);
  };
}

// "Nodes 2.0" show on a subgraph's node only what comes from its inputs: its panel goes into the node's element.
function mount(node) {
  const element = node.subgraph && LiteGraph.vueNodesMode && panels.get(node)?.element;
  if (!element || element.isConnected) return;
  document.querySelector(`[data-testid="node-body-${node.id}"]`)?.append(element);
}

function plotAll() {
  everyNode(rootGraph(), (node) => {
    const panel = panels.get(node);
    if (panel) plot(panel, panel.run);
  });
}

// Status and picture of a node that is no subgraph are ComfyUI's to show, so it is told again what it has told before.
async function tellAgain(run) {
  const id = run.node;
  if (!nodesOf(run).length) return; // another graph is open by now
  if (run.status) api.dispatchEvent(new CustomEvent("progress_text", { detail: { nodeId: id, text: run.status } }));
  if (!run.picture) return;
  const blob = await (await fetch(run.picture)).blob();
  if (!nodesOf(run).length) return;
  const ids = { nodeId: id, displayNodeId: id, parentNodeId: id, realNodeId: id };
  api.dispatchEvent(new CustomEvent("b_preview_with_metadata", { detail: { blob, ...ids } }));
}

// ComfyUI shows texts and previews by the node's id alone, which another graph's node may have.
function keepApart() {
  const dispatch = api.dispatchCustomEvent;
  if (!dispatch) return;
  api.dispatchCustomEvent = function (type, detail) {
    return (TOLD.includes(type) && isElsewhere(detail.nodeId)) || dispatch.call(this, type, detail);
  };
}

function isElsewhere(id) {
  const run = [...runs.values()].findLast(({ running, node }) => running && node === String(id));
  return Boolean(run?.workflow) && run.workflow !== rootGraph()?.id;
}

// A node that the server refuses to run says why, and must not keep the line of its last run.
function watchRefusals() {
  const queue = api.queuePrompt;
  api.queuePrompt = async function (number, prompt, ...rest) {
    const refused = (answer) => {
      const errors = answer?.node_errors ?? {};
      sayRefused(errors);
      refuse(prompt.workflow?.id, Object.keys(errors));
    };
    forget();
    try {
      const answer = await queue.call(this, number, prompt, ...rest);
      refused(answer);
      return answer;
    } catch (error) {
      refused(error.response);
      throw error;
    }
  };
}

function refuse(workflow, nodes) {
  for (const run of nodes.map((node) => runs.get(`${workflow}|${node}`)).filter(Boolean)) {
    Object.assign(run, { rows: [], status: "not run: see its error" });
    show(run);
    tellAgain(run);
  }
}

async function fetchMissed() {
  const workflow = rootGraph()?.id;
  if (!workflow) return;
  let missed = [];
  try {
    const answer = await api.fetchApi(`/referee/curves?workflow=${encodeURIComponent(workflow)}`);
    if (answer.ok) missed = await answer.json();
  } catch {
    // a server that is gone: the chart begins with the next run
  }
  for (const run of missed) {
    runs.set(`${run.workflow}|${run.node}`, run);
    show(run);
    await tellAgain(run);
  }
}

function part(tag, height, parent) {
  const element = document.createElement(tag);
  element.className = `referee-${{ canvas: "chart", div: "status", img: "picture" }[tag]}`;
  Object.assign(element.style, { display: "block", width: "100%", height: `${height}px`, maxHeight: `${height}px` });
  parent.append(element);
  return element;
}

function addPanel(node) {
  if (panels.has(node) || typeof node.addDOMWidget !== "function") return;
  const element = document.createElement("div");
  const panel = { element, canvas: part("canvas", CHART, element), finish: finishButton(element) };
  let height = CHART;
  if (holds(node)) {
    panel.status = part("div", STATUS, element);
    Object.assign(panel.status.style, { font: "12px sans-serif", overflow: "hidden", whiteSpace: "nowrap" });
    panel.picture = part("img", PICTURE, element);
    Object.assign(panel.picture.style, { objectFit: "contain", visibility: "hidden" }); // without a picture it is a frame
    height += STATUS + PICTURE;
  }
  new ResizeObserver(() => plot(panel, panel.run)).observe(panel.canvas); // also tells of one that comes into sight
  const size = { getMinHeight: () => height, getMaxHeight: () => height };
  const widget = node.addDOMWidget("referee_chart", "referee_chart", element, { serialize: false, ...size });
  widget.serialize = false; // neither in the prompt nor in the saved graph
  keep(node, widget);
  panels.set(node, panel);
  fit(node);
}

// Some frontends list the widgets of a subgraph's node anew each time, from its inputs.
function keep(node, widget) {
  if (node.widgets?.includes(widget)) return;
  const listed = Object.getOwnPropertyDescriptor(node, "widgets");
  Object.defineProperty(node, "widgets", { ...listed, get: () => [...listed.get.call(node), widget] });
}

function fit(node) {
  const least = node.computeSize?.() ?? [0, 0];
  node.setSize?.([Math.max(WIDTH, least[0], node.size[0]), Math.max(least[1], node.size[1])]);
}

function everyNode(graph, visit) {
  for (const node of graph?.nodes ?? []) {
    visit(node);
    if (node.subgraph) everyNode(node.subgraph, visit);
  }
}

// A graph is there: nodes that got a panel have their ids and saved sizes now.
function arrange() {
  everyNode(rootGraph(), (node) => {
    if (!shows(node)) return;
    addPanel(node);
    if (panels.has(node)) fit(node);
  });
}

function lookInto({ subgraph, fromNode }) {
  if (!subgraph || !fromNode) return;
  const above = opened.get(fromNode.graph?.id);
  opened.set(subgraph.id, above ? `${above}:${fromNode.id}` : String(fromNode.id));
  for (const node of subgraph.nodes) {
    const panel = panels.get(node);
    if (!panel) continue;
    plot(panel, { steps: 0, rows: [] });
    panel.finish.hidden = true;
  }
  for (const run of runs.values()) show(run);
}

app.registerExtension({
  name: "Referee.Chart",
  setup() {
    api.addEventListener("referee.steps", ({ detail }) => take(detail));
    keepApart();
    watchRefusals();
    watchFrames();
    app.canvas?.canvas?.addEventListener("subgraph-opened", ({ detail }) => lookInto(detail));
  },
  nodeCreated(node) {
    if (shows(node)) addPanel(node);
  },
  async afterConfigureGraph() {
    arrange();
    await fetchMissed();
  },
});
