// Audio files → waveforms (S,) at the model's sample rate: what `audio.stream` does in Python.
//
// WAV and SPHERE of PCM are read here, exactly. FLAC is decoded by the browser; its samples of 16
// bits are exact again afterwards. What the browser decodes besides (MP3, Ogg, AAC) it resamples.

import { distortions, levelsOf, requireUsable, unfitToMix } from "./checks.js";
import { headerOfFLAC, readPCM, restore16Bits } from "./headers.js";
import { resampled } from "./resampling.js";

/**
 * A file as the model hears it: {samples, warnings, isSilent}.
 *
 * `decode(bytes, sampleRate)` is the browser's decoder; `windowS` the length of an analysis window.
 * Throws an Error with a sentence for a file that cannot be used.
 */
export async function waveform(name, bytes, sampleRate, windowS, decode) {
  if (!bytes.length) {
    throw new Error(`${name}: not a readable audio file, it holds 0 bytes; fetch it again`);
  }
  const sound = readPCM(name, bytes) ?? (await decoded(name, bytes, sampleRate, decode));
  requireUsable(name, sound, windowS);
  const levels = levelsOf(sound);
  const { channels, sampleRate: rate } = sound;
  const changes = [];
  if (channels.length !== 1) changes.push(`${channels.length} channels mixed into one`);
  if (rate !== sampleRate) changes.push(`resampled from ${rate} Hz to ${sampleRate} Hz`);
  if (rate < sampleRate) {
    changes.push(`nothing above ${Math.floor(rate / 2)} Hz is in it, so expect more errors`);
  }
  const warnings = changes.length ? [`${name}: ${changes.join(", ")}`] : [];
  if (!levels.isSilent) {
    warnings.push(...distortions(name, levels), ...unfitToMix(name, sound));
  }
  return {
    samples: resampled(mixed(channels), rate, sampleRate),
    warnings,
    isSilent: levels.isSilent,
  };
}

/** The mean of the channels, in single precision as numpy has it: [(S,), …] → (S,). */
export function mixed(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((first, n) => {
    let sum = first;
    for (let c = 1; c < channels.length; c++) sum = Math.fround(sum + channels[c][n]);
    return sum / channels.length;
  });
}

async function decoded(name, bytes, sampleRate, decode) {
  const flac = headerOfFLAC(bytes);
  try {
    const sound = await decode(bytes, flac?.sampleRate ?? sampleRate); // at its own: not resampled
    if (flac?.bits === 16) sound.channels.forEach(restore16Bits);
    return sound;
  } catch (error) {
    throw new Error(
      `${name}: not an audio file that this browser reads (${error.message}); convert it to WAV ` +
        "or FLAC",
    );
  }
}
