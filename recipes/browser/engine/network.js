// The network of a file of `asr export --moments`, run by onnxruntime-web on one thread.

/** A recogniser that hears one piece at a time; `ort` is the module of onnxruntime-web. */
export class Network {
  /** Load `onnx`, the bytes of the file. */
  static async load(ort, onnx, about) {
    const session = await ort.InferenceSession.create(onnx, {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "basic", // a higher one saves no time
    });
    return new Network(ort, session, about);
  }

  constructor(ort, session, about) {
    Object.assign(this, { ort, session });
    this.width = about.moments.mean.length;
    this.hasStatic = session.outputNames.includes("static");
  }

  /**
   * Log-probabilities and static frames of a waveform (S,).
   *
   * `moments` {mean, std} normalise the frames; null: as the model's configuration says. Returns
   * {logProbs: (T' · V), fixed: {values, count, width}}.
   */
  async emissions(waveform, moments = null) {
    const { Tensor } = this.ort;
    const given = moments ? Float32Array.of(...moments.mean, ...moments.std) : new Float32Array(0);
    const feeds = {
      waveforms: new Tensor("float32", waveform, [1, waveform.length]),
      lengths: new Tensor("int64", BigInt64Array.of(BigInt(waveform.length)), [1]),
      moments: new Tensor("float32", given, [moments ? 1 : 0, 2, this.width]),
    };
    const wanted = this.hasStatic && !moments ? ["log_probs", "static"] : ["log_probs"];
    const results = await this.session.run(feeds, wanted);
    const fixed = results.static && {
      values: results.static.data,
      count: results.static.dims[1],
      width: results.static.dims[2],
    };
    return { logProbs: results.log_probs.data, fixed };
  }
}
