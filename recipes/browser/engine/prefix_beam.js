// Prefix beam search over CTC's log-probabilities: `asr/search/prefix_beam.py`, step by step.

export const BLANK = 0;
const NONE = -1;

/**
 * The best label sequences of one utterance, best first: [{labels, score}].
 *
 * `logProbs` (T · V) float32, label 0 the blank; `graph` a `Graph`. In each frame the `beam` best
 * prefixes at most `threshold` nats below the best one are kept. Scores are log Σ over alignments +
 * weight · log P of the language model, with the sentence's end, + bonus for each label.
 */
export function search(logProbs, size, graph, { lmWeight, bonus, beam, threshold, nBest }) {
  const frames = logProbs.length / size;
  // ── the trie of prefixes; node 0 is the empty one ─────────────────────────────────────────────
  const trie = new Prefixes(Math.min(1 + beam * frames, 1 << 16));
  trie.add(NONE, BLANK, graph.start, 1);
  trie.place[0] = 0;
  // ── gains of all labels in the states of the language model met so far ────────────────────────
  const rows = new Map();
  const rowOf = (state) => {
    let row = rows.get(state);
    if (row === undefined) {
      row = { gains: new Float64Array(size), arcs: new Int32Array(size), highest: 0 };
      graph.fillRow(state, row.gains, row.arcs);
      for (let v = 0; v < size; v++) {
        row.gains[v] = Math.exp(lmWeight * row.gains[v] + bonus);
        if (v !== BLANK && row.gains[v] > row.highest) row.highest = row.gains[v];
      }
      rows.set(state, row);
    }
    return row;
  };
  // ── the beam: prefixes with the mass of alignments that end in blank, and in a label ──────────
  let now = new Beam(beam);
  let next = new Beam(beam);
  const stayBlank = new Float64Array(beam);
  const stayLabel = new Float64Array(beam);
  const reached = new Int32Array(beam * size).fill(NONE); // frame in which an extension was there
  const prob = new Float64Array(size);
  const byProb = Array.from({ length: size - 1 }, (_, n) => n + 1);
  const heap = new Heap(beam); // (mass, place · V + label), blank: the prefix itself
  now.blankMass[0] = 1;
  now.filled = 1;
  let logScale = 0;
  const floor = Math.exp(-threshold);
  for (let t = 0; t < frames; t++) {
    let top = -Infinity;
    for (let v = 0; v < size; v++) top = Math.max(top, logProbs[t * size + v]);
    for (let v = 0; v < size; v++) prob[v] = Math.exp(logProbs[t * size + v] - top);
    byProb.sort((a, b) => prob[b] - prob[a]);
    heap.clear();
    let best = 0;
    // ── prefixes that stay as they are ──────────────────────────────────────────────────────────
    for (let k = 0; k < now.filled; k++) {
      const n = now.node[k];
      const e = trie.label[n];
      stayBlank[k] = (now.blankMass[k] + now.labelMass[k]) * prob[BLANK];
      stayLabel[k] = now.labelMass[k] * prob[e];
      if (n > 0) {
        const j = trie.place[trie.parent[n]];
        if (j !== NONE) {
          let fromParent = now.blankMass[j];
          if (trie.label[now.node[j]] !== e) fromParent += now.labelMass[j];
          stayLabel[k] += fromParent * prob[e] * trie.gain[n];
          reached[j * size + e] = t;
        }
      }
      const stays = stayBlank[k] + stayLabel[k];
      if (stays > 0) {
        heap.push(stays, k * size);
        best = Math.max(best, stays);
      }
    }
    // ── prefixes that grow by a label ───────────────────────────────────────────────────────────
    for (let k = 0; k < now.filled; k++) {
      const n = now.node[k];
      const mass = now.blankMass[k] + now.labelMass[k];
      const row = rowOf(trie.state[n]);
      const bound = mass * row.highest;
      for (const v of byProb) {
        let least = best * floor;
        if (heap.count === beam) least = Math.max(least, heap.mass[0]);
        if (bound * prob[v] <= least) break;
        if (reached[k * size + v] === t) continue;
        const from = v === trie.label[n] ? now.blankMass[k] : mass;
        const grown = from * prob[v] * row.gains[v];
        if (grown > least) {
          if (heap.count === beam) heap.replace(grown, k * size + v);
          else heap.push(grown, k * size + v);
          best = Math.max(best, grown);
        }
      }
    }
    // ── the new beam ────────────────────────────────────────────────────────────────────────────
    for (let k = 0; k < now.filled; k++) trie.place[now.node[k]] = NONE;
    let kept = 0;
    for (let h = 0; h < heap.count; h++) {
      const mass = heap.mass[h];
      if (mass < best * floor) continue;
      const v = heap.code[h] % size;
      const k = (heap.code[h] - v) / size;
      if (v === BLANK) {
        next.node[kept] = now.node[k];
        next.blankMass[kept] = stayBlank[k] / best;
        next.labelMass[kept] = stayLabel[k] / best;
      } else {
        let n = trie.find(now.node[k], v);
        if (n === NONE) {
          const row = rowOf(trie.state[now.node[k]]);
          n = trie.add(now.node[k], v, graph.target(row.arcs[v]), row.gains[v]);
        }
        next.node[kept] = n;
        next.blankMass[kept] = 0;
        next.labelMass[kept] = mass / best;
      }
      kept++;
    }
    next.filled = kept;
    [now, next] = [next, now];
    for (let k = 0; k < kept; k++) trie.place[now.node[k]] = k;
    logScale += top + (best > 0 ? Math.log(best) : 0);
  }
  const ends = [];
  for (let k = 0; k < now.filled; k++) {
    const n = now.node[k];
    const mass = Math.log(now.blankMass[k] + now.labelMass[k]);
    ends.push({ n, score: mass + lmWeight * graph.end(trie.state[n]) + logScale });
  }
  ends.sort((a, b) => b.score - a.score);
  return ends.slice(0, nBest).map(({ n, score }) => ({ labels: trie.labelsOf(n), score }));
}

