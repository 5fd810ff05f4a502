// Controls, pictures and players; everything that is seen and heard is computed in Python.

const RULES = [
  ["farthest", "From the farthest cluster (k-mix)"],
  ["random", "Any clip (mixup)"],
  ["nearest", "The most alike"],
];
const DOMAINS = [
  ["standardised", "after standardising, as SLICER does"],
  ["power", "before standardising: powers are mixed"],
];
const TRAINING = 0.4; // training draws the partner's share from 0 to this

export default { render };

function render({ model, el }) {
  // The radio buttons of one view share a name that no other has. (Each widget loads this module anew: no counter.)
  const group = `slicer-audition-${Math.random().toString(36).slice(2)}`;
  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };

  // Controls
  const menus = ["clip", "partner"].map((name) => {
    const menu = element("select", { "aria-label": name });
    const clusters = model.get("clusters");
    const groups = new Map();
    model.get("names").forEach((called, number) => {
      const cluster = clusters[number];
      if (!groups.has(cluster)) groups.set(cluster, element("optgroup", { label: `cluster ${cluster}` }));
      groups.get(cluster).append(element("option", { value: String(number) }, called));
    });
    menu.append(...[...groups.keys()].sort((a, b) => a - b).map((cluster) => groups.get(cluster)));
    menu.addEventListener("change", () => set(name, Number(menu.value)));
    return menu;
  });
  const draws = RULES.map(([rule, text]) => {
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", () => model.send({ kind: "draw", rule }));
    return button;
  });
  const ratio = element("input", {
    type: "range",
    min: "0",
    max: "1",
    step: "0.01",
    "aria-label": "a, the partner's share",
  });
  const value = element("output", { class: "slicer-value" });
  stepByArrows(ratio);
  ratio.addEventListener("input", () => set("ratio", Number(ratio.value)));
  const radios = DOMAINS.map(([domain, text]) => {
    const radio = element("input", { type: "radio", name: group, value: domain });
    radio.addEventListener("change", () => set("domain", domain));
    return [radio, element("label", {}, radio, ` ${text}`)];
  });
  chooseByArrows(radios.map(([radio]) => radio));

  // Pictures and sounds
  const columns = ["clip", "partner", "mixture"].map((name) => {
    const title = element("div", { class: "slicer-title" });
    const canvas = element("canvas", { class: "slicer-logmel", role: "img" });
    const sounds = element("div", { class: "slicer-sounds" });
    return { name, title, canvas, sounds, players: [], box: element("div", {}, title, canvas, sounds) };
  });
  const about = element("div", { class: "slicer-hint", "aria-live": "polite" });

  el.classList.add("slicer-widget");
  keepKeys(el);
  el.append(
    errorLine(model),
    element("div", { class: "slicer-row" }, element("label", {}, "clip ", menus[0])),
    element("div", { class: "slicer-row" }, element("label", {}, "partner ", menus[1]), "or draw one:", ...draws),
    element(
      "div",
      { class: "slicer-row" },
      element("label", { class: "slicer-ratio" }, `a, the partner's share (training: 0 to ${TRAINING}) `, ratio),
      value,
    ),
    element(
      "div",
      { class: "slicer-row", role: "radiogroup", "aria-label": "what is mixed" },
      "mixed",
      ...radios.map(([, label]) => label),
    ),
    element("div", { class: "slicer-three" }, ...columns.map(({ box }) => box)),
    element("div", { class: "slicer-hint" }, "Pictures: 0.95 s from left to right, 60 to 7800 Hz upwards, bright is loud."),
    about,
  );

  function players(column, sounds) {
    // The players stay in place while only their sounds change.
    if (column.players.length !== sounds.length) {
      column.players.forEach((player) => player.release());
      column.players = sounds.map(({ label }) => makePlayer(`${column.name}: ${label}`));
    }
    column.sounds.replaceChildren();
    column.players.forEach((player, i) => {
      const { label, note, wav } = sounds[i];
      player.audio.setAttribute("aria-label", `${column.name}: ${label}`);
      player.set(wav);
      column.sounds.append(
        element("div", { class: "slicer-what" }, label),
        player.audio,
        element("div", { class: "slicer-hint" }, note),
      );
    });
  }
  function show() {
    const shown = model.get("shown");
    const [width, height] = shown.size;
    columns.forEach((column, i) => {
      column.title.textContent = shown.titles[i];
      paint(column.canvas, shown.pictures[i], width, height);
      column.canvas.setAttribute("aria-label", `log-mel of the ${shown.titles[i]}`);
      players(column, i < 2 ? [shown.sounds[i]] : shown.sounds.slice(2));
    });
    about.textContent = shown.about;
  }
  function choices() {
    menus[0].value = model.get("clip");
    menus[1].value = model.get("partner");
    const share = model.get("ratio");
    if (document.activeElement !== ratio) ratio.value = share;
    value.textContent = Number(ratio.value).toFixed(2);
    for (const [radio] of radios) radio.checked = radio.value === model.get("domain");
  }
  const names = ["clip", "partner", "ratio", "domain"];
  for (const name of names) model.on(`change:${name}`, choices);
  model.on("change:shown", show);
  ratio.value = model.get("ratio");
  choices();
  show();

  return () => {
    for (const name of names) model.off(`change:${name}`, choices);
    model.off("change:shown", show);
    columns.forEach((column) => column.players.forEach((player) => player.release()));
  };
}
