// Whether somebody speaks: `asr/detector.py`, on what the network and the spectrum show.

import { dynamic, ofSpeech } from "./moments.js";
import { BLANK } from "./paths.js";
import { rint } from "./rounding.js";

const WINDOWS_S = [0.5, 2.0];
const LEAST = 1e-4; // probability of a label, where the network is sure that there is none
const BESIDE_S = 0.45; // from a label to what counts as speech when frames are normalised
const NEVER = -1e4; // log-probability of a label where nobody speaks
const MEANS = 10; // columns of `evidence` that are means

/** Weights and bias of the log-odds of speech, of values of `evidence` or of the `hidden` units. */
export class SpeechDetector {
  constructor({ weights, bias, hidden = [], ahead_s: aheadS = null }, size, frameS) {
    Object.assign(this, { weights, bias, hidden, aheadS, size, frameS });
  }

  /** Log-odds of speech in each frame, in nats: (T' · V), static frames → (T',). */
  odds(logProbs, fixed) {
    const known = evidence(logProbs, this.size, fixed, this.frameS, this.aheadS);
    return Float64Array.from(known, (values) => {
      const inputs = this.hidden.length
        ? this.hidden.map((unit) => Math.tanh(unit.at(-1) + product(unit, values)))
        : values;
      return this.bias + product(inputs, this.weights);
    });
  }

  /** In which frames somebody speaks: (T',) of 0 and 1. */
  speech(logProbs, fixed) {
    return Uint8Array.from(this.odds(logProbs, fixed), (odds) => (odds >= 0 ? 1 : 0));
  }

  /** Log-probabilities (T' · V) with nothing but the blank where nobody speaks. */
  gate(logProbs, fixed) {
    const gated = logProbs.slice();
    this.speech(logProbs, fixed).forEach((isSpeech, t) => {
      if (isSpeech) return;
      gated.fill(NEVER, t * this.size, (t + 1) * this.size);
      gated[t * this.size + BLANK] = 0;
    });
    return gated;
  }

  /** `speech` within `BESIDE_S` of a label, for each of the T static frames: (T,) of 0 and 1. */
  besideLabels(logProbs, fixed) {
    const speech = this.speech(logProbs, fixed);
    const reach = rint(BESIDE_S / this.frameS);
    const frames = speech.length;
    const isLabel = (t) => t >= 0 && t < frames && logProbs[t * this.size + BLANK] < Math.log(0.5);
    let near = 0; // labels from t − reach to t + reach
    for (let t = 0; t < reach; t++) near += isLabel(t) ? 1 : 0;
    for (let t = 0; t < frames; t++) {
      near += isLabel(t + reach) ? 1 : 0;
      near -= isLabel(t - reach - 1) ? 1 : 0;
      if (near === 0) speech[t] = 0;
    }
    const stacked = Math.ceil(fixed.count / Math.max(1, frames));
    return Uint8Array.from(
      { length: fixed.count },
      (_, t) => speech[Math.min(Math.floor(t / stacked), frames - 1)],
    );
  }

  /** Of an utterance beside noise, with normalization=active: {mean, std}, or null. */
  moments(logProbs, fixed, config, ofTraining) {
    if (config.normalization !== "active") return null;
    const speech = this.besideLabels(logProbs, fixed);
    return ofSpeech(dynamic(fixed, config), speech, config, ofTraining);
  }
}

/**
 * What is known of speech around each frame of the network: T' arrays of E values.
 *
 * `fixed` are static frames, log-mel values: {values, count, width}. Each window has the logarithm
 * of its number of frames with labels, and means weighted by their probability: of confidence and
 * entropy; of changes of the spectrum in three bands, of its form, its roughness, slope and width;
 * then the entropy of all its labels together, and how much the form of the spectrum varies. `aheadS`
 * is how far the windows of a streaming model reach behind a frame; null: half of each.
 */