/** Prefixes as a trie of arrays, which grow. */
class Prefixes {
  constructor(room) {
    this.count = 0;
    this.parent = new Int32Array(room);
    this.label = new Int32Array(room);
    this.child = new Int32Array(room); // one of them; the others are its siblings
    this.sibling = new Int32Array(room);
    this.state = new Int32Array(room); // of the language model
    this.gain = new Float64Array(room); // factor that it and the bonus give to the last label
    this.place = new Int32Array(room); // in the beam, or NONE
  }

  add(parent, label, state, gain) {
    const n = this.count++;
    if (n === this.parent.length) this.#grow();
    this.parent[n] = parent;
    this.label[n] = label;
    this.child[n] = NONE;
    this.sibling[n] = parent === NONE ? NONE : this.child[parent];
    if (parent !== NONE) this.child[parent] = n;
    this.state[n] = state;
    this.gain[n] = gain;
    this.place[n] = NONE;
    return n;
  }

  find(parent, label) {
    let n = this.child[parent];
    while (n !== NONE && this.label[n] !== label) n = this.sibling[n];
    return n;
  }

  labelsOf(n) {
    const labels = [];
    for (; n > 0; n = this.parent[n]) labels.push(this.label[n]);
    return labels.reverse();
  }

  #grow() {
    for (const name of ["parent", "label", "child", "sibling", "state", "gain", "place"]) {
      const larger = new this[name].constructor(2 * this[name].length);
      larger.set(this[name]);
      this[name] = larger;
    }
  }
}

class Beam {
  constructor(size) {
    this.filled = 0;
    this.node = new Int32Array(size);
    this.blankMass = new Float64Array(size);
    this.labelMass = new Float64Array(size);
  }
}

/** The heaviest extensions of a frame, the lightest of them first. */
class Heap {
  constructor(size) {
    this.count = 0;
    this.mass = new Float64Array(size);
    this.code = new Int32Array(size);
  }

  clear() {
    this.count = 0;
  }

  push(mass, code) {
    let at = this.count++;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!this.#isLess(mass, code, above)) break;
      this.#move(above, at);
      at = above;
    }
    this.mass[at] = mass;
    this.code[at] = code;
  }

  replace(mass, code) {
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= this.count) break;
      if (below + 1 < this.count && this.#isLess(this.mass[below + 1], this.code[below + 1], below))
        below++;
      if (this.#isLess(mass, code, below)) break;
      this.#move(below, at);
      at = below;
    }
    this.mass[at] = mass;
    this.code[at] = code;
  }

  #isLess(mass, code, place) {
    return mass < this.mass[place] || (mass === this.mass[place] && code < this.code[place]);
  }

  #move(from, to) {
    this.mass[to] = this.mass[from];
    this.code[to] = this.code[from];
  }
}
