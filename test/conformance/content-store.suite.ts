import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, isFailure } from "#base/errors.ts";
import { type Digest, digestOf } from "#containerd/digest.ts";
import { Content, WriteAction, type WriteContentResponse } from "#gen/containerd/services/content/v1/content_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type TestCaller, WriteCall } from "./write-call.ts";

/** A content store that is being tested, by the API that clients use. */
export interface ContentStore {
  readonly transport: Transport;
  close(): Promise<void>;
}

/** What a store is known to lack, so that an older containerd passes as well. */
export interface ContentStoreTraits {
  /** Whether a commit may expect a digest of another algorithm than the canonical one. containerd has that since 2.1. */
  readonly takesOtherAlgorithms: boolean;
}

const chunkBytes = 1024 * 1024;

/**
 * Tests that a content store answers Read, Write, Status, ListStatuses and Abort as containerd does. Namespaces share
 * blobs, and the store is used by this suite alone.
 */
export function contentStoreSuite(name: string, open: () => Promise<ContentStore>, traits: ContentStoreTraits): void {
  describe(`content store: ${name}`, () => {
    let store: ContentStore;
    let client: Client<typeof Content>;
    before(async () => {
      store = await open();
      client = createClient(Content, store.transport);
    });
    after(() => store.close());

    const begin = (caller: TestCaller): WriteCall => new WriteCall(client, caller);

    async function read(
      { namespace }: TestCaller,
      digest: string,
      range: { offset?: bigint; size?: bigint } = {},
    ): Promise<{ offsets: bigint[]; data: Buffer }> {
      const offsets: bigint[] = [];
      const parts: Uint8Array[] = [];
      for await (const { offset, data } of client.read({ digest, ...range }, { headers: clientHeaders(namespace) })) {
        offsets.push(offset);
        parts.push(data);
      }
      return { offsets, data: Buffer.concat(parts) };
    }

    async function put(caller: TestCaller, data: Uint8Array): Promise<Digest> {
      const digest = digestOf(data);
      const call = begin(caller);
      await call.stat({ ref: `put-${digest}`, total: BigInt(data.length), expected: digest });
      await call.commit({ data, expected: digest, total: BigInt(data.length) });
      await call.finish();
      return digest;
    }

    const statusOf = async ({ namespace }: TestCaller, ref: string) =>
      (await client.status({ ref }, { headers: clientHeaders(namespace) })).status;

    const refsOf = async ({ namespace }: TestCaller, ...filters: string[]) =>
      (await client.listStatuses({ filters }, { headers: clientHeaders(namespace) })).statuses
        .map(({ ref }) => ref)
        .sort();

    test("writers that know more or less in advance all end in a blob", async () => {
      const caller = newCaller();
      const blobs = [256, 256, 256, 256, 4 * chunkBytes + 17].map((sizeBytes) => randomBytes(sizeBytes));
      const calls = blobs.map((data, index) => {
        const call = begin(caller);
        const total = index % 2 === 1 || index === 4 ? BigInt(data.length) : 0n;
        const expected = index >= 2 ? digestOf(data) : "";
        return { call, opened: call.stat({ ref: `known-${index}`, total, expected }), data };
      });
      await Promise.all(calls.map(({ opened }) => opened));
      for (const { call, data } of calls) {
        const pieceBytes = data.length > 1000 ? chunkBytes : 32;
        for (let offset = 0; offset < data.length; offset += pieceBytes) {
          const answer = await call.write(data.subarray(offset, offset + pieceBytes), BigInt(offset));
          assert.equal(answer.offset, BigInt(Math.min(offset + pieceBytes, data.length)));
        }
        const answer = await call.commit({ offset: BigInt(data.length) });
        assert.equal(answer.digest, digestOf(data));
        assert.equal(answer.action, WriteAction.COMMIT);
        await call.finish();
        assert.deepEqual((await read(caller, digestOf(data))).data, data);
      }
      assert.deepEqual(await refsOf(caller), []);
    });

    test("an ingest is taken up where it stopped, with the digest so far", async () => {
      const caller = newCaller();
      const data = randomBytes(256);
      const facts = { ref: "resumed", total: 256n, expected: digestOf(data) };
      const startedMs = Date.now();
      const first = begin(caller);
      await first.stat(facts);
      await first.write(data.subarray(0, 128), 0n);
      const half = await first.stat({});
      assert.equal(half.digest, digestOf(data.subarray(0, 128)));
      await first.finish();

      const second = begin(caller);
      const resumed = await second.stat(facts);
      assert.equal(resumed.offset, 128n);
      assert.equal(resumed.total, 256n);
      assert.equal(resumed.digest, half.digest);
      assert.deepEqual(resumed.startedAt, half.startedAt);
      assert.ok(msOf(resumed.startedAt) >= startedMs - 1);
      assert.ok(msOf(resumed.updatedAt) >= msOf(resumed.startedAt));
      await second.write(data.subarray(128), 128n);
      const whole = await second.stat({});
      assert.equal(whole.digest, digestOf(data));
      await second.commit({ offset: 256n });
      await second.finish();
      assert.deepEqual((await read(caller, digestOf(data))).data, data);
    });

    test("a resumed ingest may go on, start over, or send what it has once more", async () => {
      const caller = newCaller();
      for (const sizeBytes of [500, 50_000]) {
        for (const share of [0, 0.1, 0.5, 1]) {
          for (const way of ["go on", "start over", "commit at once"] as const) {
            const data = randomBytes(sizeBytes);
            const limit = Math.floor(sizeBytes * share);
            const facts = { ref: `${way}-${sizeBytes}-${share}`, total: BigInt(sizeBytes), expected: digestOf(data) };
            const first = begin(caller);
            await first.stat(facts);
            await first.write(data.subarray(0, limit), 0n);
            await first.finish();

            const second = begin(caller);
            assert.equal((await second.stat(facts)).offset, BigInt(limit));
            const from = way === "start over" ? 0 : limit;
            if (way === "start over") {
              const answer = await second.write(data.subarray(0, 1), 0n);
              assert.equal(answer.offset, BigInt(Math.min(1, sizeBytes)));
              await second.write(data.subarray(1), 1n);
              await second.commit({ offset: BigInt(sizeBytes), expected: digestOf(data), total: facts.total });
            } else {
              const rest = { data: data.subarray(from), offset: BigInt(from) };
              await second.commit({ ...rest, expected: digestOf(data), total: facts.total });
            }
            await second.finish();
            assert.deepEqual((await read(caller, digestOf(data))).data, data, `${way} from ${limit} of ${sizeBytes}`);
          }
        }
      }
    });

    test("another total starts the ingest over", async () => {
      const caller = newCaller();
      const first = begin(caller);
      await first.stat({ ref: "grown", total: 100n });
      await first.write(randomBytes(50), 0n);
      await first.finish();
      assert.equal((await statusOf(caller, "grown"))?.total, 100n);
      const same = begin(caller);
      assert.equal((await same.stat({ ref: "grown", total: 100n })).offset, 50n);
      await same.finish();
      const unsaid = begin(caller);
      assert.equal((await unsaid.stat({ ref: "grown" })).offset, 50n);
      await unsaid.finish();
      const other = begin(caller);
      assert.equal((await other.stat({ ref: "grown", total: 200n })).offset, 0n);
      await other.finish();
    });

    test("the last answer comes twice, after a commit and after the end of the messages", async () => {
      const caller = newCaller();
      const call = begin(caller);
      await call.stat({ ref: "twice" });
      const written = await call.write(Buffer.from("abc"), 0n);
      assert.deepEqual(comparable(await call.finish()), comparable([written]));

      const committing = begin(caller);
      await committing.stat({ ref: "twice" });
      const committed = await committing.commit({ offset: 3n });
      assert.deepEqual(comparable(await committing.finish()), comparable([committed]));
    });

    test("fields that an answer does not set keep their value", async () => {
      const caller = newCaller();
      const call = begin(caller);
      const bare = await call.send({ action: WriteAction.WRITE, ref: "kept", data: Buffer.from("a") });
      assert.ok(bare.startedAt === undefined || bare.startedAt.seconds < 0n, "older releases send the year 1");
      assert.equal(bare.total, 0n);
      assert.equal(bare.digest, digestOf("a"));
      const stat = await call.stat({ total: 7n });
      assert.equal(stat.total, 7n);
      assert.notEqual(stat.startedAt, undefined);
      const written = await call.write(Buffer.from("b"), 1n);
      assert.equal(written.total, 7n);
      assert.deepEqual(written.startedAt, stat.startedAt);
      assert.equal(written.digest, digestOf("ab"));
      await call.finish();
    });

    test("a new ingest has the digest of nothing", async () => {
      const call = begin(newCaller());
      const answer = await call.stat({ ref: "empty" });
      assert.equal(answer.digest, digestOf(""));
      assert.equal(answer.offset, 0n);
      await call.finish();
    });

    test("an offset that is neither the end nor 0 is refused, and 0 throws the bytes away", async () => {
      const caller = newCaller();
      const call = begin(caller);
      await call.stat({ ref: "offsets" });
      await call.write(Buffer.from("abcdef"), 0n);
      await rejectsWith(
        () => call.write(Buffer.from("x"), 3n),
        ErrorKind.OutOfRange,
        "write @3 must occur at current offset 6",
      );
      const again = begin(caller);
      assert.equal((await again.stat({ ref: "offsets" })).offset, 6n);
      assert.equal((await again.write(Buffer.from("xy"), 0n)).offset, 2n);
      assert.equal((await again.write(Buffer.alloc(0), 2n)).offset, 2n);
      const emptied = await again.write(Buffer.alloc(0), 0n);
      assert.equal(emptied.offset, 0n);
      assert.equal(emptied.digest, digestOf(""));
      await again.finish();
    });

    test("the first message names the ingest", async () => {
      await rejectsWith(
        () => begin(newCaller()).stat({}),
        ErrorKind.InvalidArgument,
        "first message must have a reference",
      );
      const silent = begin(newCaller());
      await rejectsWith(() => silent.finish(), ErrorKind.Unknown, "EOF");
    });

    test("a call needs a namespace", async () => {
      for (const ask of [
        () => new WriteCall(client, { namespace: "" }).stat({ ref: "x" }),
        () => client.status({ ref: "x" }),
        () => client.listStatuses({}),
        () => client.abort({ ref: "x" }),
        () => read({ namespace: "" }, digestOf("x")),
      ]) {
        const error = await failureOf(ask);
        assert.equal(error.kind, ErrorKind.FailedPrecondition);
        assert.match(error.message, /namespace is required: failed precondition$/);
      }
    });

    test("one writer at a time has an ingest; a broken call lets go of it and keeps its bytes", async () => {
      const caller = newCaller();
      const holder = begin(caller);
      await holder.stat({ ref: "held" });
      await holder.write(Buffer.from("abc"), 0n);
      const refused = await failureOf(() => begin(caller).stat({ ref: "held" }));
      assert.equal(refused.kind, ErrorKind.Unavailable);
      assert.match(
        refused.message,
        /^ref \S+\/\d+\/held locked for [0-9.]+(ns|µs|ms|s) \(since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*\): unavailable$/,
      );
      holder.cancel();
      const next = await openWhenFree(() => begin(caller), { ref: "held" });
      assert.equal(next.answer.offset, 3n);
      await next.call.finish();
      const last = begin(caller);
      assert.equal((await last.stat({ ref: "held" })).offset, 3n);
      await last.finish();
    });

    test("what is wrong at a commit leaves the ingest for another try", async () => {
      const caller = newCaller();
      const data = randomBytes(300);
      const ref = "tried-again";
      const first = begin(caller);
      await first.stat({ ref });
      await first.write(data, 0n);
      await rejectsWith(
        () => first.commit({ offset: 300n, total: 299n }),
        ErrorKind.FailedPrecondition,
        `"${ref}" failed size validation: 300 != 299: failed precondition`,
      );
      const second = begin(caller);
      assert.equal((await second.stat({ ref })).offset, 300n);
      const wrong = digestOf("something else");
      await rejectsWith(
        () => second.commit({ offset: 300n, expected: wrong }),
        ErrorKind.FailedPrecondition,
        `unexpected commit digest ${digestOf(data)}, expected ${wrong}: failed precondition`,
      );
      const third = begin(caller);
      assert.equal((await third.stat({ ref })).offset, 300n);
      await third.commit({ offset: 300n });
      await third.finish();
      assert.deepEqual((await read(caller, digestOf(data))).data, data);
    });

    test("labels that are too long fail the commit before anything is visible", async () => {
      const caller = newCaller();
      const data = randomBytes(10);
      const call = begin(caller);
      await call.stat({ ref: "labelled" });
      const error = await failureOf(() => call.commit({ data, labels: { key: "v".repeat(5000) } }));
      assert.equal(error.kind, ErrorKind.InvalidArgument);
      assert.match(
        error.message,
        /^info\.Labels: label key and value .*greater than maximum size \(4096 bytes\), key: key/,
      );
      await rejectsWith(() => read(caller, digestOf(data)), ErrorKind.NotFound);
      const again = begin(caller);
      assert.equal((await again.stat({ ref: "labelled" })).offset, 10n);
      await again.commit({ offset: 10n, labels: { key: "value" } });
      await again.finish();
    });

    test("a blob that is there already ends every further ingest of it", async () => {
      const caller = newCaller();
      const data = randomBytes(256);
      const digest = await put(caller, data);
      await rejectsWith(
        () => begin(caller).stat({ ref: "known", expected: digest }),
        ErrorKind.AlreadyExists,
        `content ${digest}: already exists`,
      );
      const later = begin(caller);
      await later.stat({ ref: "told-later" });
      await rejectsWith(
        () => later.stat({ expected: digest }),
        ErrorKind.AlreadyExists,
        `blob with expected digest ${digest} exists`,
      );
      const told = begin(caller);
      await told.stat({ ref: "told-at-commit" });
      await told.write(data, 0n);
      await rejectsWith(
        () => told.commit({ offset: 256n, expected: digest }),
        ErrorKind.AlreadyExists,
        `blob with expected digest ${digest} exists`,
      );
      const wrong = begin(caller);
      await wrong.stat({ ref: "wrong-bytes" });
      await rejectsWith(
        () => wrong.commit({ data: Buffer.from("x"), expected: digest }),
        ErrorKind.AlreadyExists,
        `blob with expected digest ${digest} exists`,
      );
      const untold = begin(caller);
      await untold.stat({ ref: "never-told" });
      await untold.write(data, 0n);
      await rejectsWith(
        () => untold.commit({ offset: 256n }),
        ErrorKind.AlreadyExists,
        `content ${digest}: already exists`,
      );
      assert.deepEqual(await refsOf(caller), []);
      assert.deepEqual((await read(caller, digest)).data, data);
    });

    test("another namespace gets a blob without sending it", async () => {
      const [owner, other] = [newCaller(), newCaller()];
      const data = randomBytes(1000);
      const digest = await put(owner, data);
      await rejectsWith(() => read(other, digest), ErrorKind.NotFound, `content digest ${digest}: not found`);
      const call = begin(other);
      const answer = await call.stat({ ref: "shared", total: 1000n, expected: digest });
      assert.equal(answer.offset, 1000n);
      assert.equal(answer.total, 1000n);
      assert.equal(answer.digest, digest);
      const committed = await call.commit({ offset: 1000n, total: 1000n, expected: digest });
      assert.equal(committed.offset, 1000n);
      await call.finish();
      assert.deepEqual((await read(other, digest)).data, data);
      assert.deepEqual((await read(owner, digest)).data, data);
    });

    test("a shared blob is not offered for another size, and may be demanded with none", async () => {
      const [owner, other] = [newCaller(), newCaller()];
      const digest = await put(owner, randomBytes(1000));
      const wrong = begin(other);
      assert.equal((await wrong.stat({ ref: "other-size", total: 999n, expected: digest })).offset, 0n);
      await wrong.finish();
      const open = begin(other);
      assert.equal((await open.stat({ ref: "any-size", expected: digest })).offset, 1000n);
      await rejectsWith(
        () => open.commit({ offset: 1000n, total: 1n }),
        ErrorKind.FailedPrecondition,
        `"any-size" failed size validation: 1000 != 1: failed precondition`,
      );
      const digestWrong = begin(other);
      await digestWrong.stat({ ref: "any-digest", expected: digest });
      await rejectsWith(
        () => digestWrong.commit({ offset: 1000n, expected: digestOf("no") }),
        ErrorKind.FailedPrecondition,
        `"any-digest" unexpected digest: failed precondition`,
      );
    });

    test("bytes written behind a shared blob make another blob", async () => {
      const [owner, other] = [newCaller(), newCaller()];
      const data = randomBytes(chunkBytes + 5);
      const whole = Buffer.concat([data, Buffer.from("appended")]);
      const digest = await put(owner, data);
      const call = begin(other);
      const answer = await call.stat({ ref: "appended", total: BigInt(data.length), expected: digest });
      const written = await call.write(Buffer.from("appended"), answer.offset);
      assert.equal(written.offset, BigInt(whole.length));
      assert.equal(written.digest, digestOf(whole));
      const size = BigInt(whole.length);
      await call.commit({ offset: size, total: size, expected: digestOf(whole) });
      await call.finish();
      assert.deepEqual((await read(other, digestOf(whole))).data, whole);
      assert.deepEqual((await read(owner, digest)).data, data);
      await rejectsWith(() => read(other, digest), ErrorKind.NotFound);
    });

    test("a shared blob may be started over", async () => {
      const [owner, other] = [newCaller(), newCaller()];
      const digest = await put(owner, randomBytes(1000));
      const call = begin(other);
      assert.equal((await call.stat({ ref: "over", expected: digest })).offset, 1000n);
      const written = await call.write(Buffer.from("new"), 0n);
      assert.equal(written.offset, 3n);
      assert.equal(written.digest, digestOf("new"));
      await call.finish();
    });

    test("reads are cut into chunks of up to 1 MiB that count from the start of the read", async () => {
      const caller = newCaller();
      const data = randomBytes(2 * chunkBytes + 100);
      const digest = await put(caller, data);
      const whole = await read(caller, digest);
      assert.deepEqual(whole.data, data);
      assert.deepEqual(whole.offsets, [0n, BigInt(chunkBytes), BigInt(2 * chunkBytes)]);
      const part = await read(caller, digest, { offset: 50n, size: BigInt(chunkBytes + 1) });
      assert.deepEqual(part.offsets, [0n, BigInt(chunkBytes)]);
      assert.deepEqual(part.data, data.subarray(50, 50 + chunkBytes + 1));
    });

    test("a read that asks for too much gets what there is", async () => {
      const caller = newCaller();
      const data = Buffer.from("foobar");
      const digest = await put(caller, data);
      assert.equal((await read(caller, digest, { size: 7n })).data.toString(), "foobar");
      assert.equal((await read(caller, digest, { offset: 3n, size: 100n })).data.toString(), "bar");
      assert.equal((await read(caller, digest, { offset: 1n, size: 2n })).data.toString(), "oo");
      assert.equal((await read(caller, digest, { offset: -5n, size: -1n })).data.toString(), "foobar");
      assert.deepEqual((await read(caller, digest, { offset: 6n })).offsets, []);
      await rejectsWith(
        () => read(caller, digest, { offset: 7n }),
        ErrorKind.OutOfRange,
        "read past object length 6 bytes",
      );
    });

    test("an empty blob is read without a message", async () => {
      const caller = newCaller();
      const call = begin(caller);
      await call.stat({ ref: "nothing" });
      await call.commit({});
      await call.finish();
      assert.deepEqual((await read(caller, digestOf(""))).offsets, []);
    });

    test("a read needs a digest", async () => {
      const caller = newCaller();
      for (const [digest, fault] of [
        ["", "invalid checksum digest format"],
        ["sha256:abc", "invalid checksum digest length"],
        ["md5:d41d8cd98f00b204e9800998ecf8427e", "unsupported digest algorithm"],
        ["../../../etc/passwd", "invalid checksum digest format"],
      ] as const) {
        await rejectsWith(() => read(caller, digest), ErrorKind.InvalidArgument, `${digest}: ${fault}`);
      }
    });

    test("statuses tell of the ingests of a namespace", async () => {
      const [caller, other] = [newCaller(), newCaller()];
      const call = begin(caller);
      await call.stat({ ref: "layer/one", total: 10n });
      await call.write(Buffer.from("abc"), 0n);
      const status = await statusOf(caller, "layer/one");
      assert.equal(status?.ref, "layer/one");
      assert.equal(status?.offset, 3n);
      assert.equal(status?.total, 10n);
      assert.equal(status?.expected, "");
      assert.ok(msOf(status?.updatedAt) >= msOf(status?.startedAt));
      await call.finish();
      const second = begin(caller);
      await second.stat({ ref: "config" });
      await second.finish();
      assert.deepEqual(await refsOf(caller), ["config", "layer/one"]);
      assert.deepEqual(await refsOf(caller, "ref==config"), ["config"]);
      assert.deepEqual(await refsOf(caller, "ref~=^layer/"), ["layer/one"]);
      assert.deepEqual(await refsOf(caller, "ref==config", "ref==layer/one"), ["config", "layer/one"]);
      assert.deepEqual(await refsOf(caller, "size==3"), []);
      assert.deepEqual(await refsOf(other), []);
      const bad = await failureOf(() => refsOf(caller, "ref=="));
      assert.equal(bad.kind, ErrorKind.InvalidArgument);
      await rejectsWith(
        () => statusOf(other, "config"),
        ErrorKind.NotFound,
        'could not get status for ref "config": reference config: not found',
      );
    });

    test("an aborted ingest is gone", async () => {
      const caller = newCaller();
      const headers = clientHeaders(caller.namespace);
      await rejectsWith(
        () => client.abort({ ref: "none" }, { headers }),
        ErrorKind.NotFound,
        "reference none: not found",
      );
      const call = begin(caller);
      await call.stat({ ref: "doomed" });
      await call.write(Buffer.from("abc"), 0n);
      await call.finish();
      await client.abort({ ref: "doomed" }, { headers });
      await rejectsWith(() => statusOf(caller, "doomed"), ErrorKind.NotFound);
      await rejectsWith(() => client.abort({ ref: "doomed" }, { headers }), ErrorKind.NotFound);
      const again = begin(caller);
      assert.equal((await again.stat({ ref: "doomed" })).offset, 0n);
      await again.finish();
    });

    test("an ingest that is aborted while it is written is gone once its writer has gone", async () => {
      const caller = newCaller();
      const call = begin(caller);
      await call.stat({ ref: "pulled-away" });
      await call.write(Buffer.from("abc"), 0n);
      await client.abort({ ref: "pulled-away" }, { headers: clientHeaders(caller.namespace) });
      assert.deepEqual(await refsOf(caller), []);
      call.cancel();
      const next = await openWhenFree(() => begin(caller), { ref: "pulled-away" });
      assert.equal(next.answer.offset, 0n);
      await next.call.finish();
    });

    test("any text may be a ref", async () => {
      const caller = newCaller();
      const refs = ["../../../../tmp/escape", "/", ".", "a\u0000b", " ", "ü\n\u{1f6a2}", "x".repeat(4000)];
      for (const ref of refs) {
        const call = begin(caller);
        await call.stat({ ref });
        await call.write(Buffer.from(ref), 0n);
        await call.finish();
        assert.equal((await statusOf(caller, ref))?.offset, BigInt(Buffer.byteLength(ref)));
      }
      assert.deepEqual(await refsOf(caller), refs.toSorted());
      for (const ref of refs) {
        const call = begin(caller);
        await call.stat({ ref });
        await call.commit({ offset: BigInt(Buffer.byteLength(ref)), expected: digestOf(ref) });
        await call.finish();
      }
    });

    test("actions that do not exist are answered", async () => {
      const caller = newCaller();
      const call = begin(caller);
      await call.stat({ ref: "odd" });
      const answer = await call.send({ action: 7 as WriteAction, data: Buffer.from("ignored") });
      assert.equal(answer.action, 7 as WriteAction);
      assert.equal(answer.offset, 0n);
      await call.finish();
    });

    test("a commit may expect a digest of another algorithm", { skip: skipUnless(traits) }, async () => {
      const caller = newCaller();
      const data = randomBytes(2 * chunkBytes + 3);
      const digest = `sha512:${createHash("sha512").update(data).digest("hex")}`;
      for (const [ref, early] of [
        ["told-at-open", digest],
        ["told-at-the-end", ""],
      ] as const) {
        const writer = newCaller();
        const call = begin(writer);
        const opened = await call.stat({ ref, expected: early });
        if (opened.offset === 0n) {
          await call.write(data, 0n);
        }
        const answer = await call.commit({ offset: BigInt(data.length), expected: digest });
        assert.equal(answer.digest, digest);
        await call.finish();
        assert.deepEqual((await read(writer, digest)).data, data);
      }
      await rejectsWith(() => read(caller, digest), ErrorKind.NotFound);
    });

    test("two ingests of the same bytes both end well", async () => {
      const [one, two] = [newCaller(), newCaller()];
      const data = randomBytes(5000);
      const calls = [one, two].map((caller) => begin(caller));
      for (const call of calls) {
        await call.stat({ ref: "race" });
        await call.write(data, 0n);
      }
      await Promise.all(calls.map((call) => call.commit({ offset: 5000n })));
      await Promise.all(calls.map((call) => call.finish()));
      assert.deepEqual((await read(one, digestOf(data))).data, data);
      assert.deepEqual((await read(two, digestOf(data))).data, data);
    });
  });
}

