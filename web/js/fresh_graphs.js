// Runs are kept by the graph's id, and a template or a picture has the id of the graph that was saved in it. So a graph
// that is opened from one gets an id of its own, and shows no other graph's runs. What the editor brings back itself
// keeps its id: the graphs of a page that is loaded again, another tab's, an earlier state, one of the user's own files.
import { app } from "../../../scripts/app.js";

const holdsOurs = ({ nodes }) => nodes?.some(({ type }) => String(type).startsWith("Referee"));

// The editor says which of its known workflows a graph belongs to; of a new one it has a name at most, as of the graphs
// of a page that is loaded again: until one of these is there, no workflow is open.
function isFresh(graph, workflow) {
  const loaded = app.extensionManager?.workflow?.activeWorkflow;
  if (!graph?.id || !loaded || (workflow && typeof workflow === "object")) return false;
  return [graph, ...(graph.definitions?.subgraphs ?? [])].some(holdsOurs);
}

app.registerExtension({
  name: "Referee.FreshGraphs",
  setup() {
    const load = app.loadGraphData;
    app.loadGraphData = function (graph, clean, view, workflow, ...rest) {
      const given = isFresh(graph, workflow) ? { ...graph, id: undefined } : graph; // the editor makes an id
      return load.call(this, given, clean, view, workflow, ...rest);
    };
  },
});
