// The page: it draws what an engine says of a recording, plays it, records, and writes files.
//
// It knows no server. `start(engine)` gets an object with
//
//   engine.name          a sentence for the foot of the page: where the work is done
//   engine.start(say)    → Promise. Loads what it needs, and may call say(sentence) meanwhile. Then there are
//   engine.can           {words, align, assess, gates, posteriors: boolean, symbols: ["arpabet", "ipa", …] or []}
//   engine.limits        {seconds, bytes}; null: no limit
//   engine.model         {name, layers, directions: ["forwards", "backwards"]}
//   engine.open({name, blob}, signal)                       → Promise of a sound
//       blob is a file as it was dropped, or a WAV of the microphone. A sound is {name, samples, sampleRate,
//       warnings}: a Float32Array of one channel as the model hears it, which is drawn and played, and
//       sentences. The engine may keep more in it: it gets the same object again in
//   engine.transcribe(sound, {words, symbols}, signal)      → Promise of a Result
//   engine.align(sound, {text, symbols}, signal)            → Promise of a Result      where engine.can.align
//   engine.assess(sound, {text, symbols}, signal)           → Promise of an Assessment where engine.can.assess
//   engine.gates(sound, {layer, direction, start_s, end_s}, signal) → Promise of Gates where engine.can.gates
//
// symbols is null for the model's own, or one of can.symbols. All of them reject with an Error whose message is a
// sentence for people; signal is an AbortSignal.
//
//   Result      what `asr transcribe --format json` writes: {file, duration_s, phones: [{phone, start_s, end_s,
//               confidence}], words?: [{word, start_s, end_s, confidence, phones}]}, with warnings: [sentence], and
//               posteriors?: {phones: names of V labels, step_s, start_s, values: Uint8Array}. values are T × V, one
//               step after the other, 255 is probability 1; the centre of step t is start_s + t × step_s.
//   Assessment  what `asr assess --format json` writes, with warnings
//   Gates       {layer, direction, step_s, start_s, hidden, gates: {input: Uint8Array, …}}: each T × hidden, 255 is 1

import { Recorder } from "./recorder.js";
import { textGrid, tiersOf } from "./textgrid.js";
import { Row, Tracks, ValueMap } from "./tracks.js";
import Spectrogram from "./vendor/spectrogram.esm.js";
import Timeline from "./vendor/timeline.esm.js";
import WaveSurfer from "./vendor/wavesurfer.esm.js";
import { wavOf } from "./wav.js";

const READABLE = 220; // pixels in a second at which the symbols of most phones can be read
const CLOSEST = 1200; // and the most
const SHOWN = 0.08; // a phone has a line among the posteriors where it is somewhere at least so probable
const LINE = 12; // pixels of such a line
const MARKED = 50; // score of a phone below which it is marked, as `asr assess` does
const GATES_S = 30; // of which gates are shown
const INTERVALS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600]; // between times under the wave
const LABEL = 60; // pixels of such a time
const WHOLE_S = 60; // up to which the whole spectrogram is drawn at once,
const WHOLE_PIXELS = 8000; // and also where it is not wider
const SETTLED_MS = 150; // after the last step of a zoom

