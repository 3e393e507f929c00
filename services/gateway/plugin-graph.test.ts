import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { PluginSchema } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { missingRequirements, sortPlugins } from "./plugin-graph.ts";

const plugin = (type: string, requires: string[] = [], message?: string) =>
  create(PluginSchema, {
    type,
    id: "x",
    requires,
    ...(message === undefined ? {} : { initErr: { code: 2, message } }),
  });

test("a plugin stands after the types that it requires, whatever order they came in", () => {
  const sorted = sortPlugins([plugin("server", ["grpc"]), plugin("grpc", ["store"]), plugin("store")]);
  assert.deepEqual(
    sorted.map(({ type }) => type),
    ["store", "grpc", "server"],
  );
});

test("a star requires every other type, and a cycle ends", () => {
  const sorted = sortPlugins([plugin("all", ["*"]), plugin("a", ["b"]), plugin("b", ["a"])]);
  assert.deepEqual(
    sorted.map(({ type }) => type),
    ["b", "a", "all"],
  );
});

test("required plugins that failed or are not there are told with their reason", () => {
  const plugins = [plugin("good"), plugin("bad", [], "no such device")];
  assert.deepEqual(missingRequirements(["good.x", "bad.x", "absent.x"], plugins), [
    "load required plugin bad.x: no such device",
    "required plugin [absent.x] not included",
  ]);
});
