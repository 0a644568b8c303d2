// Audio at another sample rate: a band-limited filter, as soxr's high quality has it.
//
// Its pass band, its stop band and its delay are those of soxr; its last digits are not.

const PASS = 0.913; // of the lower Nyquist frequency, below which nothing is lost
const STOP_DB = 125; // by which all above that frequency is lower
const MOST_PHASES = 4096; // of the filter; more are rounded to the nearest

/** Samples (S,) at `rate` Hz → at `target` Hz. */
export function resampled(samples, rate, target) {
  if (rate === target) return samples;
  const lower = Math.min(rate, target) / 2;
  const width = (2 * Math.PI * (1 - PASS) * lower) / rate; // of the transition, per input sample
  const half = Math.ceil((STOP_DB - 7.95) / (2.285 * width) / 2); // Kaiser's formula
  const cutoff = ((1 + PASS) / 2) * lower;
  const exact = target / greatestDivisor(rate, target);
  const phases = Math.min(exact, MOST_PHASES);
  const filters = Array.from({ length: phases + 1 }, (_, p) =>
    filter(p / phases, half, (2 * cutoff) / rate),
  );
  const result = new Float32Array(Math.round((samples.length * target) / rate));
  for (let n = 0; n < result.length; n++) {
    const at = Math.floor((n * rate) / target);
    const phase = Math.round((((n * rate) % target) / target) * phases);
    const taps = filters[phase];
    const begin = at - half + 1;
    const first = Math.max(0, -begin);
    const last = Math.min(taps.length, samples.length - begin);
    let sum = 0;
    for (let k = first; k < last; k++) sum += taps[k] * samples[begin + k];
    result[n] = sum;
  }
  return result;
}

/** A low-pass of 2 · `half` taps under Kaiser's window, `cutoff` in shares of Nyquist. */
function filter(phase, half, cutoff) {
  const beta = 0.1102 * (STOP_DB - 8.7);
  return Float64Array.from({ length: 2 * half }, (_, k) => {
    const distance = k - half + 1 - phase;
    const share = distance / half;
    const window = Math.abs(share) > 1 ? 0 : bessel(beta * Math.sqrt(1 - share * share));
    const angle = Math.PI * cutoff * distance;
    return (cutoff * (angle === 0 ? 1 : Math.sin(angle) / angle) * window) / bessel(beta);
  });
}

/** The modified Bessel function I₀. */
function bessel(x) {
  let sum = 1;
  for (let k = 1, term = 1; term > 1e-17 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestDivisor(a, b) {
  return b === 0 ? a : greatestDivisor(b, a % b);
}
