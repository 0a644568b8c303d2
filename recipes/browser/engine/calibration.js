// What makes the confidences of a search probabilities: `asr/search/calibration.py`.

import { rint } from "./rounding.js";

/** Straight between the points of a model's calibration, constant beyond the first and the last. */
export function calibrated(confidences, { raw, probability }) {
  return confidences.map((x) => rint(1e4 * interpolated(x, raw, probability)) / 1e4);
}

function interpolated(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  const above = xs.findIndex((one) => one > x);
  if (above < 0) return ys.at(-1);
  const slope = (ys[above] - ys[above - 1]) / (xs[above] - xs[above - 1]);
  return slope * (x - xs[above - 1]) + ys[above - 1];
}
