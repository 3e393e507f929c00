import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind } from "#base/errors.ts";
import { parseTcpAddress } from "./tcp-address.ts";

test("addresses are read as Go writes them", () => {
  assert.deepEqual(parseTcpAddress("127.0.0.1:8443"), { host: "127.0.0.1", port: 8443 });
  assert.deepEqual(parseTcpAddress("[::1]:0"), { host: "::1", port: 0 });
  assert.deepEqual(parseTcpAddress("localhost:80"), { host: "localhost", port: 80 });
  assert.deepEqual(parseTcpAddress(":1338"), { port: 1338 });
});

test("an address that is none is refused by name", () => {
  for (const address of ["127.0.0.1", "::1:80", "[::1]", "host:", "host:http", "host:65536", "unix:///run/x.sock"]) {
    assert.throws(() => parseTcpAddress(address), {
      kind: ErrorKind.InvalidArgument,
      message: new RegExp(`address "`),
    });
  }
});