export function evidence(logProbs, size, fixed, frameS, aheadS = null) {
  const frames = logProbs.length / size;
  const bins = fixed.width;
  const third = Math.floor(bins / 3);
  const spectra = stackedMeans(fixed, frames);
  const forms = spectra.map((spectrum) => {
    const mean = meanOf(spectrum, 0, bins);
    return spectrum.map((value) => value - mean);
  });
  // Sums over the frames so far of: weight, means, labels, forms, squared forms.
  const width = 1 + MEANS + (size - 1) + 2 * bins;
  const sums = [new Float64Array(width)];
  for (let t = 0; t < frames; t++) {
    const probs = Float64Array.from({ length: size }, (_, v) => Math.exp(logProbs[t * size + v]));
    const weight = Math.min(1, Math.max(LEAST, 1 - probs[BLANK]));
    let total = 0;
    let confidence = 0;
    for (let v = 1; v < size; v++) {
      total += probs[v];
      confidence = Math.max(confidence, probs[v]);
    }
    const labels = probs.subarray(1).map((prob) => prob / Math.max(total, 1e-9));
    const [spectrum, form] = [spectra[t], forms[t]];
    const change = spectrum.map((value, f) => Math.abs(value - spectra[Math.max(0, t - 1)][f]));
    const ofForm = form.map((value, f) => Math.abs(value - forms[Math.max(0, t - 1)][f]));
    let roughness = 0;
    for (let f = 1; f < bins; f++) roughness += Math.abs(spectrum[f] - spectrum[f - 1]);
    const formMean = meanOf(form, 0, bins);
    const spread = meanOf(form.map((value) => (value - formMean) ** 2), 0, bins);
    const columns = [
      confidence,
      confidence ** 2,
      entropy(labels),
      meanOf(change, 0, third),
      meanOf(change, third, 2 * third),
      meanOf(change, 2 * third, bins),
      meanOf(ofForm, 0, bins),
      roughness / (bins - 1),
      meanOf(form, 0, third) - meanOf(form, 2 * third, bins),
      Math.sqrt(spread),
    ];
    const values = [1, ...columns, ...labels, ...form, ...form.map((value) => value ** 2)];
    sums.push(sums[t].map((sum, n) => sum + weight * values[n]));
  }
  return Array.from({ length: frames }, (_, t) =>
    WINDOWS_S.flatMap((windowS) => {
      const half = rint(windowS / frameS / 2);
      const after = aheadS === null ? half : rint(aheadS / frameS);
      const before = 2 * half - after;
      const [begin, end] = [sums[Math.max(0, t - before)], sums[Math.min(frames, t + after + 1)]];
      const total = end[0] - begin[0];
      const means = end.map((sum, n) => (sum - begin[n]) / total);
      const labelsFrom = 1 + MEANS;
      const formsFrom = labelsFrom + size - 1;
      let spread = 0;
      for (let f = formsFrom; f < formsFrom + bins; f++) {
        spread += Math.sqrt(Math.max(0, means[f + bins] - means[f] ** 2)) / bins;
      }
      const together = entropy(means.subarray(labelsFrom, formsFrom));
      return [Math.log(total), ...means.subarray(1, labelsFrom), together, spread];
    }),
  );
}

/** The means of the static frames of each frame of the network, the last one repeated: T' × (F,). */
function stackedMeans({ values, count, width }, frames) {
  const stacked = Math.ceil(count / Math.max(1, frames));
  return Array.from({ length: frames }, (_, t) => {
    const mean = new Float64Array(width);
    for (let n = 0; n < stacked; n++) {
      const at = Math.min(t * stacked + n, count - 1) * width;
      for (let f = 0; f < width; f++) mean[f] += values[at + f] / stacked;
    }
    return mean;
  });
}

function meanOf(values, begin, end) {
  let sum = 0;
  for (let n = begin; n < end; n++) sum += values[n];
  return sum / (end - begin);
}

function entropy(probs) {
  let sum = 0;
  for (const prob of probs) sum -= prob * Math.log(prob + 1e-9);
  return sum;
}

/** Σ a_n · b_n over the values of b. */
function product(a, b) {
  let sum = 0;
  for (let n = 0; n < b.length; n++) sum += a[n] * b[n];
  return sum;
}
