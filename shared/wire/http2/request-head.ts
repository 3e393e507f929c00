/** A list of header fields: name, value, name, value, ... */
interface Fields {
  readonly fields: readonly string[];
}

/** What a request begins with. */
export interface RequestHead {
  /** "" when there is none. */
  readonly method: string;
  /** "" when there is none. */
  readonly path: string;
  /** "" when there is none. */
  readonly contentType: string;
  /** How many bytes of body there shall be, if that is said. */
  readonly contentLength: number | undefined;
  /** What makes the request malformed, if something does. */
  readonly fault: string | undefined;
}

const pseudoHeaders = new Set([":method", ":scheme", ":path", ":authority"]);

/** Fields that HTTP/2 has no use for. @source RFC 9113 section 8.2.2 */
const connectionFields = new Set(["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"]);

/** @source RFC 9113 section 8.2.1, with the characters of RFC 9110 section 5.6.2 but upper-case letters */
const fieldName = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** @source RFC 9113 section 8.2.1 */
const forbiddenInValue = /[\0\r\n]/;

/** Reads the fields that begin a request. @source RFC 9113 section 8.3 */
export function readRequestHead({ fields }: Fields): RequestHead {
  const pseudo: Record<string, string> = {};
  let contentType: string | undefined;
  let contentLength: number | undefined;
  let fault: string | undefined;
  let hasRegular = false;
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at] as string;
    const value = fields[at + 1] as string;
    if (pseudoHeaders.has(name)) {
      fault ??= hasRegular ? `${name} stands behind other fields` : undefined;
      fault ??= name in pseudo ? `${name} is there twice` : undefined;
      pseudo[name] = value;
    } else {
      hasRegular = true;
      fault ??= faultOfField(name, value);
      if (name === "content-type") {
        contentType ??= value;
      } else if (name === "content-length") {
        fault ??= /^\d{1,15}$/.test(value) ? undefined : "content-length is no number";
        contentLength ??= Number(value);
      }
    }
  }
  const { ":method": method = "", ":path": path = "", ":scheme": scheme = "" } = pseudo;
  fault ??= method === "" || scheme === "" || path === "" ? "a request needs method, scheme and path" : undefined;
  return { method, path, contentType: contentType ?? "", contentLength, fault };
}

/** What makes the fields malformed that end a request or a response, if something does. */
export function faultOfTrailers({ fields }: Fields): string | undefined {
  for (let at = 0; at < fields.length; at += 2) {
    const fault = faultOfField(fields[at] as string, fields[at + 1] as string);
    if (fault !== undefined) {
      return fault;
    }
  }
  return undefined;
}

function faultOfField(name: string, value: string): string | undefined {
  if (!fieldName.test(name)) {
    return `there is no field ${JSON.stringify(name)}`;
  }
  if (connectionFields.has(name) || (name === "te" && value !== "trailers")) {
    return `${name} concerns a connection of HTTP/1.1`;
  }
  return forbiddenInValue.test(value) ? `the value of ${name} is malformed` : undefined;
}
