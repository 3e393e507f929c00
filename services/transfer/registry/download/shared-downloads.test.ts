import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { RegistryError } from "../http/registry-error.ts";
import { SharedDownloads, type SharedRequest } from "./shared-downloads.ts";

const digest = digestOf("x");
const ignore = (): void => undefined;

/** A download that ends when the test says so. */
function makeDownload(origin = "r.example/a", signal = new AbortController().signal) {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let starts = 0;
  let tell: (offset: number) => void = ignore;
  const heard: number[] = [];
  const request: SharedRequest<string> = {
    digest,
    origin,
    signal,
    onOffset: (offset) => heard.push(offset),
    work: (onOffset) => {
      starts += 1;
      tell = onOffset;
      return promise;
    },
  };
  return { request, resolve, reject, heard, tell: (offset: number) => tell(offset), starts: () => starts };
}

test("one at a time: who waits hears how far it is, and does its own work when that is over", async () => {
  const downloads = new SharedDownloads();
  const [first, second, other] = [makeDownload(), makeDownload(), makeDownload()];
  const results = [downloads.run(first.request), downloads.run(second.request)];
  const elsewhere = downloads.run({ ...other.request, digest: digestOf("y") });
  first.tell(5);
  first.tell(9);
  await Promise.resolve();
  assert.deepEqual([first.starts(), second.starts(), other.starts()], [1, 0, 1]);
  assert.deepEqual(second.heard, [0, 5, 9]);
  first.resolve("first");
  second.resolve("second");
  other.resolve("other");
  assert.deepEqual(await Promise.all([...results, elsewhere]), ["first", "second", "other"]);
  assert.equal(second.starts(), 1);
  assert.equal(downloads.size, 0);
});

test("who gives up while waiting leaves the others alone", async () => {
  const downloads = new SharedDownloads();
  const controller = new AbortController();
  const [first, second] = [makeDownload(), makeDownload("r.example/a", controller.signal)];
  const leading = downloads.run(first.request);
  const waiting = downloads.run(second.request);
  controller.abort();
  await assert.rejects(waiting, { kind: ErrorKind.Canceled });
  first.tell(7);
  assert.deepEqual(second.heard, [0], "nothing more is told");
  first.resolve("first");
  assert.equal(await leading, "first");
  assert.equal(second.starts(), 0);
});

test("a failure of the registry is one for all who ask the same repository, any other is its own", async () => {
  const broken = new RegistryError(ErrorKind.Unknown, "broken", { isTransient: true });
  const refused = new RegistryError(ErrorKind.Unknown, "refused", { refusal: "status", status: 401 });
  const full = new FlotillaError(ErrorKind.ResourceExhausted, "disk full");
  const aborted = new AbortController();
  aborted.abort();
  for (const { error, origin, signal, isShared } of [
    { error: broken, origin: "r.example/a", isShared: true },
    { error: broken, origin: "r.example/b", isShared: false },
    { error: refused, origin: "r.example/a", isShared: false },
    { error: full, origin: "r.example/a", isShared: false },
    { error: broken, origin: "r.example/a", signal: aborted.signal, isShared: false },
  ]) {
    const downloads = new SharedDownloads();
    const [first, second] = [makeDownload("r.example/a", signal), makeDownload(origin)];
    const results = [downloads.run(first.request), downloads.run(second.request)];
    second.resolve("second");
    first.reject(error);
    const [led, followed] = await Promise.allSettled(results);
    assert.deepEqual(led, { status: "rejected", reason: error });
    assert.equal(followed?.status, isShared ? "rejected" : "fulfilled", `${error.message} for ${origin}`);
  }
});
