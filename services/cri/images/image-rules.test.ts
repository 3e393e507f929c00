import assert from "node:assert/strict";
import test from "node:test";
import { digestOf } from "#containerd/digest.ts";
import { credentialsFor, type WrittenCredentials } from "./credentials.ts";
import { chainIdOf } from "./image-reader.ts";
import { ImageTable, type NamedImage } from "./image-table.ts";
import { imageUser, partReferences, sortReferences } from "./local-image.ts";
import { ProgressWatch } from "./progress-watch.ts";
import { namesAfterPull } from "./pull-image.ts";

const digest = (text: string): string => digestOf(text);

test("names of an image are tags and digests, and its id is neither", () => {
  const id = digest("id");
  const both = `docker.io/library/a:1@${digest("m")}`;
  assert.deepEqual(
    partReferences([id, "docker.io/library/a:1", `docker.io/library/a@${digest("m")}`, both, "not a name"]),
    {
      tags: ["docker.io/library/a:1"],
      digests: [`docker.io/library/a@${digest("m")}`, both],
    },
  );
  assert.deepEqual(
    sortReferences([
      "not a name",
      id,
      "b/c",
      `docker.io/b/c@${id}`,
      "docker.io/b/c:2",
      "docker.io/b/c:1",
      `docker.io/b/c:1@${id}`,
    ]),
    [`docker.io/b/c:1@${id}`, "docker.io/b/c:1", "docker.io/b/c:2", `docker.io/b/c@${id}`, "b/c", id, "not a name"],
  );
});

test("an image is known by its id, its tag and its digest after a pull", () => {
  const facts = { id: digest("id"), digest: digest("m") };
  assert.deepEqual(namesAfterPull("docker.io/library/a:1", facts), [
    facts.id,
    "docker.io/library/a:1",
    `docker.io/library/a@${facts.digest}`,
  ]);
  const pinned = `docker.io/library/a@${digest("m")}`;
  assert.deepEqual(namesAfterPull(pinned, facts), [facts.id, pinned]);
});

test("the user of an image is a number or a name", () => {
  assert.deepEqual(imageUser("1000:50"), { uid: 1000n, username: "" });
  assert.deepEqual(imageUser("web:web"), { uid: undefined, username: "web" });
  assert.deepEqual(imageUser(""), { uid: undefined, username: "" });
});

function named(id: string, reference: string, isPinned = false): NamedImage {
  const config = {
    user: "",
    env: [],
    entrypoint: [],
    cmd: [],
    workingDirectory: "",
    volumes: [],
    labels: {},
    stopSignal: "",
  };
  return { id, reference, chainId: "", sizeBytes: 1n, config, document: {}, isPinned };
}

test("an image is there as long as it has a name, and is pinned as long as a name pins it", () => {
  const table = new ImageTable();
  const [one, other] = [digest("one"), digest("other")];
  table.put(named(one, "a"));
  table.put(named(one, "b", true));
  assert.deepEqual(table.get(one).references, sortReferences(["a", "b"]));
  assert.equal(table.get(one).isPinned, true);
  table.put(named(one, "b"));
  assert.equal(table.get(one).isPinned, false);
  table.put(named(other, "b"));
  assert.deepEqual(table.get(one).references, ["a"]);
  assert.equal(table.idOf("b"), other);
  table.delete("a");
  table.delete("a");
  assert.throws(() => table.get(one), { message: "not found" });
  assert.deepEqual(
    table.all().map(({ id }) => id),
    [other],
  );
});

test("an id may be cut short, with and without its algorithm, as long as it means one image", () => {
  const table = new ImageTable();
  const ids = [`sha256:${"ab".repeat(32)}`, `sha256:${"ac".repeat(32)}`];
  for (const id of ids) {
    table.put(named(id, id));
  }
  assert.equal(table.get("sha256:ab").id, ids[0]);
  assert.equal(table.get("ac").id, ids[1]);
  assert.throws(() => table.get("a"), { message: "ambiguous digest string" });
  for (const missing of ["", "sha256:", "f", "sha512:ab"]) {
    assert.throws(() => table.get(missing), { message: "not found" }, missing);
  }
});

test("a chain of layers is named by all below it", () => {
  const [one, two] = [digest("1"), digest("2")];
  assert.equal(chainIdOf([]), "");
  assert.equal(chainIdOf([one]), one);
  assert.equal(chainIdOf([one, two]), digest(`${one} ${two}`));
});

const nobody: WrittenCredentials = { username: "", password: "", auth: "", serverAddress: "", identityToken: "" };

test("credentials are told to the host that they are for, in the order that containerd has", () => {
  const kinds = (written: Partial<WrittenCredentials>, host = "r:5000") =>
    credentialsFor({ ...nobody, ...written }, host);
  assert.deepEqual(credentialsFor(undefined, "r"), { kind: "none" });
  assert.deepEqual(kinds({}), { kind: "none" });
  const all = { username: "u", password: "p", identityToken: "t", auth: "dTI6cDI=", registryToken: "r" };
  assert.deepEqual(kinds(all), { kind: "password", username: "u", secret: "p" });
  assert.deepEqual(kinds({ ...all, username: "" }), { kind: "refresh", secret: "t" });
  assert.deepEqual(kinds({ ...all, username: "", identityToken: "" }), {
    kind: "password",
    username: "u2",
    secret: "p2",
  });
  assert.deepEqual(kinds({ registryToken: "r" }), { kind: "header", secret: "Bearer r" });
  assert.deepEqual(kinds({ username: "u", serverAddress: "https://r:5000/v1/" }).kind, "password");
  assert.deepEqual(kinds({ username: "u", serverAddress: "https://other/v1/" }).kind, "none");
  assert.throws(() => kinds({ auth: "bm8gY29sb24=" }), { message: "invalid decoded auth: it has no colon" });
  assert.throws(() => kinds({ auth: "%%" }), { message: "illegal base64 data in credentials" });
});

test("a pull stands still when bytes are to come and none do", () => {
  const watch = new ProgressWatch(100, 0);
  assert.equal(watch.hasStalled(500), false, "nothing is to come");
  watch.note({ event: "downloading", name: "l", progress: 1n, total: 10n }, 500);
  assert.equal(watch.hasStalled(600), false);
  watch.note({ event: "downloading", name: "l", progress: 1n, total: 10n }, 590);
  assert.equal(watch.hasStalled(601), true, "the same again is no progress");
  watch.note({ event: "downloading", name: "l", progress: 2n, total: 10n }, 601);
  assert.equal(watch.hasStalled(700), false);
  watch.note({ event: "complete", name: "l", progress: 10n, total: 10n }, 702);
  assert.equal(watch.hasStalled(5_000), false, "unpacking takes what it takes");
  watch.note({ event: "extracting", name: "l", progress: 1n, total: 10n }, 5_000);
  assert.equal(watch.hasStalled(9_000), false);
  assert.equal(new ProgressWatch(0, 0).hasStalled(1e9), false);
});
