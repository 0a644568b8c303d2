// What can be wrong with a recording, in the sentences of `asr/audio/checks.py`.

import { rint } from "./rounding.js";

const FULL_SCALE = 32768; // of 16-bit samples
const CLIPPED = 5e-3; // share of the samples at full scale,
const CLIPPED_BELOW = 2e-2; // or at lower extremes
const LOUD = 8192; // a lower peak has few steps, so that many samples are equal
const ZEROS_S = 0.01; // a recorded silence has no run of zeros of this length
const MOSTLY_ZEROS = 0.5;
const QUIET = 128; // a lower peak is nearly silent
const OFFSET = 0.02; // of full scale
const [LOWEST_RATE, HIGHEST_RATE] = [4000, 1e6];
const MOST_CHANNELS = 64;
const LOUDEST = 16; // times full scale
const DEAD_DB = -60; // relative to the loudest channel
const CANCELLED_DB = -10; // of a mix, relative to one of unrelated channels
const RELATED = 0.8; // a lower correlation of two channels: something is on one of them only

/** Throw an Error for what cannot be used: {channels, sampleRate}; `windowS` is the shortest. */
export function requireUsable(name, { channels, sampleRate }, windowS) {
  if (sampleRate < LOWEST_RATE || sampleRate > HIGHEST_RATE) {
    const limit = sampleRate < LOWEST_RATE ? `at least ${LOWEST_RATE}` : `at most ${HIGHEST_RATE}`;
    throw new Error(
      `${name}: sampled at ${sampleRate} Hz, expected ${limit} Hz; is the rate right?`,
    );
  }
  if (channels.length > MOST_CHANNELS) {
    throw new Error(
      `${name}: ${channels.length} channels, expected at most ${MOST_CHANNELS}`,
    );
  }
  const samples = channels[0].length;
  if (samples < windowS * sampleRate) {
    const window = `${+(windowS * sampleRate).toPrecision(6)} (${+(1000 * windowS).toPrecision(6)} ms)`;
    throw new Error(
      samples === 0
        ? `${name}: no audio, the file holds zero samples; leave it out`
        : `${name}: ${samples} samples, expected at least one window of ${window}; leave it out`,
    );
  }
  for (let n = 0; n < samples; n++) {
    for (const channel of channels) {
      if (Math.abs(channel[n]) <= LOUDEST) continue; // false for NaN
      const expected = Number.isFinite(channel[n])
        ? "numbers in [-1, 1]; divide by full scale, which is 32768 for 16 bits"
        : "a finite number; write the file again";
      throw new Error(`${name}: sample ${n} is ${+channel[n].toPrecision(6)}, expected ${expected}`);
    }
  }
}

/** Extremes, mean and runs of zeros of all channels, in 16 bits. */
export function levelsOf({ channels, sampleRate }) {
  const run = rint(ZEROS_S * sampleRate); // samples of each channel
  const levels = { low: Infinity, high: -Infinity, atLow: 0, atHigh: 0, mean: 0, zeros: 0 };
  const samples = channels[0].length;
  const count = samples * channels.length;
  for (const channel of channels) {
    for (let n = 0; n < samples; n++) {
      const value = inInt16(channel[n]);
      if (value < levels.low) [levels.low, levels.atLow] = [value, 0];
      if (value > levels.high) [levels.high, levels.atHigh] = [value, 0];
      levels.atLow += value === levels.low ? 1 : 0;
      levels.atHigh += value === levels.high ? 1 : 0;
      levels.mean += value / count;
    }
  }
  for (let begin = 0; begin + run <= samples; begin += run) {
    const isZero = channels.every((channel) =>
      channel.subarray(begin, begin + run).every((value) => inInt16(value) === 0),
    );
    levels.zeros += isZero ? run / samples : 0;
  }
  return { ...levels, count, isSilent: levels.low === levels.high && count > 1 };
}

