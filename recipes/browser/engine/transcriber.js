// Recordings of any length → their phones, with start, end and confidence: `asr/transcriber.py`.

import { calibrated } from "./calibration.js";
import { hypothesis, search } from "./decoders.js";
import { SpeechDetector } from "./detector.js";
import { rint, round4 } from "./rounding.js";

const SHORTEST_S = 20; // of a piece
const LONGEST_S = 40;
const CONTEXT_S = 2; // what the network gets on either side of a piece
const QUIET_S = 0.2; // a piece ends in the middle of the quietest stretch of this length
const REACH_S = 0.1; // how long a phone lasts at most on either side of its moment

/** A model with the search of its file, or else a greedy search. */
export class Transcriber {
  /** `about` is the model's header (docs/export.md); `graph` that of its n-gram, or null. */
  constructor(about, network, graph = null) {
    Object.assign(this, { about, network, graph });
    this.phones = about.vocabulary;
    this.size = 1 + this.phones.length;
    this.sampleRate = about.sample_rate;
    this.step = Math.round(about.step_s * this.sampleRate); // samples from frame to frame
    this.first = rint(2 * about.first_s * this.sampleRate) / 2; // half samples: an even window
    this.search = about.search ?? { beam: 1, blank_penalty: 0 };
    this.detector =
      about.detector && new SpeechDetector(about.detector, this.size, this.step / this.sampleRate);
  }

  /**
   * The phones of a waveform (S,) at the model's sample rate: {duration_s, phones, posteriors}.
   *
   * `posteriors` (T' · V) are the network's probabilities. `heard(samples)` is called after each
   * piece, and may throw to end the work.
   */
  async transcribe(waveform, heard = () => {}) {
    const phones = [];
    const posteriors = [];
    for (const piece of pieces(waveform, this.step, this.sampleRate)) {
      const { logProbs, own } = await this.emissions(piece);
      const result = this.hypothesis(logProbs.gated.subarray(...own));
      const { step, sampleRate } = this;
      const edges = [step / sampleRate, piece.start / sampleRate, piece.samples / sampleRate];
      phones.push(...placed(result, ...edges));
      posteriors.push(logProbs.plain.subarray(...own).map(Math.exp));
      await heard(piece.start + piece.samples);
    }
    return {
      duration_s: round4(waveform.length / this.sampleRate),
      phones,
      posteriors: concatenated(posteriors),
    };
  }

  /** The phones of log-probabilities (T' · V), with moments and calibrated confidences. */
  hypothesis(logProbs) {
    const [best] = search(logProbs, this.size, this.search, this.graph);
    const result = hypothesis(best, this.phones, this);
    const { calibration } = this.about;
    if (calibration) result.confidences = calibrated(result.confidences, calibration);
    return result;
  }

  /** Of a piece with its context: log-probabilities, and which of their values are its own. */
  async emissions(piece) {
    let { logProbs, fixed } = await this.network.emissions(piece.waveform);
    let gated = logProbs;
    if (this.detector) {
      const { recognizer, moments } = this.about;
      const ofSpeech = this.detector.moments(logProbs, fixed, recognizer.features, moments);
      if (ofSpeech) ({ logProbs } = await this.network.emissions(piece.waveform, ofSpeech));
      gated = this.detector.gate(logProbs, fixed);
    }
    const first = Math.floor(piece.before / this.step);
    const frames = logProbs.length / this.size;
    const last = Math.min(first + Math.ceil(piece.samples / this.step), frames);
    return { logProbs: { plain: logProbs, gated }, own: [first * this.size, last * this.size] };
  }
}

/**
 * The phones of a piece with start and end, from the moments of a hypothesis.
 *
 * A boundary lies halfway between two moments, and no phone reaches further than `REACH_S` from its
 * own. Phones of one frame share its time. Moments count from `startS`, where a piece of
 * `durationS` begins.
 */
export function placed({ phones, times_s, confidences }, frameS, startS, durationS) {
  const moments = apart(times_s, Math.min(frameS, durationS), durationS);
  const between = moments.slice(1).map((moment, n) => (moments[n] + moment) / 2);
  const edges = [0, ...between, durationS];
  return phones.map((phone, n) => ({
    phone,
    start_s: round4(startS + Math.max(edges[n], moments[n] - REACH_S)),
    end_s: round4(startS + Math.min(edges[n + 1], moments[n] + REACH_S)),
    confidence: confidences[n],
  }));
}

/** Different moments within the piece, in order. */
function apart(times, frameS, durationS) {
  const within = times.map((t) => Math.min(Math.max(t, frameS / 2), durationS - frameS / 2));
  const moments = [];
  for (let begin = 0, end; begin < within.length; begin = end) {
    end = begin + 1;
    while (end < within.length && within[end] === within[begin]) end++;
    const count = end - begin;
    for (let n = 0; n < count; n++) {
      moments.push(within[begin] + frameS * ((n + 0.5) / count - 0.5));
    }
  }
  return moments.sort((a, b) => a - b);
}

/**
 * Cut a recording (S,) where it is quietest.
 *
 * Pieces follow each other without gap or overlap, each with `CONTEXT_S` on both sides, and begin
 * at multiples of `step` samples: {waveform, start, before, samples}, where `before` samples of
 * context come before the `samples` of the piece itself.
 */
export function* pieces(waveform, step, sampleRate) {
  const [shortest, longest, context] = [SHORTEST_S, LONGEST_S, CONTEXT_S].map(
    (seconds) => Math.floor(Math.floor(seconds * sampleRate) / step) * step,
  );
  let buffer = waveform;
  let before = 0;
  let start = 0;
  while (buffer.length > before + longest + context) {
    const candidates = buffer.subarray(before + shortest, before + longest);
    const samples = shortest + quietest(candidates, step, sampleRate);
    const end = before + samples;
    yield { waveform: buffer.subarray(0, end + context), start, before, samples };
    start += samples;
    buffer = buffer.subarray(end - context);
    before = context;
  }
  yield { waveform: buffer, start, before, samples: buffer.length - before };
}

/** The multiple of `step` samples, from the start, with the least power around it. */
export function quietest(samples, step, sampleRate) {
  const steps = Math.floor(samples.length / step);
  const power = new Float64Array(steps);
  for (let n = 0; n < steps; n++) {
    for (let at = n * step; at < (n + 1) * step; at++) power[n] += samples[at] ** 2;
  }
  const width = Math.max(2, rint((QUIET_S * sampleRate) / step));
  let best = 0;
  let least = Infinity;
  for (let n = 0; n + width <= steps; n++) {
    let sum = 0;
    for (let k = n; k < n + width; k++) sum += power[k];
    if (sum < least) [best, least] = [n, sum];
  }
  return step * (best + Math.floor(width / 2));
}

function concatenated(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
