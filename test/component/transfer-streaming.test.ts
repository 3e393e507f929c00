import assert from "node:assert/strict";
import test from "node:test";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Streaming } from "#gen/containerd/services/streaming/v1/streaming_pb.ts";
import { until } from "../kit/processes.ts";
import { ClientStream, type Packed, pack } from "../kit/stream-client.ts";
import { TransferProcess } from "./transfer-process.ts";

const namespace = "streams";

test("an id is taken while its stream is open, in its namespace alone", async (context) => {
  const { transport } = await TransferProcess.start(context);
  const first = await ClientStream.open(transport, "one", { namespace });
  await assert.rejects(
    ClientStream.open(transport, "one", { namespace }),
    (error) => isFailure(error, ErrorKind.Unknown) && error.message === "already exists",
  );
  const elsewhere = await ClientStream.open(transport, "one", { namespace: "elsewhere" });
  const nowhere = await ClientStream.open(transport, "one");
  first.closeSend();
  await assert.rejects(
    ClientStream.open(transport, "one", { namespace }),
    "a client that sends no more still receives",
  );
  first.cancel();
  await reopened(transport, "one");
  elsewhere.cancel();
  nowhere.cancel();
});

test("what a stream begins with has to say its id", async (context) => {
  const { transport } = await TransferProcess.start(context);
  const begin = async (...messages: Packed[]): Promise<unknown> => {
    const answers = createClient(Streaming, transport).stream(
      (async function* () {
        yield* messages;
      })(),
    );
    return await answers[Symbol.asyncIterator]().next();
  };
  await assert.rejects(
    begin(pack(EmptySchema, {})),
    (error) =>
      isFailure(error, ErrorKind.Unknown) &&
      error.message ===
        'can\'t unmarshal type "google.protobuf.Empty" to output "containerd.services.streaming.v1.StreamInit"',
  );
  await assert.rejects(
    begin({ typeUrl: "containerd.services.streaming.v1.StreamInit", value: new Uint8Array([10]) }),
    (error) => isFailure(error, ErrorKind.Unknown) && error.message.includes("cannot parse invalid wire-format data"),
  );
  await assert.rejects(begin(), (error) => isFailure(error, ErrorKind.InvalidArgument));
  await assert.rejects(ClientStream.open(transport, "x".repeat(1025)), (error) =>
    isFailure(error, ErrorKind.InvalidArgument),
  );
});

test("a stream of a lease is closed when the lease goes, and no other", async (context) => {
  const daemon = await TransferProcess.start(context);
  daemon.leases.add("kept").add("dropped");
  const kept = await ClientStream.open(daemon.transport, "kept", { namespace, lease: "kept" });
  const dropped = await ClientStream.open(daemon.transport, "dropped", { namespace, lease: "dropped" });
  const unleased = await ClientStream.open(daemon.transport, "unleased", { namespace });
  daemon.leases.delete("dropped");
  assert.equal(await dropped.receive(), undefined, "closed without an error");
  await reopened(daemon.transport, "dropped");
  await assert.rejects(ClientStream.open(daemon.transport, "kept", { namespace }));
  await assert.rejects(ClientStream.open(daemon.transport, "unleased", { namespace }));
  kept.cancel();
  unleased.cancel();
});

/** Waits until an id is free again. */
async function reopened(transport: TransferProcess["transport"], id: string): Promise<void> {
  await until(
    async () => {
      try {
        (await ClientStream.open(transport, id, { namespace })).cancel();
        return true;
      } catch {
        return false;
      }
    },
    () => `${id} is still taken`,
    10_000,
  );
}
