// Calls functions of recipes/browser/engine: a line of JSON for each call in, one out.
//
// A call is [module, function, ...arguments]. {"float32": […]} and {"uint8": […]} are typed arrays.
// A name in place of a module is a function of this file.

import { createInterface } from "node:readline";

const ENGINE = new URL("../recipes/browser/engine/", import.meta.url);
const module = (name) => import(new URL(`${name}.js`, ENGINE));
const { graphOf } = await module("graph");
const { unpack } = await module("packing");
const { SpeechDetector } = await module("detector");
const { search } = await module("decoders");
const { pieces, placed } = await module("transcriber");
const { restore16Bits } = await module("headers");
const { waveform } = await module("audio");

const own = {
  /** log P of all labels after each beginning of a label sequence, and that of the end. */
  rows(packed, streams, phones, labels, folding) {
    const graph = graphOf(unpack(packed, streams), phones, folding);
    let state = graph.start;
    return [0, ...labels].map((label) => {
      const [row, arcs] = [new Float64Array(graph.size), new Int32Array(graph.size)];
      if (label) {
        graph.fillRow(state, row, arcs);
        state = graph.target(arcs[label]);
      }
      graph.fillRow(state, row, arcs);
      return [...row, graph.end(state)];
    });
  },
  search(logProbs, config, packed, streams, phones, folding) {
    const graph = packed && graphOf(unpack(packed, streams), phones, folding);
    return search(logProbs, phones.length + 1, config, graph);
  },
  detected(detector, logProbs, size, fixed, frameS, config, ofTraining) {
    const own = new SpeechDetector(detector, size, frameS);
    return {
      odds: own.odds(logProbs, fixed),
      gated: own.gate(logProbs, fixed),
      moments: own.moments(logProbs, fixed, config, ofTraining),
    };
  },
  pieces(samples, step, sampleRate) {
    return [...pieces(samples, step, sampleRate)].map(({ waveform, ...piece }) => ({
      ...piece,
      length: waveform.length,
    }));
  },
  placed,
  restored(samples) {
    restore16Bits(samples);
    return samples;
  },
  async heard(name, bytes, sampleRate, windowS) {
    const decode = () => Promise.reject(new Error("no decoder"));
    return waveform(name, bytes, sampleRate, windowS, decode);
  },
};

const revive = (_, value) =>
  value?.float32 ? Float32Array.from(value.float32) : value?.uint8 ? Uint8Array.from(value.uint8) : value;
const plain = (_, value) => (ArrayBuffer.isView(value) ? [...value] : value === Infinity ? null : value);

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line, revive);
  try {
    const call = own[name] ?? (await module(name))[given.shift()];
    console.log(JSON.stringify({ result: await call(...given) }, plain));
  } catch (error) {
    console.log(JSON.stringify({ error: error.message }));
  }
}
