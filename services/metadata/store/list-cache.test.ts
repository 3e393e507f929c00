import assert from "node:assert/strict";
import test from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ListNamespacesResponseSchema,
  type Namespace,
  NamespaceSchema,
} from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { encodeRecords } from "#wire/encoded-records.ts";
import { ListCache } from "./list-cache.ts";

function record(name: string): Uint8Array {
  return toBinary(NamespaceSchema, create(NamespaceSchema, { name }));
}

function names(list: Uint8Array): string[] {
  return fromBinary(ListNamespacesResponseSchema, list).namespaces.map(({ name }: Namespace) => name);
}

test("encoded records make a message, whatever their size", () => {
  const sizes = [0, 1, 125, 126, 127, 128, 16_000, 16_384, 3_000_000];
  const texts = sizes.map((size) => "n".repeat(size));
  assert.deepEqual(names(encodeRecords(texts.map(record))), texts);
  assert.deepEqual(names(encodeRecords([])), []);
});

test("a list is read once until it changes", () => {
  const cache = new ListCache();
  let reads = 0;
  const load = (): Uint8Array[] => {
    reads += 1;
    return [record(`read ${reads}`)];
  };
  assert.deepEqual([names(cache.get("a", load)), names(cache.get("a", load))], [["read 1"], ["read 1"]]);
  assert.deepEqual(names(cache.get("b", load)), ["read 2"]);
  cache.drop("a");
  cache.drop("a");
  assert.deepEqual([names(cache.get("a", load)), names(cache.get("b", load))], [["read 3"], ["read 2"]]);
});

test("the cache keeps a bounded number of bytes", () => {
  const cache = new ListCache();
  const reads: string[] = [];
  const get = (namespace: string, sizeBytes: number): void => {
    cache.get(namespace, () => {
      reads.push(namespace);
      return [new Uint8Array(sizeBytes)];
    });
  };
  const tenMegabytes = 10 * 1024 * 1024;
  get("huge", 2 * tenMegabytes);
  get("huge", 2 * tenMegabytes);
  get("a", tenMegabytes);
  get("a", tenMegabytes);
  get("b", tenMegabytes);
  get("a", tenMegabytes);
  assert.deepEqual(reads, ["huge", "huge", "a", "b", "a"]);
});
