declare const bytes: unique symbol;

/**
 * Text in which every character stands for one byte. Names of files are bytes, and layers bring names that are no UTF-8; as
 * ordinary text they would not survive.
 */
export type ByteString = string & { readonly [bytes]: true };

/** The bytes of a text in UTF-8. */
export function toByteString(text: string): ByteString {
  return (/^[\0-\x7f]*$/.test(text) ? text : Buffer.from(text, "utf8").toString("latin1")) as ByteString;
}

/** The text that the bytes mean in UTF-8; for messages, since what is no UTF-8 is lost. */
export function fromByteString(value: ByteString): string {
  return /^[\0-\x7f]*$/.test(value) ? value : Buffer.from(value, "latin1").toString("utf8");
}

/** Takes text that already has one character for each byte, such as names read with the encoding `latin1`. */
export function asByteString(latin1: string): ByteString {
  return latin1 as ByteString;
}
