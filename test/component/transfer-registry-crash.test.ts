import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { splitDigest } from "#containerd/digest.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { connectRpc } from "#wire/client.ts";
import type { Descriptor, DownloadOutcome } from "../../services/transfer/registry/ports.ts";
import { defaultRegistriesSettings, Registries } from "../../services/transfer/registry/registry.ts";
import { ContentPeers, TransferContent } from "../../services/transfer/store/content.ts";
import { compiledCode } from "../kit/compiled-code.ts";
import { HostileRegistry } from "../kit/hostile-registry.ts";
import { until } from "../kit/processes.ts";
import { ContentProcess } from "./content-process.ts";

const sizeBytes = 24 * 1024 * 1024;
const signal = AbortSignal.timeout(120_000);

interface Stand extends AsyncDisposable {
  readonly server: HostileRegistry;
  readonly content: ContentProcess;
  readonly store: TransferContent;
  readonly layer: Descriptor;
  /** How far the ingest is. */
  offset(): Promise<number>;
  download(): Promise<DownloadOutcome>;
}

/** A registry that takes its time, a real content process, and us between them. */
async function stand(): Promise<Stand> {
  const content = await ContentProcess.start();
  const server = await HostileRegistry.start();
  server.pace = { pieceBytes: 128 * 1024, pauseMs: 5 };
  // Not the harness's own connection, which does not outlive the process.
  const connection = connectRpc(privateSocketOf(`${content.directory}/state`, "content"));
  const peers = new ContentPeers({ content: connection, metadata: connection });
  const store = new TransferContent(peers, { namespace: "test", lease: "" });
  const layer = server.add(randomBytes(sizeBytes), "application/vnd.oci.image.layer.v1.tar");
  return {
    server,
    content,
    store,
    layer,
    offset: async () => (await store.findIngestOffset(`layer-${layer.digest}`, signal)) ?? 0,
    async download() {
      await using registry = await new Registries(defaultRegistriesSettings, "containerd/test").open({
        reference: `${server.host}/a/b:v1`,
        hostDirectories: [],
        defaultScheme: "http",
        headers: {},
      });
      return await registry.download(layer, { content: store, labels: {}, signal });
    },
    async [Symbol.asyncDispose]() {
      connection.close();
      await content.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function checkBlob({ content, server, layer }: Stand): Promise<void> {
  const file = await readFile(`${content.root}/blobs/sha256/${splitDigest(layer.digest).encoded}`);
  assert.ok(file.equals(server.stored.get(layer.digest)?.bytes ?? Buffer.alloc(0)));
}

test("kill -9 of the content process: the download goes on where the ingest has come to", async () => {
  await using s = await stand();
  const downloading = s.download();
  const early = downloading.catch((error: unknown) => error);
  await until(
    async () => (await s.offset()) > sizeBytes / 4,
    () => "a quarter of it is there",
    30_000,
  );
  await s.content.kill();
  await s.content.restart();
  const outcome = await early;
  assert.equal(outcome, "fetched");
  await checkBlob(s);
  const [, start = "0"] = / bytes=(\d+)-$/.exec(s.server.requests.at(-1) ?? "") ?? [];
  assert.ok(Number(start) > sizeBytes / 4, s.server.requests.join("\n"));
});

test("kill -9 of the downloading process: the next one goes on where the ingest has come to", async () => {
  await using s = await stand();
  const program = fileURLToPath(new URL("transfer-download.ts", import.meta.url));
  const facts = JSON.stringify({
    state: `${s.content.directory}/state`,
    reference: `${s.server.host}/a/b:v1`,
    layer: s.layer,
  });
  const child = spawn(process.execPath, [program, facts], {
    env: { ...process.env, ...compiledCode },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = once(child, "exit");
  try {
    await until(
      async () => (await s.offset()) > sizeBytes / 4,
      () => "a quarter of it is there",
      30_000,
    );
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
  assert.equal(await s.download(), "fetched");
  await checkBlob(s);
  const [, start = "0"] = / bytes=(\d+)-$/.exec(s.server.requests.at(-1) ?? "") ?? [];
  assert.ok(Number(start) > sizeBytes / 4, s.server.requests.join("\n"));
});
