const shortEscapes: Record<string, string> = {
  "\u0007": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
  "\\": "\\\\",
  '"': '\\"',
};

/**
 * Quotes text as Go's `%q` does, since error texts that clients compare are made with it.
 *
 * @source Go strconv/quote.go `Quote`
 */
export function quote(text: string): string {
  return `"${text.replace(/[\\"]|[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, escapeCharacter)}"`;
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return (
    shortEscapes[character] ??
    (code < 0x80
      ? `\\x${code.toString(16).padStart(2, "0")}`
      : code < 0x1_0000
        ? `\\u${code.toString(16).padStart(4, "0")}`
        : `\\U${code.toString(16).padStart(8, "0")}`)
  );
}
