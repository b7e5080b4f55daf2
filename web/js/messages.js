// ComfyUI's message of a run that failed or was refused says little more than which node it was. So what one of the pack's
// nodes says about it is shown too, until the user closes it or queues again.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const shown = [];

function say(type, detail) {
  const message = { severity: "error", summary: LiteGraph.registered_node_types[type]?.title ?? type, detail };
  app.extensionManager?.toast?.add(message);
  shown.push(message);
}

const isOurs = (type) => String(type).startsWith("Referee");

function sayFailed({ node_type: type, exception_message: text }) {
  if (isOurs(type)) say(type, text.trim());
}

// Other errors than a node's own are ComfyUI's, which says them in full.
export function sayRefused(nodes) {
  for (const { class_type: type, errors } of Object.values(nodes).filter((node) => isOurs(node.class_type))) {
    const own = errors.filter((error) => error.type === "custom_validation_failed");
    for (const text of new Set(own.map(({ details }) => details.replace(/^\S+ - /, "")))) say(type, text);
  }
}

export function forget() {
  for (const message of shown.splice(0)) app.extensionManager?.toast?.remove(message);
}

app.registerExtension({
  name: "Referee.Messages",
  setup() {
    api.addEventListener("execution_error", ({ detail }) => sayFailed(detail));
  },
});
