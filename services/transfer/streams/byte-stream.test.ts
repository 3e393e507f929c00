import assert from "node:assert/strict";
import test from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { DataSchema, WindowUpdateSchema } from "#gen/containerd/types/transfer/streaming_pb.ts";
import { EncodedResponse } from "#wire/handler.ts";
import { packMessage, unpackMessage } from "./any.ts";
import { ByteSender } from "./byte-stream.ts";
import type { OutgoingMessage, Stream } from "./stream.ts";

test("bytes go out in messages that read as containerd's, without being copied", async () => {
  const sent: OutgoingMessage[] = [];
  const windows = [packMessage(WindowUpdateSchema, { update: 65_536 })];
  const stream: Stream = {
    send: async (message) => void sent.push(message),
    receive: () => Promise.resolve(windows.shift()).then((window) => window ?? new Promise(() => undefined)),
    close: async () => undefined,
  };
  const bytes = Buffer.alloc(40_000, "0123456789");
  await new ByteSender(stream).write(bytes);
  const pieces = sent.map((message) => {
    assert.ok(message instanceof EncodedResponse);
    assert.equal(message.parts.at(-1)?.buffer, bytes.buffer, "the bytes themselves are sent");
    return unpackMessage(DataSchema, fromBinary(AnySchema, message.bytes)).data;
  });
  assert.deepEqual(
    pieces.map(({ length }) => length),
    [32_768, 7232],
  );
  assert.deepEqual(Buffer.concat(pieces), bytes);
});
