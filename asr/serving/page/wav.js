// Samples → a WAV file.

/** A WAV of 16 bits and one channel: Float32Array in [-1, 1] → Blob. */
export function wavOf(samples, sampleRate) {
  const bytes = new ArrayBuffer(44 + 2 * samples.length);
  const view = new DataView(bytes);
  const write = (place, text) => [...text].forEach((c, n) => view.setUint8(place + n, c.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of this chunk
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * sampleRate, true);
  view.setUint16(32, 2, true); // bytes of a frame
  view.setUint16(34, 16, true); // bits of a sample
  write(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  const values = new Int16Array(bytes, 44);
  for (let n = 0; n < samples.length; n++) {
    values[n] = Math.max(-32768, Math.min(32767, Math.round(samples[n] * 32768)));
  }
  return new Blob([bytes], { type: "audio/wav" });
}

/** The samples of such a WAV: ArrayBuffer → {samples: Float32Array, sampleRate}. */
export function samplesOf(bytes) {
  const sampleRate = new DataView(bytes).getUint32(24, true);
  const values = new Int16Array(bytes, 44);
  return { samples: Float32Array.from(values, (value) => value / 32768), sampleRate };
}
