// The button "finish now" on a node whose run goes on: the run ends and gives out the best so far, where Cancel gives
// nothing.
import { api } from "../../../scripts/api.js";

const NODES = ["RefereeOptimizer", "RefereeSearch", "RefereePromptOptimizer", "RefereePromptTrainer"]; // whose runs can be finished
const STYLE = { position: "absolute", top: "76px", right: "6px", padding: "1px 8px", font: "11px sans-serif" };
const COLOURS = { color: "#eee", background: "#444", border: "1px solid #777", borderRadius: "4px", cursor: "pointer" };

export function finishButton(parent) {
  const button = document.createElement("button");
  button.className = "referee-finish";
  button.title = "End this run now and give out the best so far. Cancel gives nothing.";
  button.hidden = true;
  Object.assign(button.style, STYLE, COLOURS);
  parent.style.position = "relative";
  parent.append(button);
  return button;
}

// Offer to finish a run of this node.
export function offer(button, run, node) {
  button.hidden = !run.running || !NODES.includes(node?.comfyClass ?? node?.type);
  button.disabled = Boolean(run.finish);
  button.textContent = run.finish ? "finishing …" : "finish now";
  button.onclick = async () => {
    run.finish = true;
    offer(button, run, node);
    if (!(await ask(run))) run.running = false; // the server knows of no such run
    offer(button, run, node);
  };
}

async function ask({ workflow, node }) {
  const body = JSON.stringify({ workflow, node });
  const headers = { "Content-Type": "application/json" };
  const answer = await api.fetchApi("/referee/finish", { method: "POST", headers, body });
  return answer.ok && (await answer.json());
}
