// What all widgets share. Python sends pictures as RGBA bytes and sounds as WAV files.

/** A DOM element with attributes and children: element("button", {type: "button"}, "Play"). */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The bytes of a DataView, as they lie in memory. */
function bytesOf(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Draw RGBA bytes into a canvas, one pixel a value; CSS scales it. */
function paint(canvas, view, width, height) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(new Uint8ClampedArray(bytesOf(view)), width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** An audio player whose sound can be replaced: player.set(view of a WAV file). */
function makePlayer(label) {
  const audio = element("audio", { controls: "", "aria-label": label });
  let url = null;
  return {
    audio,
    set(view) {
      const old = url;
      url = URL.createObjectURL(new Blob([bytesOf(view)], { type: "audio/wav" }));
      audio.src = url;
      if (old) URL.revokeObjectURL(old);
    },
    release() {
      audio.pause();
      if (url) URL.revokeObjectURL(url);
    },
  };
}

/** The line in which a widget says what went wrong. */
function errorLine(model) {
  const line = element("div", { class: "slicer-error", role: "alert" });
  const show = () => {
    line.textContent = model.get("error");
    line.hidden = !line.textContent;
  };
  model.on("change:error", show);
  show();
  return line;
}

/** Let the arrow keys go from one radio button to the next: JupyterLab takes them for its cells otherwise. */
function chooseByArrows(radios) {
  const directions = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
  radios.forEach((radio, place) => {
    radio.addEventListener("keydown", (event) => {
      if (!(event.key in directions)) return;
      const next = radios[(place + directions[event.key] + radios.length) % radios.length];
      next.focus();
      next.click();
      event.preventDefault();
      event.stopPropagation();
    });
  });
}

/** Let the arrow keys move a range input: JupyterLab takes them for its cells otherwise. */
function stepByArrows(input) {
  const directions = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
  input.addEventListener("keydown", (event) => {
    if (!(event.key in directions)) return;
    input.stepUp(directions[event.key]);
    input.dispatchEvent(new Event("input"));
    event.preventDefault();
    event.stopPropagation();
  });
}


/** Keys pressed in a widget are the widget's: JupyterLab would take letters in a menu for commands to its cells. */
function keepKeys(el) {
  // On what has the focus itself: on an element around it the mark would come too late.
  el.addEventListener("focusin", ({ target }) => (target.dataset.lmSuppressShortcuts = "true"));
}
