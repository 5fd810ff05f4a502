// A pre-training run as it goes. Python sends {type: "all" | "new", lines}; the page sends "hello" and "stop".

const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM] = [280, 150, 50, 8, 18]; // of a panel, in its own units

function svg(tag, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Three digits, and more where a curve's ends, `span` apart, would look the same otherwise. */
function brief(value, span = 0) {
  const power = (x) => Math.floor(Math.log10(Math.abs(x) || 1));
  const decimals = Math.max(0, 2 - power(value), span && -power(span));
  return value.toFixed(Math.min(decimals, 5));
}

/** One diagram: its figure element, hidden while it is empty, and a function that draws points into it. */
function makePanel({ title: name, unit, lines, low, high }) {
  const title = unit ? `${name} (${unit})` : name;
  const [right, floor] = [WIDTH - 4, HEIGHT - BOTTOM];
  const caption = element("figcaption", {}, element("strong", {}, title));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  const label = (x, y, anchor) => svg("text", { x, y, "text-anchor": anchor });
  const upper = label(LEFT - 4, TOP + 8, "end");
  const lower = label(LEFT - 4, floor, "end");
  const first = label(LEFT, HEIGHT - 4, "start");
  const last = label(right, HEIGHT - 4, "end");
  first.textContent = "step 0";
  picture.append(svg("path", { class: "slicer-axes", d: `M ${LEFT} ${TOP} V ${floor} H ${right}` }));
  picture.append(upper, lower, first, last);
  const curves = Object.entries(lines).map(([name, text], number) => {
    const path = svg("path", { class: `slicer-line slicer-colour-${number}` });
    const legend = element("span", { class: `slicer-colour-${number}`, "data-name": name });
    picture.append(path);
    caption.append(legend);
    return { name, text, path, legend };
  });

  const figure = element("figure", { hidden: "" }, caption, picture);

  function draw(points, steps) {
    last.textContent = steps;
    for (const curve of curves) curve.points = points.filter((point) => point[curve.name] !== undefined);
    const values = curves.flatMap((curve) => curve.points.map((point) => point[curve.name]));
    const bottom = low ?? values.reduce((a, b) => Math.min(a, b), Infinity);
    const top = high ?? values.reduce((a, b) => Math.max(a, b), -Infinity);
    figure.hidden = !values.length;
    if (figure.hidden) return;
    upper.textContent = brief(top, top - bottom);
    lower.textContent = brief(bottom, top - bottom);
    for (const { name, text, path, legend, points: mine } of curves) {
      if (!mine.length) continue;
      const place = (point) => {
        const x = LEFT + ((right - LEFT) * point.step) / steps;
        const y = floor - ((floor - TOP) * (point[name] - bottom)) / (top - bottom || 1);
        return `${x.toFixed(1)} ${y.toFixed(1)}`;
      };
      // The doubled first point makes a dot of a lone one, as the line's ends are round.
      path.setAttribute("d", `M ${place(mine[0])} L ${mine.map(place).join(" ")}`);
      legend.textContent = `${text} ${brief(mine.at(-1)[name])}`;
    }
  }
  return { figure, draw };
}

function makeView(model) {
  const stop = element("button", { type: "button" }, "Stop");
  const progress = element("progress", { "aria-label": "steps done" });
  const status = element("span", { class: "slicer-status" });
  const holder = element("div", { class: "slicer-panels" });
  let panels = [];
  let drawn = []; // the points at the last drawing
  const health = element("ul", { class: "slicer-health", role: "status", "aria-label": "health of the run" });
  const root = element(
    "div",
    { class: "slicer-widget slicer-dashboard" },
    element("div", { class: "slicer-bar" }, stop, progress, status),
    holder,
    health,
    errorLine(model),
  );
  const show = () => {
    root.dataset.state = model.get("state");
    stop.disabled = model.get("state") !== "running";
    progress.max = model.get("steps");
    progress.value = model.get("step");
    status.textContent = model.get("status");
    health.dataset.verdict = model.get("verdict");
    health.replaceChildren(...model.get("health").map((sentence) => element("li", {}, sentence)));
  };
  stop.addEventListener("click", () => {
    stop.disabled = true;
    status.textContent = "Stopping after this step …";
    model.send({ type: "stop" });
  });
  for (const name of ["state", "status", "health", "verdict", "step", "steps"]) model.on(`change:${name}`, show);
  show();

  let waiting = false; // for the page's next frame
  function draw(points) {
    drawn = points;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      for (const panel of panels) panel.draw(drawn, model.get("steps"));
    });
  }
  // What is drawn is the method's to say, when a run begins.
  const build = () => {
    panels = model.get("panels").map(makePanel);
    holder.replaceChildren(...panels.map((panel) => panel.figure));
    draw(drawn);
  };
  model.on("change:panels", build);
  build();
  return { root, draw };
}

// A dashboard may be shown several times: its points are kept once.
export default () => {
  let points = [];
  const views = new Set();
  return {
    initialize({ model }) {
      model.on("msg:custom", ({ type, lines }) => {
        // A page that is opened meanwhile is sent all points, and some of them again as new ones.
        const last = type === "new" && points.length ? points[points.length - 1].step : -1;
        points = (type === "all" ? [] : points).concat(lines.filter(({ step }) => step > last));
        for (const view of views) view.draw(points);
      });
      model.send({ type: "hello" });
    },
    render({ model, el }) {
      keepKeys(el);
      const view = makeView(model);
      el.append(view.root);
      views.add(view);
      view.draw(points);
      return () => views.delete(view);
    },
  };
};
