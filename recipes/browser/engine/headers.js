// Files of PCM, read without the browser's decoder: RIFF WAVE and NIST SPHERE; the header of FLAC.

const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe];

/**
 * The samples of a WAV or SPHERE file of PCM, exactly: {channels: [(S,), …], sampleRate}.
 *
 * null for all other files, which the browser decodes. Throws an Error, begun with `name`, for one
 * that is truncated or damaged.
 */
export function readPCM(name, bytes) {
  const begin = text(bytes, 0, 12);
  if (begin.startsWith("RIFF") && begin.endsWith("WAVE")) return wave(name, bytes);
  if (begin.startsWith("NIST_1A")) return sphere(name, bytes);
  return null;
}

/** What the header of a FLAC file says: {sampleRate, bits}; null for other files. */
export function headerOfFLAC(bytes) {
  if (text(bytes, 0, 4) !== "fLaC" || bytes.length < 22) return null;
  return {
    sampleRate: (bytes[18] << 12) | (bytes[19] << 4) | (bytes[20] >> 4),
    bits: 1 + (((bytes[20] & 1) << 4) | (bytes[21] >> 4)),
  };
}

/**
 * Samples of 16 bits that a browser decoded, as multiples of 1/32768, changed in place.
 *
 * Chromium divides those above 0 by 32767, other browsers by 32768.
 */
export function restore16Bits(samples) {
  const isExact = samples.every((value) => Number.isInteger(value * 32768));
  if (isExact) return;
  for (let n = 0; n < samples.length; n++) {
    samples[n] = Math.round(samples[n] * (samples[n] > 0 ? 32767 : 32768)) / 32768;
  }
}

function wave(name, bytes) {
  const view = viewOf(bytes);
  let format = null;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const id = text(bytes, at, 4);
    const size = view.getUint32(at + 4, true);
    const begin = at + 8;
    if (id === "fmt ") {
      const kind = view.getUint16(begin, true);
      format = {
        kind: kind === EXTENSIBLE ? view.getUint16(begin + 24, true) : kind,
        channels: view.getUint16(begin + 2, true),
        sampleRate: view.getUint32(begin + 4, true),
        width: view.getUint16(begin + 14, true) / 8,
        isLittle: true,
        isUnsigned: true, // of samples of one byte
      };
    }
    if (id === "data" && format) {
      if (![PCM, FLOAT].includes(format.kind)) return null; // A-law, µ-law, ADPCM
      // a stream has no size yet
      const isStream = size === 0xffffffff || (size === 0 && begin < bytes.length);
      return samplesOf(name, view, begin, isStream ? null : size, format);
    }
    at = begin + size + (size % 2);
  }
  throw new Error(`${name}: truncated, it has no samples; fetch it again`);
}

function sphere(name, bytes) {
  const size = Number(text(bytes, 8, 8).trim());
  const header = text(bytes, 0, size);
  const valueOf = (key, otherwise) =>
    header.match(new RegExp(`^${key} -\\S+ (.*)$`, "m"))?.[1].trim() ?? otherwise;
  const format = {
    kind: PCM,
    channels: Number(valueOf("channel_count", 1)),
    sampleRate: Number(valueOf("sample_rate", 0)),
    width: Number(valueOf("sample_n_bytes", 2)),
    isLittle: valueOf("sample_byte_format", "01").startsWith("01"),
    isUnsigned: false,
  };
  const coding = valueOf("sample_coding", "pcm");
  if (coding !== "pcm") {
    throw new Error(`${name}: SPHERE with ${coding}, expected pcm; convert it to WAV or FLAC`);
  }
  const promised = Number(valueOf("sample_count", 0)) * format.channels * format.width;
  return samplesOf(name, viewOf(bytes), size, promised || null, format);
}

/** Samples in [-1, 1] of `size` bytes from `begin`; null: up to the end. */
function samplesOf(name, view, begin, size, format) {
  const { kind, channels, sampleRate, width, isLittle } = format;
  const frame = channels * width;
  if (!channels || !sampleRate || !(kind === FLOAT ? [4, 8] : [1, 2, 3, 4]).includes(width)) {
    throw new Error(
      `${name}: the header is wrong: ${channels} channels of ${8 * width} bits at ${sampleRate} Hz; ` +
        "write the file again",
    );
  }
  const stored = view.byteLength - begin;
  if (size !== null && size > stored) {
    const [said, held] = [size, stored].map((one) => Math.floor(one / frame));
    throw new Error(
      `${name}: truncated, the header says ${said} samples, the file holds ${held}; fetch it again`,
    );
  }
  const count = Math.floor((size ?? stored) / frame);
  const read = reader(view, format);
  const results = Array.from({ length: channels }, () => new Float32Array(count));
  for (let n = 0, at = begin; n < count; n++) {
    for (let c = 0; c < channels; c++, at += width) results[c][n] = read(at, isLittle);
  }
  return { channels: results, sampleRate };
}

/** A function from a place in the file to the sample there. */
function reader(view, { kind, width, isUnsigned }) {
  if (kind === FLOAT) return width === 4 ? view.getFloat32.bind(view) : view.getFloat64.bind(view);
  if (width === 4) return (at, isLittle) => view.getInt32(at, isLittle) / 2 ** 31;
  if (width === 2) return (at, isLittle) => view.getInt16(at, isLittle) / 2 ** 15;
  if (width === 1) {
    return isUnsigned ? (at) => (view.getUint8(at) - 128) / 128 : (at) => view.getInt8(at) / 128;
  }
  return (at, isLittle) => {
    const [low, high] = isLittle ? [0, 2] : [2, 0];
    const lower = (view.getUint8(at + 1) << 8) | view.getUint8(at + low);
    return ((view.getInt8(at + high) << 16) | lower) / 2 ** 23;
  };
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function text(bytes, at, count) {
  return String.fromCharCode(...bytes.subarray(at, at + count));
}