/** Warnings of clipping, of a DC offset, of digital silence, and of hardly any sound. */
export function distortions(name, { low, high, atLow, atHigh, mean, zeros, count }) {
  const warnings = [];
  const peak = Math.max(high, -low);
  if (peak < QUIET) {
    warnings.push(
      `${name}: nearly silent, no sample is beyond ${peak} of ${FULL_SCALE}; expected speech, ` +
        "record it louder, or leave it out",
    );
  }
  const share = (atLow + atHigh) / count;
  if (peak >= LOUD && share > (peak >= FULL_SCALE - 1 ? CLIPPED : CLIPPED_BELOW)) {
    warnings.push(
      `${name}: clipped, ${(100 * share).toFixed(2)}% of the samples are at the extremes, ${low} ` +
        `and ${high} of ${FULL_SCALE}`,
    );
  }
  const offset = mean / FULL_SCALE;
  if (Math.abs(offset) > OFFSET) {
    const signed = `${offset < 0 ? "" : "+"}${(100 * offset).toFixed(2)}%`;
    warnings.push(
      `${name}: the mean is ${signed} of full scale, expected about 0 (DC offset)`,
    );
  }
  if (zeros > MOSTLY_ZEROS) {
    warnings.push(
      `${name}: ${(100 * zeros).toFixed(1)}% of it is exactly 0 (digital silence); expected ` +
        "speech; cut that out",
    );
  }
  return warnings;
}

/** A warning where the mean of the channels is worse than one of them. */
export function unfitToMix(name, { channels }) {
  const numbers = channels.map((_, c) => c);
  const products = channels.map((one) => channels.map((other) => meanProduct(one, other)));
  const powers = numbers.map((c) => products[c][c]);
  const loudest = powers.indexOf(Math.max(...powers));
  if (channels.length === 1 || !powers[loudest]) return [];
  const mix = products.flat().reduce((sum, one) => sum + one, 0) / channels.length ** 2;
  const decibels = (power) => 10 * Math.log10(power);
  const isDead = (c) => decibels(powers[c]) - decibels(powers[loudest]) < DEAD_DB;
  const related = (a, b) => Math.abs(products[a][b]) / Math.sqrt(powers[a] * powers[b]);
  const meanPower = powers.reduce((sum, one) => sum + one, 0) / channels.length;
  const dead = numbers.filter(isDead);
  const alive = numbers.filter((c) => !isDead(c));
  const pairs = alive.flatMap((a) => alive.map((b) => [a, b]));
  const unrelated = pairs.find(([a, b]) => related(a, b) < RELATED);
  let [what, advice] = ["", `use channel ${loudest + 1} alone`];
  if (decibels((Math.max(mix, 1e-30) * channels.length) / meanPower) < CANCELLED_DB) {
    what = "they cancel each other out (opposite phase)";
  } else if (dead.length) {
    what = `channel ${dead[0] + 1} is silent`;
  } else if (unrelated) {
    const [a, b] = unrelated;
    what =
      `channels ${a + 1} and ${b + 1} are different (correlation ` +
      `${(products[a][b] / Math.sqrt(powers[a] * powers[b])).toFixed(2)}), as with noise, hum or ` +
      "another speaker on one of them";
    advice = `listen to both, and use channel ${a + 1} or ${b + 1} alone`;
  } else {
    return [];
  }
  const asText = (power) => (power > 0 ? `${rint(decibels(power))}` : "-inf");
  return [
    `${name}: ${what}; the channels are at ${powers.map(asText).join(", ")} dB of full scale, ` +
      `their mix is at ${asText(mix)} dB; ${advice}`,
  ];
}

function meanProduct(one, other) {
  let sum = 0;
  for (let n = 0; n < one.length; n++) sum += one[n] * other[n];
  return sum / one.length;
}

function inInt16(value) {
  return Math.max(-FULL_SCALE, Math.min(FULL_SCALE - 1, rint(value * FULL_SCALE)));
}
