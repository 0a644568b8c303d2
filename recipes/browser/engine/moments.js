// Means and deviations that the frames of an utterance are normalised by: `asr/features/moments.py`.

const VARIANCE_FLOOR = 1e-10;
const LOUDEST = 10; // frames: a tenth of a second
const OTHERS = 0.2; // share of the loud frames without speech that the moments may have
const PRIOR_VARIANCE = 100; // loud frames that a prior counts for
const DB_PER_NAT = 10 / Math.log(10);

/**
 * The moments of the loud frames with `speech` (T,), where many others are as loud: {mean, std}.
 *
 * `frames` are {values, count, width}, before they are normalised; `prior` those of the training
 * set. null where the share of the others is at most `OTHERS`, and where nobody speaks.
 */
export function ofSpeech(frames, speech, config, prior) {
  const loud = loudest(frames, new Uint8Array(frames.count).fill(1), config);
  let others = 0;
  let all = 0;
  for (let t = 0; t < frames.count; t++) {
    all += loud[t];
    others += loud[t] && !speech[t] ? 1 : 0;
  }
  if (others / Math.max(1, all) <= OTHERS || !speech.some(Boolean)) return null;
  return ofLoud(frames, speech, config, prior);
}

/** The moments of the loud frames out of those `within` (T,), and of a prior. */
export function ofLoud(frames, within, config, prior) {
  const loud = loudest(frames, within, config);
  const { mean, std } = ofFrames(frames, loud);
  if (!prior.mean.some((value) => value !== 0)) return { mean, std };
  const size = loud.reduce((sum, one) => sum + one, 0);
  const mixed = std.map((own, f) => {
    const variance = size * own ** 2 + PRIOR_VARIANCE * prior.std[f] ** 2;
    return stdOf(variance / (size + PRIOR_VARIANCE));
  });
  return { mean, std: mixed };
}

/** The moments of chosen frames. */
export function ofFrames({ values, count, width }, chosen) {
  const mean = new Float64Array(width);
  const squares = new Float64Array(width);
  let size = 0;
  for (let t = 0; t < count; t++) {
    if (!chosen[t]) continue;
    size++;
    for (let f = 0; f < width; f++) mean[f] += values[t * width + f];
  }
  size = Math.max(1, size);
  for (let f = 0; f < width; f++) mean[f] /= size;
  for (let t = 0; t < count; t++) {
    if (!chosen[t]) continue;
    for (let f = 0; f < width; f++) squares[f] += (values[t * width + f] - mean[f]) ** 2;
  }
  return { mean, std: squares.map((sum) => stdOf(sum / size)) };
}

/** Which frames are loud, (T,): at most `active_db` below the `LOUDEST`th loudest one. */
export function loudest({ values, count, width }, within, config) {
  const begin = config.energy ? 1 : 0;
  const end = config.bins + begin; // log-mel values; Δ are behind them
  const level = new Float32Array(count).fill(-Infinity);
  let inside = 0;
  for (let t = 0; t < count; t++) {
    if (!within[t]) continue;
    inside++;
    let sum = 0;
    for (let f = begin; f < end; f++) sum += values[t * width + f];
    level[t] = sum / (end - begin);
  }
  const loud = new Uint8Array(count);
  if (!count) return loud;
  const place = Math.min(Math.max(1, inside), LOUDEST) - 1;
  const reference = level.toSorted((a, b) => b - a)[place];
  const least = reference - config.active_db / DB_PER_NAT;
  for (let t = 0; t < count; t++) loud[t] = Number.isFinite(level[t]) && level[t] >= least ? 1 : 0;
  return loud;
}

/** Static frames with Δ and ΔΔ, edge frames repeated: `asr.features.windows.put_slopes`. */
export function dynamic({ values, count, width }, { deltas, delta_window: window }) {
  const wide = width * (1 + deltas);
  const frames = new Float32Array(count * wide);
  for (let t = 0; t < count; t++) frames.set(values.subarray(t * width, (t + 1) * width), t * wide);
  let scale = 0;
  for (let n = 1; n <= window; n++) scale += 2 * n * n;
  for (let order = 1; order <= deltas; order++) {
    for (let t = 0; t < count; t++) {
      for (let f = order * width; f < (order + 1) * width; f++) {
        let slope = 0;
        for (let n = 1; n <= window; n++) {
          const after = Math.min(t + n, count - 1);
          const before = Math.max(t - n, 0);
          slope += n * (frames[after * wide + f - width] - frames[before * wide + f - width]);
        }
        frames[t * wide + f] = slope / scale;
      }
    }
  }
  return { values: frames, count, width: wide };
}

function stdOf(variance) {
  return Math.sqrt(Math.max(variance, VARIANCE_FLOOR));
}
