import assert from "node:assert/strict";
import test from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { FlotillaError } from "#base/errors.ts";
import { BootstrapResultSchema } from "#gen/containerd/runtime/bootstrap/v1/bootstrap_pb.ts";
import { formatEndpoint, parseStartReply } from "./bootstrap.ts";
import { dialectsOfVersion } from "./dialect.ts";

const addresses = fc.stringMatching(/^[a-z0-9/._-]{1,100}$/).map((path) => `unix:///${path}`);
const endpoints = fc.record(
  {
    version: fc.constantFrom(2, 3),
    address: addresses,
    protocol: fc.constantFrom("ttrpc", "grpc"),
  },
  { noNullPrototype: true },
);

test("an endpoint is read from each form in which a shim may give it", () => {
  fc.assert(
    fc.property(endpoints, (endpoint) => {
      const message = toBinary(BootstrapResultSchema, create(BootstrapResultSchema, endpoint));
      assert.deepEqual(parseStartReply(Buffer.from(message)), endpoint);
      assert.deepEqual(parseStartReply(Buffer.from(` ${formatEndpoint(endpoint)}\n`)), endpoint);
      assert.deepEqual(parseStartReply(Buffer.from(`${endpoint.address}\n`)), {
        version: 2,
        address: endpoint.address,
        protocol: "ttrpc",
      });
    }),
  );
});

test("any bytes give a plausible endpoint or one clear error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        const { version, address } = parseStartReply(Buffer.from(bytes));
        assert.ok(version <= 3 && /^[\x21-\x7e]+$/.test(address));
      } catch (error) {
        assert.ok(error instanceof FlotillaError);
        assert.match(error.message, /^(?:unsupported shim version|the shim did not say)/);
      }
    }),
  );
});

test("what a shim prints as its version decides what it reads", () => {
  const print = (version: string): string => `x:\n  Version:  ${version}\n  Revision: abc\n  Go version: go1.24\n\n`;
  const runc = "/usr/bin/containerd-shim-runc-v2";
  assert.deepEqual(dialectsOfVersion(runc, print("1.6.20~ds1")), ["options"]);
  assert.deepEqual(dialectsOfVersion(runc, print("v2.2.9")), ["options"]);
  assert.deepEqual(dialectsOfVersion(runc, print("v2.3.0")), ["bootstrap"]);
  assert.deepEqual(dialectsOfVersion(runc, print("3.0.0")), ["bootstrap"]);
  assert.deepEqual(dialectsOfVersion("/opt/containerd-shim-other-v1", print("3.2.0")), ["bootstrap", "options"]);
  assert.deepEqual(dialectsOfVersion(runc, "something else"), ["bootstrap", "options"]);
});