function skipUnless({ takesOtherAlgorithms }: ContentStoreTraits): string | false {
  return takesOtherAlgorithms ? false : "this release knows only one algorithm";
}

let callers = 0;

/** A namespace of its own for a test, so that tests do not see each other's ingests. */
function newCaller(): TestCaller {
  callers += 1;
  return { namespace: `suite-${process.pid}-${callers}` };
}

async function failureOf(work: () => Promise<unknown>): Promise<FlotillaError> {
  const outcome = await work().then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(isFailure(outcome), `${String(outcome)} is a failure of a known class`);
  return outcome;
}

async function rejectsWith(work: () => Promise<unknown>, kind: ErrorKind, message?: string): Promise<void> {
  const error = await failureOf(work);
  assert.equal(error.kind, kind, error.message);
  if (message !== undefined) {
    assert.equal(error.message, message);
  }
}

/** Opens an ingest as Go clients do, which try again while another writer has it. */
async function openWhenFree(
  begin: () => WriteCall,
  request: { readonly ref: string },
): Promise<{ call: WriteCall; answer: WriteContentResponse }> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const call = begin();
    try {
      return { call, answer: await call.stat(request) };
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable) || performance.now() > deadline) {
        throw error;
      }
      await delay(10);
    }
  }
}

function msOf(time: { readonly seconds: bigint; readonly nanos: number } | undefined): number {
  assert.ok(time !== undefined);
  return Number(time.seconds) * 1000 + time.nanos / 1e6;
}

function comparable(answers: readonly WriteContentResponse[]): unknown[] {
  return answers.map(({ action, offset, total, digest, startedAt, updatedAt }) => ({
    action,
    offset,
    total,
    digest,
    startedAt,
    updatedAt,
  }));
}
