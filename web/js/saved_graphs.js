// Graphs saved before the field "preset" showed what it sets. The editor restores fields by their order, so the fields
// that have come in behind it get the values with which these graphs ran, and the later ones keep theirs.
import { app } from "../../../scripts/app.js";

const PLACE = { RefereeOptimizer: 3, RefereeSampler: 5 }; // of the field "preset"
const FIELDS = 14; // of either node then, with the seed's control
const ADDED = { paper: [0], "reference code": [0.2, 10, 1, 0.01, 0.0005] };

function update({ type, widgets_values: values }) {
  const added = ADDED[values?.[PLACE[type]]];
  if (added && values.length === FIELDS) values.splice(PLACE[type] + 1, 0, ...added);
}

app.registerExtension({
  name: "Referee.SavedGraphs",
  beforeConfigureGraph(graph) {
    const graphs = [graph, ...(graph?.definitions?.subgraphs ?? [])];
    graphs.flatMap(({ nodes }) => nodes ?? []).forEach(update);
  },
});
