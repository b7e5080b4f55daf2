// Graphs saved by version 0.1.0 before "preset" showed what it sets: the editor restores fields by their order, so the
// fields that have come in behind it get their defaults here, and the later ones keep their values.
import { app } from "../../../scripts/app.js";

const FIELDS_BEFORE = 14; // of either node, with the seed's control
const PRESET = { RefereeOptimizer: 3, RefereeSampler: 5 }; // place of the field

const presets = {}; // node type -> name of the preset -> defaults of its fields

function defaults(definition) {
  const [, { options }] = definition.input.required.preset;
  const values = (fields) => Object.values(fields ?? {}).map(([, field]) => field.default);
  return Object.fromEntries(
    options.map(({ key, inputs }) => [key, [...values(inputs.required), ...values(inputs.optional)]]),
  );
}

function update(node) {
  const values = node.widgets_values;
  const added = presets[node.type]?.[values?.[PRESET[node.type]]];
  if (added && values.length === FIELDS_BEFORE) values.splice(PRESET[node.type] + 1, 0, ...added);
}

app.registerExtension({
  name: "Referee.SavedGraphs",
  addCustomNodeDefs(definitions) {
    for (const type of Object.keys(PRESET)) if (definitions[type]) presets[type] = defaults(definitions[type]);
  },
  beforeConfigureGraph(graph) {
    const graphs = [graph, ...(graph?.definitions?.subgraphs ?? [])];
    graphs.flatMap(({ nodes }) => nodes ?? []).forEach(update);
  },
});
