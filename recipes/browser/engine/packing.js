// A packed phone n-gram (`asr/search/packing.py`) → a trie in typed arrays.

export const STREAMS = ["children", "symbols", "probs", "backoffs"];

/**
 * Unpack what `pack` of asr.search.packing wrote, its streams decompressed.
 *
 * `packed` is its header: order, symbols, nodes (n-grams of each order), values (of each code),
 * all_backoffs. `streams` are bytes, the lowest ones of all numbers first. Values stay in codes of
 * one byte. Node 0 is the empty n-gram, node k + 1 the unigram of symbol k; longer n-grams follow,
 * order by order. Throws an Error where the parts do not fit each other.
 */
export function unpack(packed, streams) {
  const size = packed.symbols.length;
  const firstOf = [0, 1]; // the first node of each order
  for (const count of packed.nodes) firstOf.push(firstOf.at(-1) + count);
  const total = firstOf.at(-1);
  const histories = firstOf.at(-2); // the nodes below the highest order
  const numbers = numbersOf(streams.children, histories, "children");
  const children = new Int32Array(histories + 1);
  children[0] = 1;
  for (let n = 0; n < histories; n++) children[n + 1] = children[n] + numbers[n];
  if (children[histories] !== total) throw damaged("children");

  const symbol = new Uint8Array(total); // of the unigrams and all longer ones; that of node 0 unused
  if (size > 256) throw new Error(`the n-gram has ${size} symbols, expected at most 256 phones`);
  for (let k = 0; k < size; k++) symbol[1 + k] = k;
  const steps = numbersOf(streams.symbols, total - 1 - size, "symbols");
  for (let node = 1, at = 0; node < histories; node++) {
    for (let n = 0, last = -1; n < numbers[node]; n++, at++) {
      // the first of a history is itself, the others are what they exceed the one before by, less 1
      last = n === 0 ? steps[at] : last + 1 + steps[at];
      symbol[1 + size + at] = last;
    }
  }
  const prob = new Uint8Array(total);
  prob.set(numbersOf(streams.probs, total - 1, "probs"), 1);
  const backoff = new Uint8Array(histories); // 255: none
  const codes = numbersOf(streams.backoffs, null, "backoffs");
  let read = 0;
  for (let node = 0; node < histories; node++) {
    const continued = node > 0 && (numbers[node] > 0 || packed.all_backoffs);
    backoff[node] = continued ? codes[read++] : NONE;
  }
  if (read !== codes.length) throw damaged("backoffs");
  const tables = packed.values.map((values) => Float64Array.from(values, (v) => v ?? NaN));
  return {
    order: packed.order,
    symbols: packed.symbols,
    firstOf,
    children,
    symbol,
    prob,
    probs: [[], ...tables.slice(0, packed.order)], // log10 values by order
    backoff,
    backoffs: [[], ...tables.slice(packed.order)],
  };
}

export const NONE = 255; // the code of no back-off

function numbersOf(bytes, count, name) {
  const width = count === null ? 1 : bytes.length / Math.max(1, count);
  if (count === 0) return new Uint8Array(0);
  if (!Number.isInteger(width) || width < 1 || width > 4) throw damaged(name);
  if (width === 1) return bytes;
  const numbers = new Uint32Array(count);
  for (let plane = width - 1; plane >= 0; plane--) {
    for (let n = 0, at = plane * count; n < count; n++, at++) {
      numbers[n] = numbers[n] * 256 + bytes[at];
    }
  }
  return numbers;
}

function damaged(name) {
  return new Error(`the n-gram is damaged (${name}); build the page again`);
}
