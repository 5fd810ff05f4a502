// A sound of one's own. The page decodes it to mono and sends {type: "sound", name, rate} with the samples; Python
// answers {type: "heard", cluster, sounds: [{title, seconds, frames}]} with a WAV file, then a picture, for each sound.

/** Mono samples of whatever the browser can decode, at `rate` Hz. */
async function decode(content, rate) {
  const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content); // resamples to its own rate
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / sound.numberOfChannels;
  }
  return mono;
}

const REFUSALS = {
  NotAllowedError: "the browser was not allowed to use it",
  NotFoundError: "there is none",
  NotReadableError: "another program may be using it",
};

function render({ model, el }) {
  keepKeys(el);
  const record = element("button", { type: "button" }, "● Record");
  const open = element("button", { type: "button" }, "Open a file …");
  const file = element("input", { type: "file", accept: "audio/*,video/*", hidden: "" });
  const status = element("span", { class: "slicer-status", role: "status" });
  const cluster = element("p", { class: "slicer-cluster" });
  const cards = element("div", { class: "slicer-cards" });
  el.append(
    element(
      "div",
      { class: "slicer-widget slicer-recorder" },
      element("div", { class: "slicer-bar" }, record, open, file, status),
      errorLine(model),
      cards,
      cluster,
    ),
  );

  const say = (text, error = "") => {
    status.textContent = text;
    model.set("error", error);
    model.save_changes();
  };
  async function send(blob, name) {
    say("Decoding …");
    let samples;
    try {
      samples = await decode(await blob.arrayBuffer(), model.get("rate"));
    } catch {
      say("", `“${name}” is no sound that this browser can decode. Try a wav, mp3, ogg, flac or m4a file.`);
      return;
    }
    const rate = model.get("rate");
    const most = model.get("seconds") * rate;
    const cut = samples.length > most;
    if (cut) samples = samples.slice(0, most);
    const seconds = samples.length / rate;
    say(`${name}: ${cut ? "the first " : ""}${seconds.toFixed(2)} s`);
    model.send({ type: "sound", name, rate }, undefined, [samples.buffer]);
  }
  open.addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length) send(file.files[0], file.files[0].name);
    file.value = ""; // so that the same file can be opened again
  });

  // The microphone is on from getUserMedia's answer until its tracks are stopped: on every way out.
  let recorder = null;
  let closed = false;
  const halt = () => recorder?.state === "recording" && recorder.stop();
  async function begin() {
    if (!navigator.mediaDevices) {
      say("", "The microphone works only on https pages and on 127.0.0.1.");
      return;
    }
    let stream = null;
    const release = () => stream?.getTracks().forEach((track) => track.stop());
    record.disabled = true; // while the browser asks, a second click would open it a second time
    try {
      const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      stream = await navigator.mediaDevices.getUserMedia({ audio: raw });
      if (closed) {
        release();
        return;
      }
      recorder = new MediaRecorder(stream);
      const parts = [];
      const until = setTimeout(halt, 1000 * model.get("seconds"));
      recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
      recorder.addEventListener("stop", () => {
        clearTimeout(until);
        release();
        record.textContent = "● Record";
        if (!closed) send(new Blob(parts, { type: recorder.mimeType }), "microphone");
      });
      recorder.start();
    } catch (error) {
      release();
      say("", `The microphone cannot be used: ${REFUSALS[error.name] ?? error.message}.`);
      return;
    } finally {
      record.disabled = false;
    }
    record.textContent = "■ Stop";
    say(`Recording, at most ${model.get("seconds")} s …`);
  }
  record.addEventListener("click", () => (recorder?.state === "recording" ? halt() : begin()));

  let players = [];
  const clear = () => {
    for (const player of players) player.release();
    players = [];
  };
  model.on("msg:custom", (message, buffers) => {
    clear();
    cluster.textContent = message.cluster;
    cards.replaceChildren(
      ...message.sounds.map(({ title, seconds, frames }, number) => {
        const player = makePlayer(title);
        player.set(buffers[number]);
        players.push(player);
        const canvas = element("canvas", { class: "slicer-logmel", role: "img", "aria-label": `log-mel of ${title}` });
        paint(canvas, buffers[message.sounds.length + number], frames, 64);
        const kind = number ? `neighbour ${number}` : "yours";
        const caption = element("figcaption", {}, element("strong", {}, kind), ` ${title}, ${seconds.toFixed(1)} s`);
        return element("figure", {}, caption, canvas, player.audio);
      }),
    );
  });
  model.send({ type: "hello" });
  return () => {
    closed = true;
    halt();
    clear();
  };
}

export default { render };
