// The engine of a page without a server: recognises in a worker of this browser.

import { waveform } from "./engine/audio.js";

export class OnnxEngine {
  name = "Computed in this page; nothing is sent.";
  limits = { seconds: null, bytes: null };
  model = { name: "", layers: 0, directions: [] };
  #asked = new Map(); // id → {resolve, reject, heard}
  #last = 0;

  /** Load the model; `say` gets a sentence about how far that is. */
  async start(say = () => {}) {
    if (!globalThis.DecompressionStream || !globalThis.Worker || !Float32Array.prototype.toSorted) {
      throw new Error(
        "This browser is too old for this page; it needs Chrome 110, Firefox 115 or Safari 16.4.",
      );
    }
    this.worker = new Worker(new URL("engine/worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.#hear(data);
    this.worker.onerror = (event) => this.#fail(event.message || "its files cannot be loaded");
    const load = new URL(".", import.meta.url).href;
    let tenths = -1;
    const about = await this.#ask({ load }, null, (share) => {
      if (Math.floor(10 * share) === tenths) return;
      tenths = Math.floor(10 * share);
      say(share < 1 ? `Loading the model: ${10 * tenths} % …` : "Unpacking the model …");
    });
    this.sampleRate = about.sample_rate;
    this.windowS = about.recognizer.features.window_ms / 1000;
    this.model = { ...this.model, name: about.name };
    const own = about.vocabulary;
    const others = Object.entries(about.alphabets).filter(([, { symbols }]) =>
      own.some((phone) => symbols[phone] !== phone),
    );
    this.can = {
      ...{ words: false, align: false, assess: false, gates: false, posteriors: true },
      symbols: others.map(([name]) => name),
    };
    this.name = `${this.name} asr ${about.version}, model ${about.name}.`;
  }

  /** A file as the model hears it. */
  async open({ name, blob }, signal) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    signal?.throwIfAborted();
    const decode = async (content, sampleRate) => {
      const context = new OfflineAudioContext(1, 1, sampleRate);
      const { buffer } = content.slice(); // decodeAudioData keeps what it gets
      const audio = await context.decodeAudioData(buffer);
      const channels = Array.from({ length: audio.numberOfChannels }, (_, c) =>
        audio.getChannelData(c),
      );
      return { channels, sampleRate: audio.sampleRate };
    };
    const heard = await waveform(name, bytes, this.sampleRate, this.windowS, decode);
    signal?.throwIfAborted();
    return { name, sampleRate: this.sampleRate, ...heard };
  }

  /** The phones of a sound of `open`, with the probabilities of the network. */
  async transcribe({ name, samples, warnings, isSilent }, { symbols }, signal) {
    const duration_s = Number((samples.length / this.sampleRate).toFixed(4));
    if (isSilent) return { file: name, duration_s, phones: [], warnings };
    const result = await this.#ask({ samples, symbols }, signal);
    return { file: name, ...result, warnings };
  }

  #ask(message, signal, heard = () => {}) {
    signal?.throwIfAborted();
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject, heard });
      signal?.addEventListener("abort", () => {
        if (!this.#asked.delete(id)) return;
        this.worker.postMessage({ cancel: id });
        reject(signal.reason);
      });
      this.worker.postMessage({ id, ...message });
    });
  }

  #hear({ id, result, error, progress }) {
    const asked = this.#asked.get(id);
    if (!asked) return; // it was cancelled
    if (progress !== undefined) return asked.heard(progress);
    this.#asked.delete(id);
    if (error) asked.reject(new Error(error));
    else asked.resolve(result);
  }

  #fail(reason) {
    for (const { reject } of this.#asked.values()) {
      reject(new Error(`The recogniser stopped: ${reason}. Load the page again.`));
    }
    this.#asked.clear();
  }
}
