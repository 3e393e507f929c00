import { digitValue } from "./filter-scanner.ts";

const shortEscapes: Readonly<Record<string, number>> = {
  a: 0x07,
  b: 0x08,
  f: 0x0c,
  n: 0x0a,
  r: 0x0d,
  t: 0x09,
  v: 0x0b,
  "\\": 0x5c,
};
const hexDigitsOf: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };
const codePointMax = 0x10_ffff;
const replacementCharacter = "\ufffd";

/**
 * Takes a quoted literal apart: `"…"` as in Go, and `/…/` and `|…|` with the same escapes.
 *
 * @param literal - With its quotes, as the scanner found it.
 * @returns The bytes that it stands for, which need not be UTF-8 (`"\xff"`), or undefined when it is malformed.
 * @source containerd v2.3.4 pkg/filters/quote.go `unquote`
 */
export function unquoteFilterLiteral(literal: string): Buffer | undefined {
  const characters = Array.from(literal);
  const quote = characters[0];
  const parts: Buffer[] = [];
  const end = characters.length - 1;
  if (quote === undefined || end < 1 || characters[end] !== quote) {
    return undefined;
  }
  for (let at = 1; at < end; ) {
    const character = characters[at] ?? "";
    if (character === quote || character === "\n") {
      return undefined;
    }
    if (character !== "\\") {
      parts.push(Buffer.from(character));
      at += 1;
      continue;
    }
    const escape = readEscape(characters.slice(at + 1, Math.min(end, at + 1 + longestEscape)), quote);
    if (escape === undefined) {
      return undefined;
    }
    parts.push(escape.bytes);
    at += 1 + escape.length;
  }
  return Buffer.concat(parts);
}

const longestEscape = 9;

interface Escape {
  readonly bytes: Buffer;
  /** Characters after the backslash. */
  readonly length: number;
}

function readEscape(characters: readonly string[], quote: string): Escape | undefined {
  const [first = "", second = "", third = ""] = characters;
  const short = shortEscapes[first];
  if (short !== undefined) {
    return { bytes: Buffer.of(short), length: 1 };
  }
  if (first === quote) {
    return { bytes: Buffer.from(quote), length: 1 };
  }
  if (digitValue(first) < 8) {
    const isOctal = digitValue(second) < 8 && digitValue(third) < 8;
    const value = Number.parseInt(first + second + third, 8);
    return isOctal && value <= 0xff ? { bytes: Buffer.of(value), length: 3 } : undefined;
  }
  const count = hexDigitsOf[first];
  const digits = characters.slice(1, 1 + (count ?? 0));
  if (count === undefined || digits.length < count || digits.some((digit) => digitValue(digit) > 15)) {
    return undefined;
  }
  const value = Number.parseInt(digits.join(""), 16);
  if (first === "x") {
    return { bytes: Buffer.of(value), length: 1 + count };
  }
  return encodeCodePoint(value, 1 + count);
}

/** Go keeps the value in an int32, so `\U80000000` and above are negative and end as one byte. */
function encodeCodePoint(value: number, length: number): Escape | undefined {
  const signed = value | 0;
  if (signed > codePointMax) {
    return undefined;
  }
  if (signed < 0) {
    return { bytes: Buffer.of(signed & 0xff), length };
  }
  const isSurrogate = signed >= 0xd800 && signed <= 0xdfff;
  return { bytes: Buffer.from(isSurrogate ? replacementCharacter : String.fromCodePoint(signed)), length };
}
