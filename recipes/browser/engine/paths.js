// The labels of one utterance's frames, and where they are: `asr/search/paths.py`.

export const BLANK = 0;

/** The path of the best alignment: (T · V) → path. */
export function greedy(logProbs, size) {
  const frames = logProbs.length / size;
  const alignment = new Int32Array(frames);
  let score = 0;
  for (let t = 0; t < frames; t++) {
    let best = 0;
    for (let v = 1; v < size; v++) {
      if (logProbs[t * size + v] > logProbs[t * size + best]) best = v;
    }
    alignment[t] = best;
    score += logProbs[t * size + best];
  }
  return pathOf(alignment, logProbs, size, score);
}

/** Log-probabilities with a penalty on the blank, (T · V). */
export function penalised(logProbs, size, blankPenalty) {
  if (blankPenalty === 0) return logProbs;
  const penalised = logProbs.slice();
  for (let at = BLANK; at < penalised.length; at += size) penalised[at] -= blankPenalty;
  return penalised;
}

/**
 * CTC's best alignment of labels (U,): (T · V) → (T,).
 *
 * Viterbi over 2U + 1 states: a blank before, between and behind the labels.
 */
export function align(logProbs, size, labels) {
  const frames = logProbs.length / size;
  const states = 2 * labels.length + 1;
  const alignment = new Int32Array(frames);
  if (frames === 0) return alignment;
  const score = new Float32Array(states).fill(-Infinity);
  const before = new Float32Array(states);
  const back = new Uint8Array(frames * states); // states that the best path goes up by
  score[0] = logProbs[BLANK];
  if (states > 1) score[1] = logProbs[labels[0]];
  for (let t = 1; t < frames; t++) {
    before.set(score);
    // A state that the end cannot be reached from, or that is not reached yet, is left out.
    const last = Math.min(states, 2 * t + 2);
    for (let s = Math.max(0, states - 2 * (frames - t)); s < last; s++) {
      const isLabel = s % 2 === 1;
      const label = isLabel ? labels[s >> 1] : BLANK;
      let best = before[s];
      let steps = 0;
      if (s > 0 && before[s - 1] > best) {
        best = before[s - 1];
        steps = 1;
      }
      if (isLabel && s > 1 && labels[(s >> 1) - 1] !== label && before[s - 2] > best) {
        best = before[s - 2];
        steps = 2;
      }
      score[s] = best + logProbs[t * size + label];
      back[t * states + s] = steps;
    }
  }
  let s = states - 1;
  if (states > 1 && score[s - 1] > score[s]) s--;
  for (let t = frames - 1; t >= 0; t--) {
    alignment[t] = s % 2 === 1 ? labels[s >> 1] : BLANK;
    s -= back[t * states + s];
  }
  return alignment;
}

/**
 * The path of an alignment (T,): its labels without blanks, and the `score` of the search.
 *
 * `frames` has, for each label, the frame in which it is most probable, `confidences` the
 * probability there.
 */
export function pathOf(alignment, logProbs, size, score) {
  const path = { labels: [], score, frames: [], confidences: [] };
  for (let start = 0, end; start < alignment.length; start = end) {
    const label = alignment[start];
    let likeliest = start;
    for (end = start + 1; end < alignment.length && alignment[end] === label; end++) {
      if (logProbs[end * size + label] > logProbs[likeliest * size + label]) likeliest = end;
    }
    if (label === BLANK) continue;
    path.labels.push(label);
    path.frames.push(likeliest);
    path.confidences.push(Math.fround(Math.exp(logProbs[likeliest * size + label])));
  }
  return path;
}
