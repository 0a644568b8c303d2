// Numbers rounded as Python and numpy round them: halves to the even neighbour.

/** The nearest integer; of two, the even one. */
export function rint(x) {
  const below = Math.floor(x);
  const over = x - below;
  if (over !== 0.5) return over < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/** Python's `round(x, 4)`: of the exact value. */
export function round4(x) {
  const halves = x * 32; // n + 1/2 ten-thousandths is a binary fraction only in 32nds
  if (Number.isInteger(halves) && halves % 2 !== 0) return rint(halves * 312.5) / 1e4;
  return Number(x.toFixed(4));
}
