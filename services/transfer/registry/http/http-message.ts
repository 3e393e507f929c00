/** What goes to one host, once. */
export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: RequestBody;
  readonly signal: AbortSignal;
  /** How long the answer may take once the request is out; the host's own time without progress when absent. */
  readonly answerMsMax?: number;
}

/** A body that can be sent again. */
export interface RequestBody {
  readonly lengthBytes: number;
  /** The bytes from the beginning. */
  open(): Uint8Array | AsyncIterable<Uint8Array>;
}

/** An answer whose body has still to be read, or dropped by {@link HttpResponse.discard}. */
export interface HttpResponse {
  readonly status: number;
  readonly statusText: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** In pieces that are good until the next is asked for. Ending the iteration early drops the connection. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Drops the body, and keeps the connection if little of it is left. */
  discard(): Promise<void>;
  /** What was asked for: the last of the redirects. */
  readonly method: string;
  readonly url: URL;
}

/** The value of a header that must stand once; the first one if it stands more often. */
export function headerOf(response: Pick<HttpResponse, "headers">, name: string): string | undefined {
  const value = response.headers[name];
  return typeof value === "string" ? value : value?.[0];
}

/** All values of a header. */
export function headersOf(response: Pick<HttpResponse, "headers">, name: string): readonly string[] {
  const value = response.headers[name];
  return typeof value === "string" ? [value] : (value ?? []);
}
