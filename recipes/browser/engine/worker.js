// Recognises in the background, so that the page stays responsive.
//
// It gets {id, load: URL of the page's folder}, {id, samples, symbols} or {cancel: id}, and answers
// {id, result}, {id, error: sentence}, or meanwhile {id, progress: share}.

import * as ort from "../runtime/ort.wasm.min.mjs";
import { bytesOf } from "./files.js";
import { graphOf } from "./graph.js";
import { Network } from "./network.js";
import { STREAMS, unpack } from "./packing.js";
import { written } from "./symbols.js";
import { Transcriber } from "./transcriber.js";

const cancelled = new Set();
let transcriber = null;
let queue = Promise.resolve(); // one recording after the other

onmessage = ({ data: { id, load, samples, symbols, cancel } }) => {
  if (cancel !== undefined) {
    cancelled.add(cancel);
    return;
  }
  const work = load ? () => loaded(id, load) : () => transcribed(id, samples, symbols);
  queue = queue.then(work).then(
    ([result, moved = []]) => postMessage({ id, result }, moved),
    (error) => postMessage({ id, error: error.message }),
  );
};

async function loaded(id, root) {
  const about = JSON.parse(new TextDecoder().decode(await bytesOf(new URL("model/about.json", root))));
  let done = 0;
  const fetched = (path) =>
    bytesOf(new URL(path, root), (bytes) => {
      done += bytes;
      postMessage({ id, progress: Math.min(1, done / about.bytes) });
    });
  const packed = about.packed_language_model;
  const [machine, onnx, ...streams] = await Promise.all([
    fetched("runtime/ort-wasm-simd-threaded.wasm.gz"),
    fetched("model/network.onnx.gz"),
    ...(packed ? STREAMS.map((name) => fetched(`model/ngram-${name}.gz`)) : []),
  ]);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = machine;
  ort.env.wasm.wasmPaths = { mjs: new URL("runtime/ort-wasm-simd-threaded.mjs", root).href };
  const network = await Network.load(ort, onnx, about);
  const parts = Object.fromEntries(STREAMS.map((name, n) => [name, streams[n]]));
  const graph = packed && graphOf(unpack(packed, parts), about.vocabulary, about.folding);
  transcriber = new Transcriber(about, network, graph);
  return [about];
}

async function transcribed(id, samples, symbols) {
  const result = await transcriber.transcribe(samples, async (count) => {
    postMessage({ id, progress: count / samples.length });
    await new Promise((resolve) => setTimeout(resolve)); // a message may cancel
    if (cancelled.delete(id)) throw new Error("cancelled");
  });
  const { about, phones, first, step, sampleRate } = transcriber;
  const values = Uint8Array.from(result.posteriors, (prob) => Math.round(255 * prob));
  result.posteriors = {
    phones: ["blank", ...phones],
    step_s: step / sampleRate,
    start_s: first / sampleRate,
    values,
  };
  if (symbols) result.phones = written(result.phones, about.alphabets[symbols]);
  return [result, [values.buffer]];
}
