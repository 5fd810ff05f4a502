// The map is drawn and searched here; pictures, sounds and counts come from Python.

const SIZE = 560; // CSS pixels, both ways
const MARGIN = 14;
const CELL = 16; // pixels of the grid in which the nearest point is searched
const REACH = 14; // pixels within which a point is pointed at
const DWELL = 40; // ms that the pointer rests before a clip is asked for
const KEPT = 100; // clips that are not asked for twice
const TINY = 2; // pixels; dots with a smaller radius are squares, which are drawn ten times as fast as pictures
const NEIGHBOURS = 50; // clips that the key N selects
const MORPH = 400; // ms from one map to the next

export default { render };

function render({ model, el }) {
  const maps = model.get("_points").map((view) => {
    const bytes = bytesOf(view);
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  });
  const count = maps[0].length / 2;
  const columns = new Map(model.get("columns").map((column) => [column.name, column]));

  // State of this view
  let at = maps[model.get("shown")]; // where the points are now, in [0, 1]
  let seen = { x: 0, y: 0, size: 1 }; // the part of the map that is in the canvas
  let px = new Float32Array(count); // where they are in the canvas
  let py = new Float32Array(count);
  let grid = new Map();
  let flat = false; // dots are too small for shapes, on the map and so in the legend
  let current = -1; // the clip that is pointed at
  let chosen = null; // Uint32Array, numbers of the selected clips in their order; null before the first drawing
  let selection = null; // Uint8Array, 1 for each of them; null if there are none
  let only = 0; // the label that the legend singles out; 0: none
  let lasso = null;
  let timer = null;
  let morphing = null;
  const known = new Map(); // clip -> its picture and sound

  // What is seen
  const ratio = window.devicePixelRatio || 1;
  const canvas = () => {
    const made = element("canvas", { width: SIZE * ratio, height: SIZE * ratio });
    made.getContext("2d").scale(ratio, ratio);
    return made;
  };
  const base = canvas();
  const over = canvas();
  Object.entries({
    class: "slicer-map-over",
    tabindex: "0",
    role: "application",
    "aria-label":
      `Map of ${count} clips. Arrow keys go to the neighbour in that direction, Enter plays it, ` +
      `N selects the ${NEIGHBOURS} nearest, Escape ends a selection.`,
  }).forEach(([name, value]) => over.setAttribute(name, value));
  const player = makePlayer("sound of the clip");
  const picture = element("canvas", { class: "slicer-logmel", role: "img" });
  const text = element("div", { class: "slicer-map-text", "aria-live": "polite" });
  const hint = element("div", { class: "slicer-hint" });
  const onHover = element("input", { type: "checkbox", checked: "" });
  const legend = element("div", { class: "slicer-legend", role: "group", "aria-label": "colours" });
  const table = element("div", { class: "slicer-map-table", "aria-live": "polite" });
  const zoom = element("button", { type: "button" }, "Zoom to selection");
  const whole = element("button", { type: "button" }, "Whole map");
  const clear = element("button", { type: "button" }, "Clear selection");
  const colour = element("select", { "aria-label": "colour by" });
  for (const name of columns.keys()) colour.append(element("option", { value: name }, name));
  const step = element("input", { type: "range", min: "0", max: String(maps.length - 1), "aria-label": "map" });
  const stepName = element("output", { class: "slicer-step" });

  const controls = element(
    "div",
    { class: "slicer-row" },
    element("label", {}, "colour by ", colour),
    zoom,
    whole,
    clear,
  );
  if (maps.length > 1) controls.prepend(element("label", {}, "map ", step, " ", stepName));
  hint.textContent = "Point at a dot to see and hear its clip; draw around dots to count them.";
  el.classList.add("slicer-widget");
  keepKeys(el);
  el.append(
    errorLine(model),
    controls,
    element(
      "div",
      { class: "slicer-map" },
      element("div", { class: "slicer-map-canvas" }, base, over),
      element(
        "div",
        { class: "slicer-map-side" },
        hint,
        picture,
        text,
        player.audio,
        element("label", {}, onHover, " play what I point at"),
        legend,
        table,
      ),
    ),
  );

  // Colours
  const style = (name) => getComputedStyle(el).getPropertyValue(name).trim();
  const codes = () => {
    const all = columns.get(model.get("colour")).codes;
    const bytes = bytesOf(all[Math.min(model.get("shown"), all.length - 1)]);
    return new Uint16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  };
  function look(code) {
    // Colour and shape of a code of the present column; numbers by their highest four bits.
    const column = columns.get(model.get("colour"));
    if (!column.labels) return { colour: model.get("_ramp")[code >> 12], shape: 0 };
    if (code === 0) return { colour: style("--edge"), shape: 0 };
    const palette = model.get("_palette");
    const own = palette[(code - 1) % palette.length];
    return {
      colour: own === "#000000" ? style("--ink") : own, // black cannot be seen on a dark page
      shape: Math.floor((code - 1) / palette.length) % 3,
    };
  }
  function written(value, { low, high }) {
    // With as many decimals as tell a hundredth of the range.
    const decimals = Math.max(0, 2 - Math.floor(Math.log10(high - low || 1)));
    return Number(value.toFixed(decimals)).toFixed(decimals); // once more: what is rounded to 0 has no sign
  }
  function sprite(code, radius) {
    const side = 2 * radius + 2;
    const made = element("canvas", { width: side * ratio, height: side * ratio });
    const g = made.getContext("2d");
    const { colour: fill, shape: own } = look(code);
    const shape = flat ? 2 : own;
    const middle = side / 2;
    g.scale(ratio, ratio);
    g.beginPath();
    if (shape === 0) g.arc(middle, middle, radius, 0, 7);
    else if (shape === 1) {
      g.moveTo(middle, middle - 1.2 * radius);
      g.lineTo(middle + 1.1 * radius, middle + 0.9 * radius);
      g.lineTo(middle - 1.1 * radius, middle + 0.9 * radius);
      g.closePath();
    } else g.rect(middle - 0.9 * radius, middle - 0.9 * radius, 1.8 * radius, 1.8 * radius);
    g.fillStyle = fill;
    g.fill();
    if (radius > 3) {
      g.globalAlpha = 0.5;
      g.strokeStyle = style("--ink");
      g.lineWidth = 0.5;
      g.stroke();
    }
    return made;
  }

  // Drawing
  function draw() {
    const radius = Math.max(1.6, Math.min(6, 130 / Math.sqrt(count)) * Math.min(2, 1 / Math.sqrt(seen.size)));
    const scale = (SIZE - 2 * MARGIN) / seen.size;
    const code = codes();
    const g = base.getContext("2d");
    const tiny = radius < TINY;
    if (tiny !== flat) {
      flat = tiny;
      drawLegend();
    }
    const marks = new Map(); // code -> its colour or picture
    const kept = columns.get(model.get("colour")).labels ? 0xffff : 0xf000; // the bits that a look depends on
    g.clearRect(0, 0, SIZE, SIZE);
    const inFront = (i) => (!selection || selection[i] === 1) && (!only || code[i] === only);
    for (let i = 0; i < count; i++) {
      px[i] = MARGIN + (at[2 * i] - seen.x) * scale;
      py[i] = SIZE - MARGIN - (at[2 * i + 1] - seen.y) * scale;
    }
    for (const front of [false, true]) {
      g.globalAlpha = front ? 0.9 : 0.15;
      for (let i = 0; i < count; i++) {
        if (inFront(i) !== front) continue;
        if (px[i] < -9 || py[i] < -9 || px[i] > SIZE + 9 || py[i] > SIZE + 9) continue;
        const key = code[i] & kept;
        let mark = marks.get(key);
        if (!mark) marks.set(key, (mark = tiny ? look(key).colour : sprite(key, radius)));
        if (tiny) {
          g.fillStyle = mark;
          g.fillRect(px[i] - radius, py[i] - radius, 2 * radius, 2 * radius);
        } else {
          const side = mark.width / ratio;
          g.drawImage(mark, px[i] - side / 2, py[i] - side / 2, side, side);
        }
      }
    }
    grid = new Map();
    for (let i = 0; i < count; i++) {
      const key = Math.floor(px[i] / CELL) * 4096 + Math.floor(py[i] / CELL);
      const there = grid.get(key);
      if (there) there.push(i);
      else grid.set(key, [i]);
    }
    drawOver();
  }
  function drawOver() {
    const g = over.getContext("2d");
    g.clearRect(0, 0, SIZE, SIZE);
    g.strokeStyle = style("--ink");
    if (current >= 0) {
      g.lineWidth = 2;
      g.beginPath();
      g.arc(px[current], py[current], 8, 0, 7);
      g.stroke();
    }
    if (lasso) {
      g.lineWidth = 1.5;
      g.setLineDash([5, 3]);
      g.beginPath();
      lasso.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
      g.closePath();
      g.stroke();
      g.setLineDash([]);
    }
  }
  function drawLegend() {
    const column = columns.get(model.get("colour"));
    legend.replaceChildren();
    if (!column.labels) {
      const bar = element("div", { class: "slicer-ramp" });
      bar.style.background = `linear-gradient(to right, ${model.get("_ramp").join(",")})`;
      const ends = element("div", { class: "slicer-ramp-ends" });
      ends.append(...[column.low, column.high].map((end) => element("span", {}, written(end, column))));
      legend.append(bar, ends);
      return;
    }
    const code = codes();
    const counts = new Uint32Array(column.labels.length + 1);
    for (let i = 0; i < count; i++) counts[code[i]]++;
    column.labels.forEach((label, i) => {
      const entry = element("button", { type: "button", "aria-pressed": String(only === i + 1) });
      const mark = sprite(i + 1, 5);
      mark.style.width = mark.style.height = "12px";
      entry.append(mark, ` ${label} (${counts[i + 1]})`);
      entry.addEventListener("click", () => {
        only = only === i + 1 ? 0 : i + 1;
        draw();
        drawLegend();
      });
      legend.append(entry);
    });
  }

  // One clip
  function nearest(x, y) {
    let best = -1;
    let least = REACH * REACH;
    const [column, row] = [Math.floor(x / CELL), Math.floor(y / CELL)];
    for (let u = column - 1; u <= column + 1; u++)
      for (let v = row - 1; v <= row + 1; v++)
        for (const i of grid.get(u * 4096 + v) || []) {
          const distance = (px[i] - x) ** 2 + (py[i] - y) ** 2;
          if (distance < least) [best, least] = [i, distance];
        }
    return best;
  }
  let wanted = -1; // the clip that shall be heard as soon as Python has sent it
  function go(clip, play) {
    current = clip;
    wanted = play ? clip : -1;
    drawOver();
    if (clip < 0) return;
    describe(clip);
    const there = known.get(clip);
    if (there) show(clip, there, play);
    else model.send({ kind: "hear", clip });
  }
  function describe(clip) {
    const said = [];
    for (const column of columns.values()) {
      const all = column.codes;
      const view = all[Math.min(model.get("shown"), all.length - 1)];
      const code = view.getUint16(2 * clip, true);
      if (column.labels && code) said.push(`${column.name}: ${column.labels[code - 1]}`);
      if (!column.labels) {
        const value = column.low + ((column.high - column.low) * code) / 65535;
        said.push(`${column.name}: ${written(value, column)}`);
      }
    }
    text.textContent = `clip ${clip} · ${said.join(" · ")}`;
  }
  function show(clip, { width, height, pixels, sound }, play) {
    paint(picture, pixels, width, height);
    picture.setAttribute("aria-label", `log-mel spectrogram of clip ${clip}`);
    player.set(sound);
    picture.dataset.clip = clip;
    if (!play) return;
    player.audio.play().catch((error) => {
      if (error.name === "NotAllowedError") hint.textContent = "Click the map once, and your browser lets it play.";
      else if (error.name !== "AbortError") hint.textContent = `The sound cannot be played: ${error.message}`;
    });
  }
  model.on("msg:custom", received);
  function received(message, buffers) {
    if (message.kind !== "clip") return;
    const [width, height] = message.size;
    const there = { width, height, pixels: buffers[0], sound: buffers[1] };
    known.set(message.clip, there);
    if (known.size > KEPT) known.delete(known.keys().next().value);
    if (message.clip === current) show(message.clip, there, message.clip === wanted);
  }

  // Many clips
  function select(clips) {
    const next = Uint32Array.from(clips).sort();
    showSelection(next);
    model.send({ kind: "select" }, undefined, [next.buffer]);
  }
  function showSelection(next) {
    // What is selected here comes back from Python, and has been drawn by then.
    if (chosen && next.length === chosen.length && next.every((clip, i) => clip === chosen[i])) return;
    chosen = next;
    selection = next.length ? new Uint8Array(count) : null;
    for (const i of next) selection[i] = 1;
    clear.disabled = zoom.disabled = !next.length;
    draw();
  }
  function inside(polygon) {
    const found = [];
    for (let i = 0; i < count; i++) {
      let within = false;
      for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
        const [xa, ya] = polygon[a];
        const [xb, yb] = polygon[b];
        if (ya > py[i] !== yb > py[i] && px[i] < ((xb - xa) * (py[i] - ya)) / (yb - ya) + xa) within = !within;
      }
      if (within) found.push(i);
    }
    return found;
  }
  function drawTable() {
    table.replaceChildren();
    if (!chosen.length) return;
    table.append(element("strong", {}, `${chosen.length.toLocaleString("en")} clips selected`));
    for (const { name, entries, others } of model.get("summary")) {
      const total = entries.reduce((sum, [, n]) => sum + n, 0);
      const listed = entries.map(([label, n]) => `${label} ${n}`).join(", ");
      const row = element("div", {}, element("span", { class: "slicer-of" }, `${name}: `), listed);
      if (others) row.append(`, and ${others} more`);
      row.title = `${total} clips in the labels named`;
      table.append(row);
    }
  }
  model.on("change:_selection", selectionChanged);
  function selectionChanged() {
    const bytes = bytesOf(model.get("_selection"));
    showSelection(new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)));
    drawTable();
  }
  model.on("change:summary", drawTable);

  // Pointer
  const position = (event) => {
    const box = over.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIZE, ((event.clientY - box.top) / box.height) * SIZE];
  };
  over.addEventListener("pointerdown", (event) => {
    lasso = [position(event)];
    over.setPointerCapture(event.pointerId);
    over.focus();
  });
  over.addEventListener("pointermove", (event) => {
    if (lasso) {
      lasso.push(position(event));
      drawOver();
      return;
    }
    const clip = nearest(...position(event));
    if (clip === current) return;
    current = clip;
    drawOver();
    clearTimeout(timer);
    timer = setTimeout(() => go(clip, onHover.checked), DWELL);
  });
  over.addEventListener("pointerup", (event) => {
    if (!lasso) return;
    const [drawn, [x, y]] = [lasso, position(event)];
    lasso = null;
    const moved = drawn.some(([u, v]) => Math.hypot(u - x, v - y) > 5);
    if (moved) select(inside(drawn));
    else go(nearest(x, y), true);
    drawOver();
  });
  over.addEventListener("pointercancel", () => {
    lasso = null;
    drawOver();
  });

  // Keyboard
  const directions = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function neighbour([dx, dy]) {
    // The nearest point within 45 degrees of the direction.
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < count; i++) {
      const [u, v] = [px[i] - px[current], py[i] - py[current]];
      const along = u * dx + v * dy;
      const distance = u * u + v * v;
      if (along > 0 && 2 * along * along >= distance && distance < least) [best, least] = [i, distance];
    }
    return best < 0 ? current : best;
  }
  over.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in directions) go(current < 0 ? 0 : neighbour(directions[event.key]), onHover.checked);
    else if (event.key === "Enter" || event.key === " ") go(current < 0 ? 0 : current, true);
    else if (event.key === "Escape") select([]);
    else if (event.key.toLowerCase() === "n" && current >= 0) {
      const distance = (i) => (px[i] - px[current]) ** 2 + (py[i] - py[current]) ** 2;
      const order = Array.from(px.keys()).sort((a, b) => distance(a) - distance(b));
      select(order.slice(0, NEIGHBOURS));
    } else return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has keys of its own
  });

  // Controls
  colour.addEventListener("change", () => {
    model.set("colour", colour.value);
    model.save_changes();
  });
  model.on("change:colour", colourChanged);
  function colourChanged() {
    only = 0;
    colour.value = model.get("colour");
    draw();
    drawLegend();
  }
  stepByArrows(step);
  step.addEventListener("input", () => {
    model.set("shown", Number(step.value));
    model.save_changes();
  });
  model.on("change:shown", mapChanged);
  function mapChanged() {
    step.value = model.get("shown");
    stepName.textContent = model.get("names")[model.get("shown")];
    drawLegend();
    if (current >= 0) describe(current);
    const [from, to] = [at, maps[model.get("shown")]];
    const begun = performance.now();
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    cancelAnimationFrame(morphing);
    const frame = (now) => {
      const share = still ? 1 : Math.min(1, Math.max(0, (now - begun) / MORPH));
      at = share === 1 ? to : from.map((value, i) => value + (to[i] - value) * share);
      draw();
      if (share < 1) morphing = requestAnimationFrame(frame);
    };
    morphing = requestAnimationFrame(frame);
  }
  zoom.addEventListener("click", () => {
    let [left, right, low, high] = [1, 0, 1, 0];
    for (let i = 0; i < count; i++) {
      if (!selection[i]) continue;
      [left, right] = [Math.min(left, at[2 * i]), Math.max(right, at[2 * i])];
      [low, high] = [Math.min(low, at[2 * i + 1]), Math.max(high, at[2 * i + 1])];
    }
    const size = Math.max(right - left, high - low, 0.01);
    seen = { x: (left + right - size) / 2, y: (low + high - size) / 2, size };
    draw();
  });
  whole.addEventListener("click", () => {
    seen = { x: 0, y: 0, size: 1 };
    draw();
  });
  clear.addEventListener("click", () => select([]));

  const theme = new MutationObserver(() => {
    draw();
    drawLegend();
  });
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });

  step.value = model.get("shown");
  stepName.textContent = model.get("names")[model.get("shown")];
  colour.value = model.get("colour");
  drawLegend();
  selectionChanged();

  return () => {
    clearTimeout(timer);
    cancelAnimationFrame(morphing);
    theme.disconnect();
    player.release();
    model.off("msg:custom", received);
    model.off("change:_selection", selectionChanged);
    model.off("change:summary", drawTable);
    model.off("change:colour", colourChanged);
    model.off("change:shown", mapChanged);
  };
}
