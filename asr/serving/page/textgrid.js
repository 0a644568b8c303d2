// A result → Praat's TextGrid, letter for letter as `asr transcribe --format textgrid` writes it.

/** Python's spelling of a float. */
const number = (value) => (Number.isInteger(value) ? value.toFixed(1) : String(value));
const quoted = (text) => `"${text.replaceAll('"', '""')}"`;

/** Intervals [start_s, end_s, label] with empty ones in the gaps up to `end_s`. */
function* withoutGaps(intervals, end_s) {
  let reached = 0;
  for (const [start, end, label] of intervals) {
    if (start > reached) yield [reached, start, ""];
    yield [start, end, label];
    reached = end;
  }
  if (reached < end_s) yield [reached, end_s, ""];
}

/** The text of a file with these tiers: {name: [[start_s, end_s, label], …]}. */
export function textGrid(tiers, duration_s) {
  const names = Object.keys(tiers);
  const lines = [
    'File type = "ooTextFile"', 'Object class = "TextGrid"', "",
    "xmin = 0", `xmax = ${number(duration_s)}`, "tiers? <exists>", `size = ${names.length}`, "item []:",
  ];
  names.forEach((name, place) => {
    const intervals = [...withoutGaps(tiers[name], duration_s)];
    lines.push(
      `    item [${place + 1}]:`, '        class = "IntervalTier"', `        name = ${quoted(name)}`,
      "        xmin = 0", `        xmax = ${number(duration_s)}`, `        intervals: size = ${intervals.length}`,
    );
    intervals.forEach(([start, end, label], n) => lines.push(
      `        intervals [${n + 1}]:`, `            xmin = ${number(start)}`, `            xmax = ${number(end)}`,
      `            text = ${quoted(label)}`,
    ));
  });
  return lines.join("\n") + "\n";
}

/** The tiers of a Result: words if it has some, phones, confidences. */
export function tiersOf(result) {
  const interval = (one, label) => [one.start_s, one.end_s, label];
  return {
    ...(result.words ? { words: result.words.map((one) => interval(one, one.word)) } : {}),
    phones: result.phones.map((one) => interval(one, one.phone)),
    confidences: result.phones.map((one) => interval(one, one.confidence.toFixed(2))),
  };
}
