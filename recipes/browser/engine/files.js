// The files of the model: fetched, decompressed, and counted meanwhile.

/**
 * The bytes of a file, decompressed where it is gzip: Uint8Array.
 *
 * Some servers decompress such files themselves. `heard(bytes)` is called with what came. Throws
 * an Error with a sentence where the file is not there.
 */
export async function bytesOf(url, heard = () => {}) {
  const name = new URL(url).pathname;
  const response = await fetch(url).catch((error) => {
    throw new Error(`${name} cannot be fetched (${error.message}); is the server still there?`);
  });
  if (!response.ok) {
    throw new Error(`${name}: the server answers ${response.status}; build the page again`);
  }
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    heard(value.length);
  }
  const [first = []] = parts;
  const isGzip = first[0] === 0x1f && first[1] === 0x8b;
  let content = new Blob(parts).stream();
  if (isGzip) content = content.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(content).arrayBuffer());
}
