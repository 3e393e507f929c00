/** Tells whoever watches a bench how far it is. */
export function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
