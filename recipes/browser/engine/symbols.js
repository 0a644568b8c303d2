// Transcripts in other alphabets, by tables that the build wrote: `asr/symbols.py`.

/**
 * Phones in the symbols of an alphabet: {symbols: {phone: symbol or null}, releases}.
 *
 * In ARPABET a closure and its release are one phone, and what TIMIT has besides phones is left
 * out.
 */
export function written(phones, { symbols, releases }) {
  const results = [];
  let closure = null;
  phones.forEach((one, n) => {
    const isClosure = (releases[one.phone] ?? []).includes(phones[n + 1]?.phone);
    const symbol = isClosure ? null : symbols[one.phone];
    if (symbol !== null) {
      const touches = closure && one.start_s - closure.end_s < 1e-3;
      results.push({ ...one, phone: symbol, start_s: touches ? closure.start_s : one.start_s });
    }
    closure = isClosure ? one : null;
  });
  return results;
}
