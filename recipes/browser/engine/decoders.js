// What CTC finds in the log-probabilities of one utterance: `asr/search/decoders.py`.

import { NoLanguageModel } from "./graph.js";
import * as paths from "./paths.js";
import * as prefixBeam from "./prefix_beam.js";
import { round4 } from "./rounding.js";

/**
 * The n best paths, best first: greedy, or by prefix beam search.
 *
 * `logProbs` (T · V); `config` has the keys of Python's SearchConfig; without a `graph` there is no
 * language model. Throws an Error where log-probabilities are NaN.
 */
export function search(logProbs, size, config, graph = null) {
  if (logProbs.some(Number.isNaN)) {
    throw new Error("the model's outputs are NaN, expected numbers; train it first");
  }
  const penalised = paths.penalised(logProbs, size, config.blank_penalty);
  if (config.beam === 1) return [paths.greedy(penalised, size)];
  const results = prefixBeam.search(penalised, size, graph ?? new NoLanguageModel(size), {
    lmWeight: config.lm_weight,
    bonus: config.bonus,
    beam: config.beam,
    threshold: config.threshold ?? Infinity,
    nBest: config.n_best,
  });
  return results.map(({ labels, score }) =>
    paths.pathOf(paths.align(penalised, size, labels), penalised, size, score),
  );
}

/** A path as phones with times in s: `phones` are those of the labels from 1. */
export function hypothesis(path, phones, { first, step, sampleRate }) {
  return {
    phones: path.labels.map((label) => phones[label - 1]),
    times_s: path.frames.map((frame) => round4((first + frame * step) / sampleRate)),
    confidences: path.confidences.map(round4),
  };
}
