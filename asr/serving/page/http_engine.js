// The engine of `asr serve`: every method is one request to the server that sent this page.

const values = (base64) => Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));

export class HttpEngine {
  name = `Computed by asr serve on ${
    ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) ? "this machine" : location.hostname
  }; nothing is kept, and nobody else is asked.`;

  async start() {
    const { can, limits, model, version } = await (await this.#ask("api/model")).json();
    Object.assign(this, { can, limits, model });
    this.name = `${this.name} Version ${version}, model ${model.name}.`;
  }

  async open({ name, blob }, signal) {
    if (blob.size > this.limits.bytes) {
      const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
      throw new Error(
        `${name}: ${megabytes(blob.size)} MB, expected at most ${megabytes(this.limits.bytes)} MB; ` +
        "send a shorter recording, or FLAC or Opus instead of WAV",
      );
    }
    const { samplesOf } = await import("./wav.js");
    const response = await this.#ask("api/waveform", { audio: [blob, name] }, signal);
    const heard = samplesOf(await response.arrayBuffer());
    return { name, blob, warnings: [], ...heard }; // what there is to warn of comes with the transcript
  }

  async transcribe(sound, { words, symbols }, signal) {
    const result = await this.#json("transcribe", sound, { words, symbols, posteriors: true }, signal);
    if (result.posteriors) result.posteriors.values = values(result.posteriors.values);
    return result;
  }

  align(sound, { text, symbols }, signal) {
    return this.#json("align", sound, { text, symbols }, signal);
  }

  assess(sound, { text, symbols }, signal) {
    return this.#json("assess", sound, { text, symbols }, signal);
  }

  async gates(sound, options, signal) {
    const result = await this.#json("gates", sound, options, signal);
    const gates = Object.entries(result.gates).map(([name, base64]) => [name, values(base64)]);
    return { ...result, gates: Object.fromEntries(gates) };
  }

  async #json(what, { name, blob }, fields, signal) {
    const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
    return (await this.#ask(`api/${what}`, { audio: [blob, name], ...Object.fromEntries(given) }, signal)).json();
  }

  /** The response; an Error with the server's sentence where it is not 200. */
  async #ask(path, fields, signal) {
    const options = { signal };
    if (fields) {
      options.method = "POST";
      options.body = new FormData();
      for (const [name, value] of Object.entries(fields)) {
        options.body.append(name, ...(Array.isArray(value) ? value : [String(value)]));
      }
    }
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The program does not answer; is asr serve still running?");
    }
    if (response.ok) return response;
    let sentence = `${response.status} ${response.statusText}`;
    try {
      sentence = (await response.json()).error;
    } catch { /* not from this program */ }
    throw new Error(sentence);
  }
}
