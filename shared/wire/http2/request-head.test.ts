import assert from "node:assert/strict";
import test from "node:test";
import { faultOfTrailers, readRequestHead } from "./request-head.ts";

const head = [":method", "POST", ":scheme", "http", ":path", "/a/b", "te", "trailers"];

test("a request tells what it asks for", () => {
  const { method, path, contentType, contentLength, fault } = readRequestHead({
    fields: [...head, "content-type", "a", "content-type", "b", "content-length", "12"],
  });
  assert.deepEqual([method, path, contentType, contentLength, fault], ["POST", "/a/b", "a", 12, undefined]);
});

test("fields that no request may have are faults", () => {
  const faults: Record<string, string[]> = {
    "no path": head.slice(0, 4),
    "an empty path": [...head.slice(0, 4), ":path", ""],
    "no method": head.slice(2),
    "no scheme": [...head.slice(0, 2), ...head.slice(4)],
    "a path twice": [...head.slice(0, 6), ":path", "/c"],
    "a pseudo-header behind others": [...head, ":authority", "x"],
    "a pseudo-header of responses": [":status", "200", ...head],
    "an unknown pseudo-header": [":protocol", "x", ...head],
    "a name in upper case": [...head, "X-A", "1"],
    "an empty name": [...head, "", "1"],
    "a name with a space": [...head, "x a", "1"],
    connection: [...head, "connection", "close"],
    "transfer-encoding": [...head, "transfer-encoding", "chunked"],
    te: [...head.slice(0, 6), "te", "gzip"],
    "a line break in a value": [...head, "x", "a\nb"],
    "a content-length that is no number": [...head, "content-length", "+1"],
  };
  for (const [what, fields] of Object.entries(faults)) {
    assert.notEqual(readRequestHead({ fields }).fault, undefined, what);
  }
});

test("trailers have no pseudo-headers", () => {
  assert.equal(faultOfTrailers({ fields: ["x", "1"] }), undefined);
  assert.notEqual(faultOfTrailers({ fields: [":path", "/"] }), undefined);
});
