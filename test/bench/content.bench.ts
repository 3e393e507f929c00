import { createHash, randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { execa } from "execa";
import { InfoRequestSchema, ReadContentRequestSchema } from "#gen/containerd/services/content/v1/content_pb.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { ctr, startBoth } from "./daemons.ts";
import { type LoadCall, startLoadClient } from "./load.ts";
import type { Bench } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const namespace = "bench";
const rounds = 5;
const durationMs = 1_500;
const warmUpMs = 500;
const smallBytes = 1024;
const largeBytes = 100 * 1024 * 1024;
const bytesPerMib = 1024 * 1024;

/** Bytes of blobs: one of 1 kB, as a client looks at a manifest, and one of 100 MiB, out and in. */
export const contentBench: Bench = {
  name: "content",
  async run() {
    await using directory = await makeTemporaryDirectory("bench-content");
    const small = await makeBlob(`${directory.path}/small`, smallBytes);
    const large = await makeBlob(`${directory.path}/large`, largeBytes);
    await using daemons = await startBoth();
    await using client = startLoadClient();
    for (const daemon of [daemons.flotilla, daemons.containerd]) {
      for (const blob of [small, large]) {
        await ingest(daemon.address, blob);
        await ctr(daemon, "-n", namespace, "content", "label", blob.digest, "containerd.io/gc.root=bench");
      }
    }
    const look = [
      call("Info", InfoRequestSchema, { digest: small.digest }),
      call("Read", ReadContentRequestSchema, { digest: small.digest }),
    ];
    const readLarge = [call("Read", ReadContentRequestSchema, { digest: large.digest })];
    const results = await interleave(rounds, async (side, round) => {
      const { address } = daemons[side];
      const job = { address, namespace, inFlight: 1, durationMs, warmUpMs };
      const small = await client.run({ ...job, calls: look });
      const first = await client.run({ ...job, calls: look, connectsEachTime: true });
      const read = await client.run({ ...job, calls: readLarge });
      const fresh = await makeBlob(`${directory.path}/${side}-${round}`, largeBytes);
      await execa("sync");
      const startedMs = performance.now();
      await ingest(address, fresh);
      const writeMs = performance.now() - startedMs;
      await ctr(daemons[side], "-n", namespace, "content", "rm", fresh.digest);
      return {
        smallMs: small.medianMs,
        firstMs: first.medianMs,
        readRate: read.receivedBytes / bytesPerMib / (read.elapsedMs / 1000),
        writeRate: largeBytes / bytesPerMib / (writeMs / 1000),
      };
    });
    return [
      {
        what: "Info + Read of a blob of 1 kB",
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 1.5 },
        samples: results.smallMs,
      },
      {
        what: "Info + Read of a blob of 1 kB, first on a new connection",
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 2 },
        samples: results.firstMs,
      },
      {
        what: "blob of 100 MiB read",
        unit: "MiB/s",
        better: "higher",
        target: { kind: "ratio", bound: 0.9 },
        samples: results.readRate,
      },
      {
        what: "blob of 100 MiB written by `ctr content ingest`",
        unit: "MiB/s",
        better: "higher",
        target: { kind: "ratio", bound: 0.95 },
        samples: results.writeRate,
      },
    ];
  },
};

interface Blob {
  readonly path: string;
  readonly digest: string;
}

/** A file of random bytes, so that nothing on the way can know it. */
async function makeBlob(path: string, sizeBytes: number): Promise<Blob> {
  const bytes = randomBytes(sizeBytes);
  await writeFile(path, bytes);
  return { path, digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}` };
}

async function ingest(address: string, { path, digest }: Blob): Promise<void> {
  const args = ["-a", address, "-n", namespace, "content", "ingest", "--expected-digest", digest, `bench-${digest}`];
  await execa("ctr", args, { inputFile: path, stdout: "ignore" });
}

function call<I extends DescMessage>(method: string, schema: I, request: MessageInitShape<I>): LoadCall {
  return {
    path: `/containerd.services.content.v1.Content/${method}`,
    messageBase64: Buffer.from(toBinary(schema, create(schema, request))).toString("base64"),
  };
}
