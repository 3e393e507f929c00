import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { HttpResponse } from "./http-message.ts";
import { joinHostErrors, RegistryError, wrapRegistryError } from "./registry-error.ts";
import { readRetryAfter } from "./retry-after.ts";
import { safeUrl } from "./safe-url.ts";
import { statusError } from "./status-error.ts";
import { Warnings } from "./warnings.ts";

function responseOf(status: number, body: string, headers: HttpResponse["headers"] = {}): HttpResponse {
  async function* read(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(body);
  }
  return {
    status,
    statusText: "",
    headers,
    body: read(),
    discard: async () => undefined,
    method: "HEAD",
    url: new URL("https://user:secret@r.example/v2/a/b?ns=docker.io&sig=secret"),
  };
}

test("what registries say is told in containerd's form", async () => {
  const summary = "unexpected status from HEAD request to https://r.example/v2/a/b?ns=docker.io&sig=REDACTED";
  for (const [body, told] of Object.entries({
    "": "",
    "<html>": "",
    '{"errors":[]}': "",
    '{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}': "\ndenied",
    '{"errors":[{"code":"DENIED","message":"no"}]}': "\ndenied: no",
    '{"errors":[{"code":"TOOMANYREQUESTS"}]}': "\ntoomanyrequests",
    '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"gone"}]}': "\nunknown: gone",
    '{"errors":[{"code":"DENIED"},{"code":"UNKNOWN","message":"x"}]}': "\nerrors:\ndenied\nunknown: x\n",
    '{"errors":[null]}': "\nunknown",
  })) {
    assert.equal((await statusError(responseOf(403, body))).message, `${summary}: 403 Forbidden${told}`, body);
  }
  const busy = await statusError(responseOf(429, "", { "retry-after": "7" }));
  assert.deepEqual([busy.isTransient, busy.retryAfterMs, busy.refusal], [true, 7000, undefined]);
});

test("a context keeps what a failure means", () => {
  const error = new RegistryError(ErrorKind.NotFound, "x", { status: 404, refusal: "status", retryAfterMs: 3 });
  const wrapped = wrapRegistryError(error, "failed");
  assert.ok(wrapped instanceof RegistryError);
  assert.deepEqual(
    [wrapped.message, wrapped.kind, wrapped.status, wrapped.refusal, wrapped.retryAfterMs, wrapped.cause],
    ["failed: x", ErrorKind.NotFound, 404, "status", 3, error],
  );
  const plain = wrapRegistryError(new FlotillaError(ErrorKind.Aborted, "y"), "failed");
  assert.ok(plain instanceof FlotillaError && plain.kind === ErrorKind.Aborted);
});

test("of several hosts the most telling failure counts, and the others are told", () => {
  const unreachable = new RegistryError(ErrorKind.Unknown, "connection refused", { isTransient: true });
  const missing = new RegistryError(ErrorKind.NotFound, "x: not found", { status: 404 });
  const broken = new RegistryError(ErrorKind.Unknown, "500", { status: 500 });
  const join = (...failures: [string, unknown][]): string => String(joinHostErrors(failures));
  assert.equal(joinHostErrors([["a", missing]]), missing);
  assert.equal(join(["a", unreachable], ["b", missing]), "RegistryError: tried a: connection refused; b: x: not found");
  assert.equal(join(["a", broken], ["b", missing]), "RegistryError: tried b: x: not found; a: 500");
  assert.equal(join(["a", missing], ["b", missing]), "RegistryError: tried b: x: not found; a: x: not found");
});

test("how long a server asks to be left alone", () => {
  const nowMs = Date.parse("2026-11-27T10:00:00Z");
  assert.equal(readRetryAfter("120", nowMs), 120_000);
  assert.equal(readRetryAfter("Fri, 27 Nov 2026 10:00:30 GMT", nowMs), 30_000);
  assert.equal(readRetryAfter("Fri, 27 Nov 2026 09:00:00 GMT", nowMs), 0);
  for (const nothing of [undefined, "", "soon", "-5", "1e9", "99999999999"]) {
    assert.equal(readRetryAfter(nothing, nowMs), undefined, String(nothing));
  }
});

test("URLs are told without what lets somebody in", () => {
  const url = new URL(
    "https://user:secret@h.example:8443/p/a?X-Amz-Signature=secret&ns=docker.io&scope=a:b&empty=#secret",
  );
  assert.equal(
    safeUrl(url),
    "https://h.example:8443/p/a?X-Amz-Signature=REDACTED&ns=docker.io&scope=a%3Ab&empty=REDACTED",
  );
});

test("warnings are told once, cut, without control characters, and not without end", () => {
  const told: string[] = [];
  const warnings = new Warnings((text) => told.push(text));
  warnings.take(['299 - "a \\"b\\" \u001b[31m"', '110 anderson "stale"', "299 - unquoted"]);
  warnings.take(['299 - "a \\"b\\" \u001b[31m"', '299 - "c", 299 - "d"']);
  assert.deepEqual(told, ['a "b"  [31m', "c", "d"]);
  warnings.take([`299 - "${"x".repeat(5000)}"`]);
  assert.equal(told.at(-1)?.length, 1024);
  warnings.take(Array.from({ length: 100 }, (_, index) => `299 - "${index}"`));
  assert.equal(told.length, 16);
});
