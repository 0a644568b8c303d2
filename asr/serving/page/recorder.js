// The microphone → a WAV. PCM, because what MediaRecorder writes (WebM) few libraries of speech read.
import { wavOf } from "./wav.js";

export class Recorder {
  /** `heard(seconds, level)` is called some times in a second; level is the largest sample, 0 to 1. */
  constructor(heard) {
    this.heard = heard;
    this.parts = [];
    this.count = 0;
  }

  /** Raises an Error with a sentence for people where there is no microphone, or no permission. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia || !globalThis.isSecureContext) {
      throw new Error("This browser records only on pages of this machine (localhost) or over https.");
    }
    const asIs = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: asIs });
    } catch (error) {
      const why = { NotAllowedError: "it is not allowed; allow it beside the address of this page",
        NotFoundError: "there is none; connect one" }[error.name] ?? error.message;
      throw new Error(`No sound of the microphone: ${why}.`);
    }
    this.context = new AudioContext();
    await this.context.resume(); // where a page may not begin it by itself
    await this.context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
    this.node = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.#add(data);
    this.context.createMediaStreamSource(this.stream).connect(this.node);
  }

  #add(samples) {
    this.parts.push(samples);
    this.count += samples.length;
    this.peak = Math.max(this.peak ?? 0, ...samples);
    if (this.parts.length % 32 === 0) {
      this.heard(this.count / this.context.sampleRate, this.peak);
      this.peak = 0;
    }
  }

  /** Ends the recording: a Blob. */
  async stop() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.node.port.onmessage = null;
    const { sampleRate } = this.context;
    await this.context.close();
    const samples = new Float32Array(this.count);
    let place = 0;
    for (const part of this.parts) {
      samples.set(part, place);
      place += part.length;
    }
    return wavOf(samples, sampleRate);
  }
}
