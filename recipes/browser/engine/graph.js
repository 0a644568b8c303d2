// An n-gram as the search reads it (`asr/search/graph.py`), made state by state when one is met.
//
// Python makes all states once and keeps them in a file of 145 MB. A search reads a few thousand
// of the millions, so here a state is a node of the trie, and what is behind it is looked up.

import { NONE } from "./packing.js";

const LN10 = Math.log(10);
const START = "<s>";
const END = "</s>";
const UNKNOWN = "<unk>";

/** The graph of an unpacked n-gram; label k + 1 is `phones[k]`. */
export class Graph {
  constructor(trie, phones) {
    this.trie = trie;
    this.size = phones.length + 1;
    const numberOf = new Map(trie.symbols.map((symbol, n) => [symbol, n]));
    const absent = phones.filter((phone) => !numberOf.has(phone));
    const others = trie.symbols.filter((s) => ![START, END, UNKNOWN, ...phones].includes(s));
    if (absent.length || others.length) {
      throw new Error(
        `the n-gram has other phones than the model (${[...absent, ...others].join(", ")})`,
      );
    }
    this.labelOf = new Int32Array(trie.symbols.length);
    phones.forEach((phone, k) => (this.labelOf[numberOf.get(phone)] = k + 1));
    this.endSymbol = numberOf.get(END);
    const naturalOf = (table) => Float32Array.from(table, (value) => LN10 * value);
    this.logProbs = trie.probs.map(naturalOf);
    this.backoffs = trie.backoffs.map(naturalOf);
    this.start = numberOf.has(START) ? this.stateOf([numberOf.get(START)], 0) : 0;
  }

  /**
   * Fill in log P of each label after a history, back-off included: state → (V,).
   *
   * `arc` (V,) gets the node of each label's n-gram, for `target`.
   */
  fillRow(state, logProb, arc) {
    logProb.fill(0);
    const { children, symbol, prob } = this.trie;
    for (const node of this.chain(state).reverse()) {
      const order = this.orderOf(node);
      const backoff = this.backoff(node, order);
      if (backoff !== 0) for (let v = 0; v < this.size; v++) logProb[v] += backoff;
      if (node + 1 >= children.length) continue;
      const values = this.logProbs[order + 1];
      for (let child = children[node]; child < children[node + 1]; child++) {
        const label = this.labelOf[symbol[child]];
        const value = values[prob[child]];
        if (label === 0 || Number.isNaN(value)) continue;
        logProb[label] = value;
        arc[label] = child;
      }
    }
  }

  /** The state behind an arc: the longest end of its n-gram that is a state. */
  target(arc) {
    if (this.isState(arc)) return arc;
    return this.stateOf(this.path(arc), 1);
  }

  /** log P that the sentence ends after a history. */
  end(state) {
    let log10 = 0;
    for (const node of this.chain(state)) {
      const order = this.orderOf(node);
      const last = this.child(node, this.endSymbol);
      const value = last < 0 ? NaN : this.trie.probs[order + 1][this.trie.prob[last]];
      if (!Number.isNaN(value)) return Math.fround(LN10 * (log10 + value));
      log10 += this.log10Backoff(node, order);
    }
    return Math.fround(LN10 * log10);
  }

  /** A state and all that the search backs off to, down to the empty history. */
  chain(state) {
    const path = this.path(state);
    const chain = [state];
    for (let begin = 1; begin < path.length; begin++) {
      const node = this.node(path, begin);
      if (node >= 0 && this.isState(node)) chain.push(node);
    }
    if (path.length) chain.push(0);
    return chain;
  }

  /** The longest end of a path, from `begin` on, that is a state. */
  stateOf(path, begin) {
    for (; begin < path.length; begin++) {
      const node = this.node(path, begin);
      if (node >= 0 && this.isState(node)) return node;
    }
    return 0;
  }

  /** Whether something follows a node, or its history has a back-off of its own. */
  isState(node) {
    const { children, firstOf, order } = this.trie;
    if (node === 0) return true;
    if (node >= firstOf[order]) return false;
    return children[node + 1] > children[node] || this.log10Backoff(node, this.orderOf(node)) !== 0;
  }

  /** The symbols of a node's n-gram. */
  path(node) {
    const path = [];
    for (; node > 0; node = this.parent(node)) path.push(this.trie.symbol[node]);
    return path.reverse();
  }

  /** The node of a path's end, from `begin` on, or −1. */
  node(path, begin) {
    let node = 0;
    for (let n = begin; n < path.length && node >= 0; n++) node = this.child(node, path[n]);
    return node;
  }

