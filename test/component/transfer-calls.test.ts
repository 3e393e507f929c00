import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import { type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Transfer } from "#gen/containerd/services/transfer/v1/transfer_pb.ts";
import { ImageStoreSchema } from "#gen/containerd/types/transfer/imagestore_pb.ts";
import { ImageExportStreamSchema, ImageImportStreamSchema } from "#gen/containerd/types/transfer/importexport_pb.ts";
import { ProgressSchema } from "#gen/containerd/types/transfer/progress_pb.ts";
import { OCIRegistrySchema } from "#gen/containerd/types/transfer/registry_pb.ts";
import { DataSchema, WindowUpdateSchema } from "#gen/containerd/types/transfer/streaming_pb.ts";
import { ReadStreamSchema } from "#gen/containerd/types/transfer/transfer_pb.ts";
import { Transfers } from "#gen/flotilla/transfers/v1/transfers_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { until } from "../kit/processes.ts";
import { ClientStream, type Packed, pack, unpack } from "../kit/stream-client.ts";
import { TransferProcess } from "./transfer-process.ts";

const namespace = "calls";

const store = end(ImageStoreSchema, { name: "a" });
const registry = end(OCIRegistrySchema, { reference: "localhost:1/a:b" });

test("bytes that are imported to an export come back as they are, in pieces of 32 KiB, no faster than they are taken", async (context) => {
  const { transport } = await TransferProcess.start(context);
  const sent = randomBytes(3 * 1024 * 1024 + 17);
  const [source, destination] = [await open(transport, "in"), await open(transport, "out")];
  const done = transfer(
    transport,
    end(ImageImportStreamSchema, { stream: "in" }),
    end(ImageExportStreamSchema, { stream: "out" }),
  );
  const sending = source.sendBytes([sent]);
  const received: Uint8Array[] = [];
  for await (const piece of destination.receiveBytes()) {
    assert.ok(piece.length <= 32 * 1024);
    received.push(piece);
  }
  await done;
  assert.ok(Buffer.concat(received).equals(sent));
  assert.ok((await sending) <= 512 * 1024, "the window stays small");
});

test("a sender waits for a receiver that asks for nothing", async (context) => {
  const { transport } = await TransferProcess.start(context);
  const [source, destination] = [await open(transport, "in"), await open(transport, "out")];
  const done = transfer(
    transport,
    end(ImageImportStreamSchema, { stream: "in" }),
    end(ImageExportStreamSchema, { stream: "out" }),
  );
  const sending = source.sendBytes([Buffer.alloc(2 * 1024 * 1024)]);
  destination.send(pack(WindowUpdateSchema, { update: 100 }));
  const first = await destination.receive();
  assert.equal(first === undefined ? 0 : unpack(DataSchema, first).data.length, 100);
  destination.cancel();
  await assert.rejects(done, (error) => isFailure(error, ErrorKind.Canceled, ErrorKind.Unavailable));
  await sending;
});

test("a transfer that is given up does not wait for the streams that its client leaves open", async (context) => {
  const { transport } = await TransferProcess.start(context);
  const administration = createClient(Transfers, transport);
  const source = end(ImageImportStreamSchema, { stream: "in" });
  const destination = end(ImageExportStreamSchema, { stream: "out" });
  for (const giveUp of ["client", "administrator"]) {
    const streams = [await open(transport, "in"), await open(transport, "out")];
    const client = new AbortController();
    const done = createClient(Transfer, transport).transfer(
      { source, destination },
      { headers: clientHeaders(namespace), signal: client.signal },
    );
    const refused = assert.rejects(done, (error) => isFailure(error, ErrorKind.Canceled), giveUp);
    const listed = async () => (await administration.list({})).transfers;
    await until(
      async () => (await listed()).length === 1,
      () => "the transfer is not listed",
    );
    const [{ id, kind } = { id: 0n, kind: "" }] = await listed();
    assert.equal(kind, "echo");
    if (giveUp === "client") {
      client.abort();
    } else {
      await administration.cancel({ id });
    }
    await refused;
    await until(
      async () => (await listed()).length === 0,
      () => `the transfer goes on: ${giveUp}`,
    );
    await assert.rejects(administration.cancel({ id }), (error) => isFailure(error, ErrorKind.NotFound));
    streams.forEach((stream) => stream.cancel());
  }
});

test("what nothing can be transferred between is refused in containerd's words", async (context) => {
  const { transport } = await TransferProcess.start(context);
  const refused = (source: Packed, destination: Packed, message: string): Promise<void> =>
    assert.rejects(
      transfer(transport, source, destination),
      (error) => isFailure(error, ErrorKind.NotImplemented) && error.message === message,
    );
  await refused(
    registry,
    registry,
    "method Transfer not implemented for containerd.types.transfer.OCIRegistry to containerd.types.transfer.OCIRegistry",
  );
  await refused(
    store,
    end(ReadStreamSchema, { stream: "x" }),
    "method Transfer not implemented for containerd.types.transfer.ImageStore to containerd.types.transfer.ReadStream",
  );
  await refused(
    end(ProgressSchema, {}),
    store,
    "method Transfer not implemented for containerd.types.transfer.Progress to containerd.types.transfer.ImageStore",
  );
  await assert.rejects(
    transfer(transport, { typeUrl: "no.such.Type", value: new Uint8Array() }, store),
    (error) => isFailure(error, ErrorKind.Unknown) && error.message === "type with url no.such.Type: not found",
  );
});

test("a stream that is not open is not found, and one that a transfer used is closed", async (context) => {
  const { transport } = await TransferProcess.start(context);
  const progress = await open(transport, "progress");
  await assert.rejects(
    transfer(transport, store, end(ImageExportStreamSchema, { stream: "no" }), "progress"),
    (error) => isFailure(error, ErrorKind.NotFound),
  );
  assert.equal(await progress.receive(), undefined);
  await assert.rejects(transfer(transport, store, store, "gone"), (error) => isFailure(error, ErrorKind.NotFound));
});

function end<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Packed {
  return pack(schema, message);
}

function open(transport: Transport, id: string): Promise<ClientStream> {
  return ClientStream.open(transport, id, { namespace });
}

async function transfer(transport: Transport, source: Packed, destination: Packed, progressStream = ""): Promise<void> {
  const call = { headers: clientHeaders(namespace) };
  await createClient(Transfer, transport).transfer({ source, destination, options: { progressStream } }, call);
}