const by = (id) => document.getElementById(id);
const shorter = (seconds) =>
  seconds < 60 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1).replace(".0", "")} minutes`;
const span = ({ start_s, end_s }) => `${start_s.toFixed(2)} to ${end_s.toFixed(2)} s`;
const clock = (time_s) => `${Math.floor(time_s / 60)}:${String(Math.floor(time_s % 60)).padStart(2, "0")}`;
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const percent = (value) => `${Math.round(100 * value)} %`;

/** Show the page with this engine; the Viewer is for tests. */
export function start(engine) {
  return new Viewer(engine);
}

class Viewer {
  constructor(engine) {
    this.engine = engine;
    this.ready = this.#begin(); // whether the engine has started
  }

  async #begin() {
    this.#listen();
    by("engine").textContent = this.engine.name;
    this.#say("Loading the model …");
    try {
      await this.engine.start((sentence) => this.#say(sentence));
    } catch (error) {
      this.#fail(error);
      return false;
    }
    const { can, limits, name } = this.engine;
    by("engine").textContent = name;
    by("words-option").hidden = !can.words;
    by("said-option").hidden = !can.align;
    by("assess-option").hidden = !can.assess;
    by("gates").hidden = !can.gates;
    by("symbols-option").hidden = !can.symbols.length;
    for (const one of can.symbols) by("symbols").add(new Option(one.toUpperCase(), one));
    const most = [];
    if (limits.seconds) most.push(shorter(limits.seconds));
    if (limits.bytes) most.push(`${Math.round(limits.bytes / 1e6)} MB`);
    by("limits").textContent = most.length ? `at most ${most.join(" and ")}` : "";
    this.#say("");
    return true;
  }

  // ── what people do ─────────────────────────────────────────────────────────────────────────

  #listen() {
    by("file").onchange = ({ target }) => {
      if (target.files.length) this.open(target.files[0], target.files[0].name);
      target.value = ""; // so that the same file can be chosen again
    };
    by("record").onclick = () => this.#record();
    by("form").onsubmit = (event) => {
      event.preventDefault();
      this.place();
    };
    by("text").oninput = () => this.#offer();
    by("text").onkeydown = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.place();
    };
    by("words").onchange = by("symbols").onchange = () => this.sound && this.transcribe();
    by("play").onclick = () => this.wave?.playPause();
    by("zoom").oninput = ({ target }) => this.#zoom(this.#scaleOf(Number(target.value)));
    by("fit").onclick = () => this.#zoom(0);
    by("gates").ontoggle = () => this.#showGates();
    by("layer").onchange = by("direction").onchange = () => this.#showGates();
    by("gate").onchange = () => this.#drawGate();
    by("result").addEventListener("keydown", (event) => {
      const isOther = event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey;
      if (event.key === "p" && this.wave && !isOther) this.wave.playPause();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.sound && this.#draw());
    addEventListener("resize", () => this.wave && this.#zoom(this.scale));
    this.#listenToDrops();
  }

  #listenToDrops() {
    const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    let depth = 0;
    const show = (is) => { by("drop").hidden = !is; };
    addEventListener("dragenter", (event) => { if (isFile(event)) show(++depth > 0); });
    addEventListener("dragleave", (event) => { if (isFile(event)) show(--depth > 0); });
    addEventListener("dragover", (event) => { if (isFile(event)) event.preventDefault(); });
    addEventListener("drop", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      depth = 0;
      show(false);
      const [file] = event.dataTransfer.files;
      if (file) this.open(file, file.name);
    });
  }

  async #record() {
    const button = by("record");
    if (this.recorder) {
      const { recorder } = this;
      this.recorder = null;
      button.textContent = "Record";
      button.setAttribute("aria-pressed", "false");
      by("level").hidden = true;
      const blob = await recorder.stop();
      if (!recorder.count) return this.#fail(new Error("The microphone gave no sound."));
      const now = new Date();
      const two = (value) => String(value).padStart(2, "0");
      const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("-");
      return this.open(blob, `recording ${time}.wav`);
    }
    const { seconds } = this.engine.limits ?? {};
    const recorder = new Recorder((duration_s, level) => {
      by("recorded").textContent = `${duration_s.toFixed(1)} s`;
      by("level").querySelector("meter").value = level;
      if (seconds && duration_s >= seconds - 1 && this.recorder) this.#record();
    });
    try {
      this.#clear();
      await recorder.start();
    } catch (error) {
      return this.#fail(error);
    }
    this.wave?.pause();
    this.recorder = recorder;
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    by("recorded").textContent = "0.0 s";
    by("level").hidden = false;
  }

  // ── what the engine does ───────────────────────────────────────────────────────────────────

  /** A job that ends the one before it, and may return what to say; `true` where it came to its end. */
  async #job(sentence, work) {
    this.controller?.abort();
    const controller = new AbortController();
    this.controller = controller;
    this.#clear();
    this.#say(sentence);
    document.body.setAttribute("aria-busy", "true");
    try {
      const done = await work(controller.signal);
      if (controller.signal.aborted) return false;
      this.#say(done ?? "");
      return true;
    } catch (error) {
      if (!controller.signal.aborted) this.#fail(error);
      return false;
    } finally {
      if (this.controller === controller) document.body.removeAttribute("aria-busy");
    }
  }

  /** Read a recording, draw it, transcribe it, and place the words that are typed. */
  async open(blob, name) {
    if (!(await this.ready)) return;
    const isOpen = await this.#job(`Reading ${name} …`, async (signal) => {
      const sound = await this.engine.open({ name, blob }, signal);
      if (signal.aborted) return;
      this.sound = sound;
      this.result = this.aligned = this.assessment = this.gates = null;
      by("gates").open = false;
      await this.#draw();
    });
    if (!isOpen || !(await this.transcribe())) return;
    if (by("text").value.trim() && this.engine.can.align) await this.place();
  }

  transcribe() {
    const options = { words: this.engine.can.words && by("words").checked, symbols: by("symbols").value || null };
    return this.#job("Recognising …", async (signal) => {
      const result = await this.engine.transcribe(this.sound, options, signal);
      if (signal.aborted) return;
      this.result = result;
      if (this.aligned) this.aligned = this.assessment = null; // perhaps in other symbols
      this.#rows();
      return `Recognised: ${counted(result.phones.length, "phone")}${
        result.words ? `, ${counted(result.words.length, "word")}` : ""}.`;
    });
  }

  /** Place the typed text in time, and score its sounds. */
  place() {
    const text = by("text").value.trim();
    if (!text || !this.sound) return false;
    const options = { text, symbols: by("symbols").value || null };
    return this.#job("Placing the words …", async (signal) => {
      const aligned = await this.engine.align(this.sound, options, signal);
      const assessment = this.engine.can.assess && (await this.engine.assess(this.sound, options, signal));
      if (signal.aborted) return;
      this.aligned = aligned;
      this.assessment = assessment;
      this.#rows();
      return `Placed: ${counted(aligned.words?.length ?? 0, "word")}.`;
    });
  }

  // ── the picture ────────────────────────────────────────────────────────────────────────────

  /** Wave and spectrogram of the sound, without its phones. */
  async #draw() {
    const { samples, sampleRate, name } = this.sound;
    const duration_s = samples.length / sampleRate;
    this.duration_s = duration_s;
    clearTimeout(this.settling);
    this.wave?.destroy();
    by("result").hidden = false;
    this.scale = Math.max(READABLE, this.#fitting());
    by("name").textContent = `${name}, ${shorter(duration_s)}`;
    by("about").textContent = "";
    const style = getComputedStyle(document.documentElement);
    const colour = (one) => style.getPropertyValue(`--${one}`).trim();
    this.tracks = new Tracks(by("tracks"), duration_s, (pixels) => {
      if (Math.abs(this.wave.getScroll() - pixels) > 1) this.wave.setScroll(pixels);
    });
    this.wave = WaveSurfer.create({
      container: by("wave"),
      backend: "WebAudio",
      height: 72,
      waveColor: colour("wave"),
      progressColor: colour("forget"),
      cursorColor: colour("sub"),
      cursorWidth: 2,
      hideScrollbar: true,
      autoCenter: false,
      normalize: true,
      minPxPerSec: this.scale,
      cspNonce: document.querySelector("meta[name=csp-nonce]")?.content ?? "",
    });
    this.plugins = [];
    this.wave.on("scroll", (start_s, end_s, left) => {
      const { element } = this.tracks;
      if (Math.abs(element.scrollLeft - left) > 1) element.scrollLeft = left;
    });
    this.wave.on("timeupdate", (time_s) => this.tracks.mark(time_s));
    this.wave.on("play", () => { by("play").textContent = "Pause"; });
    this.wave.on("pause", () => { by("play").textContent = "Play"; });
    this.wave.on("finish", () => { by("play").textContent = "Play"; });
    await this.wave.loadBlob(wavOf(samples, sampleRate), [samples], duration_s);
    this.#zoom(this.scale);
    this.#rows();
  }

  /** Times and spectrogram, made anew at each scale: the plugin keeps what it drew at another one. */
  #drawUnderWave() {
    const style = getComputedStyle(document.documentElement);
    for (const one of this.plugins) this.wave.unregisterPlugin(one);
    const timeline = Timeline.create({
      height: 16,
      timeInterval: INTERVALS_S.find((one) => one * this.scale >= LABEL) ?? INTERVALS_S.at(-1),
      primaryLabelSpacing: 1,
      formatTimeCallback: (time_s) => (time_s < 60 ? `${Number(time_s.toFixed(2))} s` : clock(time_s)),
      style: { fontSize: "11px", color: style.getPropertyValue("--faint").trim() },
    });
    // "windowed" is wrong for a minute or less, and incomplete where all is seen
    const isShort = this.duration_s <= WHOLE_S;
    const isLarge = !isShort && this.scale * this.duration_s > WHOLE_PIXELS;
    const spectrogram = Spectrogram.create({
      rendering: isLarge ? "windowed" : "full",
      height: 150,
      fftSamples: 256,
      fftSize: 512,
      noverlap: isLarge || isShort ? 192 : undefined, // undefined: as many as there are pixels
      windowFunc: "hann",
      scale: "linear",
      frequencyMax: Math.min(8000, this.sound.sampleRate / 2),
      preEmphasis: 6,
      gainDB: 22,
      rangeDB: 55,
      colorMap: colourMap(style.getPropertyValue("--ground").trim(), style.getPropertyValue("--ink").trim()),
    });
    this.plugins = [timeline, spectrogram].map((one) => this.wave.registerPlugin(one));
  }

  #fitting() {
    return by("wave").clientWidth / this.duration_s;
  }

  /** The slider's place (0 to 100) → pixels in a second, and back; equal steps are equal factors. */
  #scaleOf(place) {
    const least = Math.min(CLOSEST / 2, this.#fitting());
    return least * (CLOSEST / least) ** (place / 100);
  }

  #placeOf(scale) {
    const least = Math.min(CLOSEST / 2, this.#fitting());
    return (100 * Math.log(scale / least)) / Math.log(CLOSEST / least);
  }

  #zoom(scale) {
    const [from, to] = this.tracks.pixels ? this.tracks.visible : [0, 0];
    this.scale = Math.max(scale, this.#fitting());
    this.wave.zoom(this.scale);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.#drawUnderWave(), this.plugins.length ? SETTLED_MS : 0);
    this.tracks.width = Math.max(by("wave").clientWidth, this.scale * this.duration_s);
    by("zoom").value = this.#placeOf(this.scale);
    const left = ((from + to) / 2) * this.scale - by("tracks").clientWidth / 2;
    by("tracks").scrollLeft = left;
    this.wave.setScroll(by("tracks").scrollLeft);
    this.tracks.draw(true);
  }

  /** All rows under the spectrogram, of what is known by now. */
  #rows() {
    const { result, aligned, assessment, tracks } = this;
    for (const track of [...tracks.tracks]) tracks.remove(track);
    const row = (caption, items, kind) => {
      if (items.length) tracks.add(new Row(caption, items, { kind, ...this.#actions() }));
    };
    if (result?.words) row("Words, recognised", result.words.map((one) => wordItem(one)), "words");
    if (result) row("Phones, recognised", result.phones.map((one) => phoneItem(one)), "phones");
    if (aligned) {
      row("Words of the text", (aligned.words ?? []).map((one) => wordItem(one)), "words");
      const scored = assessment ? assessment.words.flatMap((word) => word.phones) : [];
      const items = scored.length ? scored.map(scoredItem) : aligned.phones.map((one) => phoneItem(one));
      row(scored.length ? "Phones of the text, with scores" : "Phones of the text", items, "phones");
    }
    if (result?.posteriors) this.#posteriors(result.posteriors);
    if (this.gates) this.#drawGate();
    this.#summarise();
    this.#offer();
  }

  #actions() {
    return {
      play: ({ start_s, end_s }) => {
        this.wave.pause();
        this.wave.play(start_s, Math.min(end_s, this.duration_s));
      },
      about: (item) => { by("about").textContent = item.label; },
    };
  }

  #posteriors({ phones, values, step_s, start_s }) {
    const rows = phones.length;
    const most = new Uint8Array(rows);
    for (let n = 0; n < values.length; n++) most[n % rows] = Math.max(most[n % rows], values[n]);
    const order = [...most.keys()].filter((row) => most[row] >= 255 * SHOWN);
    this.tracks.add(new ValueMap("Posteriors of the network", {
      values, rows, step_s, start_s, order, names: phones, height: Math.max(3, order.length) * LINE,
      colour: () => this.#colour("heat"),
      label: `Posteriors of the network: ${order.length} of ${rows} labels, the others are nowhere probable`,
      about: (time_s, row, value) => {
        by("about").textContent = `${time_s.toFixed(2)} s: ${phones[row]} ${value.toFixed(2)}`;
      },
    }));
  }

  #colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim().split(/\s+/).map(Number);
  }

  async #showGates() {
    if (!by("gates").open || !this.sound) return;
    const { layers, directions } = this.engine.model;
    if (!by("layer").options.length) {
      for (let layer = layers; layer >= 1; layer--) by("layer").add(new Option(String(layer)));
      for (const one of directions) by("direction").add(new Option(one));
      by("direction-option").hidden = directions.length < 2;
    }
    const [from, to] = this.tracks.visible;
    const start_s = to - from > GATES_S ? from : Math.max(0, (from + to - GATES_S) / 2);
    const end_s = Math.min(this.duration_s, start_s + GATES_S);
    const options = { layer: Number(by("layer").value), direction: by("direction").value, start_s, end_s };
    await this.#job("Looking into the layer …", async (signal) => {
      const gates = await this.engine.gates(this.sound, options, signal);
      if (signal.aborted) return;
      this.gates = gates;
      const before = by("gate").value;
      by("gate").replaceChildren(...Object.keys(gates.gates).map((one) => new Option(one)));
      if (before in gates.gates) by("gate").value = before;
      else if ("forget" in gates.gates) by("gate").value = "forget";
      this.#drawGate();
    });
  }

  #drawGate() {
    const { layer, direction, hidden, step_s, start_s, gates } = this.gates;
    const gate = by("gate").value;
    const values = gates[gate];
    if (!values) return;
    if (this.gateTrack) this.tracks.remove(this.gateTrack);
    const name = `${gate[0].toUpperCase()}${gate.slice(1)} gate of layer ${layer} ${direction}`;
    const steps = values.length / hidden;
    const open = values.reduce((sum, one) => sum + one, 0) / values.length / 255;
    by("gates-about").textContent =
      `${hidden} cells, one a line, in ${steps} steps of ${Math.round(1000 * step_s)} ms from ${start_s.toFixed(2)} s; where the colour is strong it is open. ` +
      `On average it is ${percent(open)} open.`;
    this.gateTrack = this.tracks.add(new ValueMap(name, {
      values, rows: hidden, step_s, start_s, height: 160, colour: () => this.#colour("gate-rgb"),
      label: `${name}: ${hidden} cells`,
      about: (time_s, row, value) => {
        by("about").textContent = `${time_s.toFixed(2)} s: ${gate} gate of cell ${row + 1} is ${percent(value)} open`;
      },
    }));
  }

  // ── what is written ────────────────────────────────────────────────────────────────────────

  #summarise() {
    const { result, aligned, assessment, sound } = this;
    const warnings = [...sound.warnings, ...(result?.warnings ?? []), ...(aligned?.warnings ?? []),
      ...(assessment?.warnings ?? [])];
    by("warnings").replaceChildren(...[...new Set(warnings)].map((one) => element("li", one)));
    const lines = [];
    if (result) {
      const phones = result.phones.map((one) => one.phone).join(" ");
      if (result.words?.length) lines.push(element("p", result.words.map((one) => one.word).join(" "), "sentence"));
      lines.push(element("p", phones || "no speech found", phones ? "phones" : "nothing"));
    }
    if (assessment) {
      const { score, accuracy, completeness } = assessment;
      const scores = { score, accuracy, completeness };
      lines.push(element("p", Object.entries(scores).map(([what, value]) => `${what} ${Math.round(value)}`).join(", "), "scores"));
      const absent = assessment.words.filter((word) => word.left_out).map((word) => word.word);
      if (absent.length) lines.push(element("p", `not heard: ${absent.join(", ")}`, "faint"));
    }
    by("summary").replaceChildren(...lines);
    this.#links();
  }

  #links() {
    for (const link of by("downloads").querySelectorAll("a")) URL.revokeObjectURL(link.href);
    const links = [];
    const stem = this.sound.name.replace(/\.[^.]*$/, "") || "recording";
    const add = (text, name, kind, content) => {
      const link = element("a", text, "button");
      link.download = name;
      link.href = URL.createObjectURL(new Blob([content], { type: kind }));
      links.push(link);
    };
    const { result, aligned, assessment } = this;
    for (const [one, what, ending] of [[result, "", ""], [aligned, " of the text", ".aligned"]]) {
      if (!one) continue;
      const { warnings, posteriors, ...record } = one;
      add(`TextGrid${what}`, `${stem}${ending}.TextGrid`, "text/plain", textGrid(tiersOf(one), endOf(one)));
      add(`JSON${what}`, `${stem}${ending}.json`, "application/json", `${JSON.stringify(record)}\n`);
    }
    if (assessment) {
      const { warnings, ...record } = assessment;
      add("JSON of the scores", `${stem}.scores.json`, "application/json", `${JSON.stringify(record)}\n`);
    }
    by("downloads").replaceChildren(...links);
  }

  #offer() {
    by("align").disabled = !this.sound || !by("text").value.trim();
  }

  #say(sentence) {
    by("status").textContent = sentence;
  }

  #clear() {
    by("error").hidden = true;
    by("error").textContent = "";
  }

  #fail(error) {
    this.#say("");
    by("error").textContent = error.message;
    by("error").hidden = false;
  }
}

// ── items of rows ────────────────────────────────────────────────────────────────────────────

function wordItem({ word, start_s, end_s, confidence, phones }) {
  const label = `${word}, ${span({ start_s, end_s })}, confidence ${percent(confidence)}, ${phones.join(" ")}`;
  return { start_s, end_s, text: word, strength: confidence, label };
}

function phoneItem({ phone, start_s, end_s, confidence }) {
  return { start_s, end_s, text: phone, strength: confidence, label: `${phone}, ${span({ start_s, end_s })}, confidence ${percent(confidence)}` };
}

function scoredItem({ phone, start_s, end_s, score, heard }) {
  const isMarked = score < MARKED;
  const instead = heard === "-" ? "not heard" : `heard as ${heard}`;
  const label = `${phone}, ${span({ start_s, end_s })}, score ${Math.round(score)} of 100${heard === phone ? "" : `, ${instead}`}`;
  const text = isMarked && heard !== phone ? `${phone}→${heard}` : phone;
  return { start_s, end_s, text, strength: score / 100, mark: isMarked ? "marked" : "", label };
}

const endOf = ({ duration_s, phones }) => Math.max(duration_s, phones.at(-1)?.end_s ?? 0);

function element(kind, text, name = "") {
  const one = document.createElement(kind);
  one.textContent = text;
  one.className = name;
  return one;
}

/** 256 colours from one to another, each given as #rrggbb: rows of red, green, blue, alpha from 0 to 1. */
function colourMap(from, to) {
  const parts = (colour) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16) / 255);
  const [a, b] = [parts(from), parts(to)];
  return Array.from({ length: 256 }, (_, n) => [...a.map((one, k) => one + ((b[k] - one) * n) / 255), 1]);
}
