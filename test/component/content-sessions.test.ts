import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { ErrorKind } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import { wallClock } from "#base/times.ts";
import { digestOf } from "#containerd/digest.ts";
import { connectRpc } from "#wire/client.ts";
import { serveRpc } from "#wire/server.ts";
import type { WriterParts } from "../../services/content/domain/ingest-writer.ts";
import { OpenIngests } from "../../services/content/domain/open-ingests.ts";
import {
  runWriteSession,
  type WriteMessage,
  type WriteReply,
  writeAction,
} from "../../services/content/domain/write-session.ts";
import { BlobDirectories } from "../../services/content/files/blob-directories.ts";
import { ensureDirectory } from "../../services/content/files/directory.ts";
import { IngestDirectories } from "../../services/content/files/ingest-files.ts";
import { ContentLayout } from "../../services/content/files/layout.ts";
import { connectBlobIndex } from "../../services/content/index-client.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { MemoryBlobIndex } from "./content-index.ts";

const resources = new AsyncDisposableStack();
const index = new MemoryBlobIndex();
let parts: WriterParts;

before(async () => {
  const { path } = resources.use(await makeTemporaryDirectory("sessions"));
  const socketPath = `${path}/metadata.sock`;
  const server = await serveRpc({ socketPath, services: [index.binding()] });
  resources.defer(() => server.close(0));
  const connection = resources.adopt(connectRpc(socketPath), (opened) => opened.close());
  const layout = new ContentLayout(`${path}/content`);
  await ensureDirectory(layout.blobs, 0o755);
  await ensureDirectory(layout.ingests, 0o755);
  parts = {
    index: connectBlobIndex(connection),
    ingests: new IngestDirectories(layout, wallClock),
    blobs: new BlobDirectories(layout),
    digestLocks: new KeyedLock(),
    openIngests: new OpenIngests(wallClock),
    clock: wallClock,
  };
});

after(() => resources.disposeAsync());

/** One session, driven message by message. */
class Session {
  readonly #replies: AsyncGenerator<WriteReply, void, undefined>;
  #next = Promise.withResolvers<WriteMessage | undefined>();
  #ref: string;

  constructor(ref: string, namespace: string) {
    this.#ref = ref;
    const origin = { namespace, lease: "", signal: new AbortController().signal };
    this.#replies = runWriteSession(parts, origin, this.#messages());
  }

  async send(message: Partial<WriteMessage>): Promise<WriteReply> {
    const reply = this.#replies.next();
    this.#next.resolve({
      action: writeAction.stat,
      ref: this.#ref,
      total: 0n,
      expected: "",
      offset: 0n,
      data: new Uint8Array(),
      labels: {},
      ...message,
    });
    const { value } = await reply;
    assert.ok(value !== undefined, "there is an answer");
    return value;
  }

  async break(): Promise<void> {
    await this.#replies.return();
  }

  async *#messages(): AsyncGenerator<WriteMessage, void, undefined> {
    for (;;) {
      const message = await this.#next.promise;
      this.#next = Promise.withResolvers();
      if (message === undefined) {
        return;
      }
      yield message;
    }
  }
}

type Step =
  | { readonly kind: "write" | "restart"; readonly data: Uint8Array }
  | { readonly kind: "stat" | "break" | "wrong offset" | "wrong size" | "wrong digest" };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const), data: fc.uint8Array({ maxLength: 300 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("restart" as const), data: fc.uint8Array({ maxLength: 300 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        "stat" as const,
        "break" as const,
        "wrong offset" as const,
        "wrong size" as const,
        "wrong digest" as const,
      ),
    }),
  },
);

let runs = 0;

test("whatever happens on the way, the blob has the bytes that were acknowledged", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      runs += 1;
      const namespace = `property-${runs}`;
      let model = Buffer.alloc(0);
      let session = new Session("ref", namespace);
      const reopen = async (): Promise<void> => {
        await session.break();
        session = new Session("ref", namespace);
        const { offset, digest } = await session.send({});
        assert.equal(offset, BigInt(model.length));
        assert.equal(digest, digestOf(model));
      };
      await session.send({});
      for (const { kind, ...rest } of steps) {
        const data = "data" in rest ? Buffer.from(rest.data) : Buffer.alloc(0);
        const end = BigInt(model.length);
        switch (kind) {
          case "write":
          case "restart": {
            const offset = kind === "write" ? end : 0n;
            model = kind === "write" ? Buffer.concat([model, data]) : data;
            const reply = await session.send({ action: writeAction.write, offset, data });
            assert.equal(reply.offset, BigInt(model.length));
            assert.equal(reply.digest, digestOf(model));
            break;
          }
          case "stat": {
            const reply = await session.send({});
            assert.equal(reply.offset, end);
            assert.equal(reply.digest, digestOf(model));
            break;
          }
          case "break":
            await reopen();
            break;
          case "wrong offset":
            await assert.rejects(
              session.send({ action: writeAction.write, offset: end + 1n, data: Buffer.from("x") }),
              {
                kind: ErrorKind.OutOfRange,
              },
            );
            await reopen();
            break;
          case "wrong size":
            await assert.rejects(session.send({ action: writeAction.commit, offset: end, total: end + 1n }), {
              kind: ErrorKind.FailedPrecondition,
            });
            await reopen();
            break;
          case "wrong digest": {
            const expected = digestOf(randomBytes(8));
            await assert.rejects(session.send({ action: writeAction.commit, offset: end, expected }), {
              kind: ErrorKind.FailedPrecondition,
            });
            await reopen();
            break;
          }
        }
      }
      const expected = digestOf(model);
      const size = BigInt(model.length);
      await session.send({ action: writeAction.commit, offset: size, expected, total: size });
      await session.break();
      assert.equal(index.blobs.get(namespace)?.get(expected), size);
      assert.equal(await parts.blobs.findSizeBytes(expected), size);
      const reader = await parts.blobs.open(expected);
      const found = Buffer.alloc(model.length);
      await reader.read([found], 0n);
      await reader.close();
      assert.ok(found.equals(model));
      assert.deepEqual(await parts.ingests.list(), []);
    }),
    { numRuns: 60 },
  );
});
