/** What Go's encoder writes as an escape, so that text is safe in HTML and JavaScript. @source Go encoding/json encode.go `appendString` */
const escaped = /[<>&\u2028\u2029]/g;

/**
 * Writes JSON as Go does, so that what is made here has the digest that containerd gives it. The order of keys is that of the
 * objects; what is undefined is left out.
 */
export function goJson(value: unknown): Buffer {
  const text = JSON.stringify(value);
  return Buffer.from(text.replace(escaped, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`));
}
