// Draws a run's rows on a canvas: the first of these groups that there is.
const GROUPS = ["match", "residual", "loss", "gradient norm"];
const COLOURS = ["#e8a33d", "#5fb3f3", "#7fd08a", "#d98ad6", "#e57373", "#b0b0b0"];
const FRAME = "rgba(160,160,160,0.8)";
const LINE = 12, GAP = 10; // of the names above: a line's height, the space between two
const MOST_LINES = 3; // of names
const LARGEST = 4; // times its size to which a canvas is drawn, however near it is seen

export function draw(canvas, { steps, rows }, defaultHeight) {
  const width = canvas.clientWidth || 240;
  const height = canvas.clientHeight || defaultHeight;
  const zoom = canvas.getBoundingClientRect().width / width || 1; // out of sight it has no size
  const scale = Math.min(LARGEST, zoom * (window.devicePixelRatio || 1));
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "10px sans-serif";

  const lines = series(thinned(rows, width));
  const values = lines.flatMap((line) => line.points.map(([, y]) => y));
  const top = values.reduce((a, b) => Math.max(a, b), 1e-6);
  const low = values.reduce((a, b) => Math.min(a, b), 0); // below 0 where a sentence is pushed away
  const area = { left: 26, right: width - 4, bottom: height - 12 };
  const labels = arranged(pen, lines, area);
  area.top = 4 + LINE * Math.max(1, ...labels.map(({ row }) => row + 1));
  const x = (step) => area.left + ((area.right - area.left) * step) / Math.max(1, steps - 1);
  const y = (value) => area.bottom - ((area.bottom - area.top) * (value - low)) / (top - low);

  pen.strokeStyle = pen.fillStyle = FRAME;
  pen.lineWidth = 0.5;
  pen.strokeRect(area.left, area.top, area.right - area.left, area.bottom - area.top);
  if (rows.length) {
    pen.textAlign = "right";
    if (values.length) pen.fillText(top.toPrecision(2), area.left - 3, area.top + 6);
    pen.fillText(low < 0 ? low.toPrecision(2) : "0", area.left - 3, area.bottom);
    pen.fillText(String(steps), area.right, height - 1);
  }
  pen.setLineDash([2, 3]);
  for (const row of rows.filter((r) => r.marked)) {
    pen.beginPath();
    pen.moveTo(x(row.step), area.top);
    pen.lineTo(x(row.step), area.bottom);
    pen.stroke();
  }
  pen.setLineDash([]);
  pen.lineWidth = 1.4;
  pen.textAlign = "left";
  lines.forEach(({ points }, i) => {
    pen.strokeStyle = pen.fillStyle = COLOURS[i % COLOURS.length];
    pen.beginPath();
    pen.moveTo(x(points[0][0]) - 1, y(points[0][1])); // a single step is a dot
    for (const [step, value] of points) pen.lineTo(x(step), y(value));
    pen.stroke();
    pen.fillText(labels[i].text, labels[i].left, 10 + LINE * labels[i].row);
  });
  canvas.dataset.steps = rows.length;
  canvas.setAttribute("aria-label", lines.map((l) => `${l.name} ${l.points.at(-1)[1]}`).join(", "));
}

// Each line's name and last value: {text, left, row}. Long names are cut off so that all of them fit.
function arranged(pen, lines, { left, right }) {
  const most = (right - left + GAP) / Math.ceil(lines.length / MOST_LINES) - GAP;
  let place = left, row = 0;
  return lines.map(({ name, points }) => {
    const value = ` ${short(points.at(-1)[1])}`;
    const text = cutOff(pen, name, most - pen.measureText(value).width) + value;
    const { width } = pen.measureText(text);
    if (place > left && place + width > right) [place, row] = [left, row + 1];
    const label = { text, left: place, row };
    place += width + GAP;
    return label;
  });
}

function short(value) {
  return Math.abs(value) < 0.1 ? value.toFixed(4) : value.toFixed(2);
}

function cutOff(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let length = text.length;
  while (length && pen.measureText(`${text.slice(0, length)}…`).width > width) length -= 1;
  return `${text.slice(0, length)}…`;
}

// One row a pixel is enough.
function thinned(rows, width) {
  const every = Math.max(1, Math.floor(rows.length / Math.max(1, width)));
  return rows.filter((row, i) => i % every === 0 || i === rows.length - 1);
}

// One line a name: {name, points: [[step, value]]}.
function series(rows) {
  const group = GROUPS.find((g) => rows.some((row) => Object.keys(row.scalars[g] ?? {}).length));
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.scalars[group] ?? {})))];
  return names.map((name) => ({
    name,
    points: rows.filter((row) => name in (row.scalars[group] ?? {})).map((row) => [row.step, row.scalars[group][name]]),
  }));
}