  /** The node of a node's n-gram and one further symbol, or −1. */
  child(node, last) {
    const { children, symbol } = this.trie;
    if (node + 1 >= children.length) return -1;
    let low = children[node];
    let high = children[node + 1];
    const end = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (symbol[middle] < last) low = middle + 1;
      else high = middle;
    }
    return low < end && symbol[low] === last ? low : -1;
  }

  /** The node of all symbols but the last. */
  parent(node) {
    const { children } = this.trie;
    let low = 0;
    let high = children.length - 1; // children[low] ≤ node < children[high]
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (children[middle] <= node) low = middle;
      else high = middle;
    }
    return low;
  }

  orderOf(node) {
    let order = 0;
    while (node >= this.trie.firstOf[order + 1]) order++;
    return order;
  }

  backoff(node, order) {
    const code = node < this.trie.backoff.length ? this.trie.backoff[node] : NONE;
    const value = code === NONE ? 0 : this.backoffs[order][code];
    return Number.isNaN(value) ? 0 : value;
  }

  log10Backoff(node, order) {
    const code = node < this.trie.backoff.length ? this.trie.backoff[node] : NONE;
    const value = code === NONE ? 0 : this.trie.backoffs[order][code];
    return Number.isNaN(value) ? 0 : value;
  }
}

/**
 * `inner`, over CMUdict's phones, for a recogniser whose `labels` fold to them, such as TIMIT's.
 *
 * `folding` has {target: the phone of each label or null, releases: {closure: labels}}. A closure
 * costs what its stop costs; then the stop's release is free, and an affricate costs the difference.
 * Before any other label the closure alone counts as the stop. Silence is free and only ends a
 * closure. States from 0 are those of `inner`; below 0 is a history followed by a closure.
 */
export class FoldingGraph {
  constructor(inner, phones, labels, { target, releases }) {
    this.inner = inner;
    this.size = labels.length + 1;
    this.start = inner.start;
    this.phoneOf = labels.map((label) => (target[label] ? phones.indexOf(target[label]) + 1 : null));
    this.releasesOf = labels.map((label) =>
      (releases[label] ?? []).map((release) => labels.indexOf(release)).filter((k) => k >= 0),
    );
    this.isClosure = labels.map((label) => label in releases);
    this.row = new Float64Array(inner.size);
    this.arcs = new Int32Array(inner.size);
    this.closed = []; // of state −1 − k: {history, closure}
    this.stateOf = new Map(); // history · V + closure → state
  }

  fillRow(state, logProb, arc) {
    if (state >= 0) {
      this.inner.fillRow(state, this.row, this.arcs);
      logProb[0] = this.row[0];
      this.phoneOf.forEach((phone, k) => {
        logProb[k + 1] = phone === null ? 0 : this.row[phone];
        arc[k + 1] = phone === null ? state : this.arcs[phone];
        if (this.isClosure[k]) arc[k + 1] = this.#closed(state, k);
      });
      return;
    }
    const { history, closure } = this.closed[-1 - state];
    this.fillRow(this.#stopped(state), logProb, arc);
    this.inner.fillRow(history, this.row, this.arcs);
    for (const k of this.releasesOf[closure]) {
      logProb[k + 1] = this.row[this.phoneOf[k]] - this.row[this.phoneOf[closure]];
      arc[k + 1] = this.arcs[this.phoneOf[k]];
    }
  }

  target(arc) {
    return arc < 0 ? arc : this.inner.target(arc);
  }

  end(state) {
    return this.inner.end(state < 0 ? this.#stopped(state) : state);
  }

  /** The history with the stop, to which a closure backs off. */
  #stopped(state) {
    const { history, closure } = this.closed[-1 - state];
    this.inner.fillRow(history, this.row, this.arcs);
    return this.inner.target(this.arcs[this.phoneOf[closure]]);
  }

  #closed(history, closure) {
    const key = history * this.size + closure;
    if (!this.stateOf.has(key)) {
      this.closed.push({ history, closure });
      this.stateOf.set(key, -this.closed.length);
    }
    return this.stateOf.get(key);
  }
}

/** The graph of an unpacked n-gram for the labels of a model; `folding` where they fold to it. */
export function graphOf(trie, labels, folding = null) {
  if (!folding) return new Graph(trie, labels);
  const phones = trie.symbols.filter((symbol) => ![START, END, UNKNOWN].includes(symbol));
  return new FoldingGraph(new Graph(trie, phones), phones, labels, folding);
}

/** One state, in which every label has probability 1, and so has the end of the sentence. */
export class NoLanguageModel {
  constructor(size) {
    this.size = size;
    this.start = 0;
  }

  fillRow(state, logProb, arc) {
    logProb.fill(0);
    arc.fill(0);
  }

  target() {
    return 0;
  }

  end() {
    return 0;
  }
}
