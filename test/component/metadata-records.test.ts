import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorKind } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { RemovalMarkReader } from "#fleet/removal-mark.ts";
import { ContainerCreateSchema, ContainerUpdateSchema } from "#gen/containerd/events/container_pb.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { ImageCreateSchema, Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { BlobIndex } from "#gen/flotilla/index/v1/index_pb.ts";
import { invalid, notFound, refused, topics } from "./metadata-calls.ts";
import { inNamespace, MetadataProcess } from "./metadata-process.ts";

const ns = inNamespace("records");
const spec = { typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", value: Buffer.from('{ "a":1}') };
const runtime = { name: "io.containerd.runc.v2", options: { typeUrl: "x", value: Buffer.from([1]) } };
const longLabel = { key: "v".repeat(4094) };
const longLabelText =
  "label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: key: invalid argument";

test("namespaces", { timeout: 60_000 }, async (context: TestContext) => {
  const process = await MetadataProcess.start(context);
  const namespaces = process.client(Namespaces);

  await context.test("are made, listed, read", async () => {
    const { namespace } = await namespaces.create({ namespace: { name: "b", labels: { x: "1", empty: "" } } });
    assert.deepEqual(namespace?.labels, { x: "1", empty: "" });
    await namespaces.create({ namespace: { name: "a" } });
    const listed = (await namespaces.list({})).namespaces.map(({ name, labels }) => [name, labels]);
    assert.deepEqual(listed, [
      ["a", {}],
      ["b", { x: "1" }],
    ]);
    assert.deepEqual((await namespaces.get({ name: "b" })).namespace?.labels, { x: "1" });
  });

  await context.test("that do not exist are answered like empty ones", async () => {
    const { namespace } = await namespaces.get({ name: "nowhere" });
    assert.deepEqual([namespace?.name, namespace?.labels], ["nowhere", {}]);
  });

  await context.test("are refused with containerd's words", async () => {
    const name = "a";
    await refused(ErrorKind.AlreadyExists, 'namespace "a": already exists', namespaces.create({ namespace: { name } }));
    await invalid("identifier must not be empty: invalid argument", namespaces.create({}));
    await invalid(
      `namespace.Labels: ${longLabelText}`,
      namespaces.create({ namespace: { name: "c", labels: longLabel } }),
    );
    await invalid(
      'cannot update "labels" field',
      namespaces.update({ namespace: { name }, updateMask: { paths: ["labels"] } }),
    );
    await refused(
      ErrorKind.Unknown,
      `namespace.Labels: ${longLabelText}`,
      namespaces.update({ namespace: { name, labels: longLabel } }),
    );
    await refused(ErrorKind.Unknown, "incompatible value", namespaces.create({ namespace: { name: "version" } }));
    await notFound('namespace "nowhere": not found', namespaces.delete({ name: "nowhere" }));
  });

  await context.test("change by single labels or all at once", async () => {
    const labels = { x: "2", y: "3", z: "4" };
    const paths = ["labels.x", "labels.containerd.io/gone"];
    const changed = await namespaces.update({ namespace: { name: "b", labels }, updateMask: { paths } });
    assert.equal(changed.namespace, undefined);
    assert.deepEqual((await namespaces.get({ name: "b" })).namespace?.labels, { x: "2" });
    await namespaces.update({ namespace: { name: "b", labels: { y: "3" } } });
    assert.deepEqual((await namespaces.get({ name: "b" })).namespace?.labels, { y: "3" });
    await namespaces.update({ namespace: { name: "made", labels: { y: "3" } }, updateMask: { paths: ["labels.y"] } });
    assert.deepEqual((await namespaces.get({ name: "made" })).namespace?.labels, { y: "3" });
  });

  await context.test("are deleted when they are empty", async () => {
    const full = inNamespace("full");
    await process.client(Leases).create({ id: "l" }, full);
    await process.client(Store).create({ sandbox: { sandboxId: "s", runtime: { name: "r" } } }, full);
    await process.client(BlobIndex).openIngest({ namespace: "full", ref: "r" });
    await process.client(Containers).create({ container: { id: "c", runtime, spec } }, full);
    const digest = digestOf("blob");
    await process.client(Images).create({ image: { name: "i", target: { digest, size: 1n, mediaType: "m" } } }, full);
    await process.client(BlobIndex).recordBlob({ namespace: "full", ref: "other", digest, size: 1n });
    await refused(
      ErrorKind.FailedPrecondition,
      'namespace "full" must be empty, but it still has images, blobs, containers: failed precondition',
      namespaces.delete({ name: "full" }),
    );
    await process.client(Images).delete({ name: "i" }, full);
    await process.client(Containers).delete({ id: "c" }, full);
    await process.neighbours.until(() => process.neighbours.removedDigests.includes(digest));
    await namespaces.delete({ name: "full" });
    assert.equal(
      (await namespaces.list({})).namespaces.find(({ name }) => name === "full"),
      undefined,
    );
    assert.deepEqual((await process.client(Leases).list({}, full)).leases, []);
    await process.neighbours.until(() => process.neighbours.removedBackendRefs.length > 0);
  });

  await context.test("tell of what becomes of them in themselves", async () => {
    const told = (await topics(process, 5)).filter((topic) => topic.includes("/namespaces/"));
    assert.deepEqual(told.slice(0, 4), [
      "b /namespaces/create",
      "a /namespaces/create",
      "b /namespaces/update",
      "b /namespaces/update",
    ]);
  });
});

test("containers", { timeout: 60_000 }, async (context: TestContext) => {
  const process = await MetadataProcess.start(context);
  const containers = process.client(Containers);
  const base = { id: "one", runtime, spec };

  await context.test("without namespace are refused", async () => {
    await refused(
      ErrorKind.FailedPrecondition,
      "namespace is required: failed precondition",
      containers.get({ id: "one" }),
    );
    await invalid(
      'namespace validation: identifier "a--b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument',
      containers.list({}, inNamespace("a--b")),
    );
  });

  await context.test("of a namespace that never had any", async () => {
    const message = (verb: string): string => `cannot ${verb} container "one" in namespace "records": not found`;
    await notFound(message("delete"), containers.delete({ id: "one" }, ns));
    await notFound(message("update"), containers.update({ container: base }, ns));
    await notFound('container "one" in namespace "records": not found', containers.get({ id: "one" }, ns));
    assert.deepEqual((await containers.list({}, ns)).containers, []);
    assert.deepEqual((await process.client(Namespaces).list({})).namespaces, []);
  });

  await context.test("are checked before they are stored", async () => {
    const wrong = (container: object, text: string): Promise<void> =>
      invalid(
        `create container failed validation: ${text}: invalid argument`,
        containers.create({ container: { ...base, ...container } }, ns),
      );
    await wrong({ id: "" }, "container.ID: identifier must not be empty");
    await wrong({ extensions: { "": spec } }, "container.Extension keys must not be zero-length");
    await wrong({ labels: longLabel }, `containers.Labels: ${longLabelText.replace(": invalid argument", "")}`);
    await wrong({ runtime: { name: "" } }, "container.Runtime.Name must be set");
    await wrong({ spec: undefined }, "container.Spec must be set");
    await wrong({ snapshotKey: "k" }, "container.Snapshotter must be set if container.SnapshotKey is set");
  });

  await context.test("are stored byte for byte", async () => {
    const wanted = {
      ...base,
      labels: { a: "1", gone: "" },
      image: "img",
      snapshotter: "native",
      snapshotKey: "one",
      extensions: { e: spec },
      sandbox: "pod",
      createdAt: { seconds: 1n, nanos: 1 },
    };
    const { container } = await containers.create({ container: wanted }, ns);
    assert.deepEqual(container?.labels, { a: "1" });
    assert.ok(container?.createdAt !== undefined && container.createdAt.seconds > 1_700_000_000n);
    assert.deepEqual(container.createdAt, container.updatedAt);
    const read = (await containers.get({ id: "one" }, ns)).container;
    assert.deepEqual(read, container);
    assert.deepEqual(Buffer.from(read?.spec?.value ?? []), spec.value);
    assert.equal(read?.sandbox, "pod");
    await refused(
      ErrorKind.AlreadyExists,
      'container "one": already exists',
      containers.create({ container: wanted }, ns),
    );
  });

  await context.test("change by a mask", async () => {
    const update = (change: object, ...paths: string[]) =>
      containers.update({ container: { ...base, ...change }, updateMask: { paths } }, ns);
    const { container } = await update(
      { labels: { a: "", "b.c/d": "2", no: "3" }, image: "other", snapshotKey: "two" },
      "labels.a",
      "labels.b.c/d",
      "image",
      "snapshotkey",
      "extensions.new",
    );
    assert.deepEqual(container?.labels, { "b.c/d": "2" });
    assert.deepEqual([container?.image, container?.snapshotKey, container?.sandbox], ["other", "two", "pod"]);
    assert.deepEqual(Object.keys(container?.extensions ?? {}).sort(), ["e", "new"]);
    assert.deepEqual((await containers.get({ id: "one" }, ns)).container, container);
    await invalid('cannot update "snapshot_key" field on "one": invalid argument', update({}, "snapshot_key"));
    await invalid('cannot update "runtime.options" field on "one": invalid argument', update({}, "runtime.options"));
    await invalid(
      "update failed validation: container.Spec must be set: invalid argument",
      update({ spec: undefined }, "spec"),
    );
    await invalid("Container.ID required", containers.update({ container: { id: "" } }, ns));
    await notFound('container "two": not found', containers.update({ container: { ...base, id: "two" } }, ns));
  });

  await context.test("change as a whole but for what is fixed", async () => {
    const whole = { ...base, snapshotter: "native", labels: { only: "1" }, extensions: { other: spec } };
    await invalid(
      "container.Snapshotter field is immutable: invalid argument",
      containers.update({ container: { ...whole, snapshotter: "overlayfs" } }, ns),
    );
    await invalid(
      "container.Runtime.Name field is immutable: invalid argument",
      containers.update({ container: { ...whole, runtime: { name: "other" } } }, ns),
    );
    const before = (await containers.get({ id: "one" }, ns)).container;
    const { container } = await containers.update({ container: { ...whole, sandbox: "ignored" } }, ns);
    assert.deepEqual(container?.labels, { only: "1" });
    assert.deepEqual([container?.image, container?.snapshotKey, container?.sandbox], ["", "", "pod"]);
    assert.deepEqual(Object.keys(container?.extensions ?? {}), ["other"]);
    assert.deepEqual(container?.createdAt, before?.createdAt);
    const stored = (await containers.get({ id: "one" }, ns)).container;
    assert.deepEqual(Object.keys(stored?.extensions ?? {}).sort(), ["e", "new", "other"]);
  });

  await context.test("are listed by filters, also as a stream", async () => {
    await containers.create({ container: { ...base, id: "two", image: "img", labels: { l: "x" } } }, ns);
    const list = async (...filters: string[]): Promise<string[]> =>
      (await containers.list({ filters }, ns)).containers.map(({ id }) => id);
    assert.deepEqual(await list(), ["one", "two"]);
    assert.deepEqual(await list("id==two"), ["two"]);
    assert.deepEqual(await list("image==img,labels.l==x", "id==nobody"), ["two"]);
    assert.deepEqual(await list("labels.l!=x"), ["one"]);
    assert.deepEqual(await list("image"), ["two"]);
    assert.deepEqual(await list("runtime.name~=runc"), ["one", "two"]);
    await invalid(
      "filters: parse error: [id==]: expected value or quoted: invalid argument: invalid argument",
      containers.list({ filters: ["id=="] }, ns),
    );
    const streamed: (string | undefined)[] = [];
    for await (const { container } of containers.listStream({ filters: ["id==one"] }, ns)) {
      streamed.push(container?.id);
    }
    assert.deepEqual(streamed, ["one"]);
  });

  await context.test("are deleted, and whoever remembers some learns of it", async () => {
    using removals = new RemovalMarkReader(`${process.directory}/state`, "container");
    const before = removals.read();
    assert.notEqual(before, undefined);
    await containers.delete({ id: "two" }, ns);
    assert.notEqual(removals.read(), before);
    await notFound("container two: not found", containers.delete({ id: "two" }, ns));
  });

  await context.test("tell what becomes of them", async () => {
    assert.deepEqual(await topics(process, 5), [
      "records /containers/create",
      "records /containers/update",
      "records /containers/update",
      "records /containers/create",
      "records /containers/delete",
    ]);
    const [created, updated] = process.neighbours.events.map(({ envelope }) => envelope?.event);
    assert.equal(created?.typeUrl, "containerd.events.ContainerCreate");
    const createEvent = fromBinary(ContainerCreateSchema, created.value);
    assert.deepEqual([createEvent.id, createEvent.image, createEvent.runtime?.name], ["one", "img", runtime.name]);
    const updateEvent = fromBinary(ContainerUpdateSchema, updated?.value ?? new Uint8Array());
    assert.deepEqual([updateEvent.labels, updateEvent.snapshotKey], [{ "b.c/d": "2" }, "two"]);
  });
});

test("images", { timeout: 60_000 }, async (context: TestContext) => {
  const process = await MetadataProcess.start(context);
  const images = process.client(Images);
  const target = { mediaType: "application/vnd.oci.image.manifest.v1+json", digest: digestOf("m"), size: 7n };

  await context.test("are checked before they are stored", async () => {
    await invalid("Image.Name required", images.create({ image: { target } }, ns));
    await invalid("Image.Name required", images.update({ image: { target } }, ns));
    const wrong = (text: string, change: object): Promise<void> =>
      invalid(
        `${text}: invalid argument`,
        images.create({ image: { name: "x", target: { ...target, ...change } } }, ns),
      );
    await wrong('target.Digest "" invalid: invalid checksum digest format', { digest: "" });
    await wrong('target.Digest "md5:a" invalid: unsupported digest algorithm', { digest: "md5:a" });
    await wrong("target.Size must be greater than zero", { size: 0n });
    await wrong("target.MediaType must be set", { mediaType: "" });
    await invalid(
      `image.Labels: ${longLabelText}`,
      images.create({ image: { name: "x", target, labels: longLabel } }, ns),
    );
  });

  await context.test("are stored, at a time that the client may choose", async () => {
    const { image } = await images.create(
      {
        image: { name: "docker.io/library/x:1", target: { ...target, annotations: { a: "1", gone: "" } } },
        sourceDateEpoch: { seconds: 5n, nanos: 6 },
      },
      ns,
    );
    assert.deepEqual(image?.target?.annotations, { a: "1" });
    assert.deepEqual([image?.createdAt?.seconds, image?.updatedAt?.nanos], [5n, 6]);
    assert.deepEqual((await images.get({ name: "docker.io/library/x:1" }, ns)).image, image);
    await refused(
      ErrorKind.AlreadyExists,
      'image "docker.io/library/x:1": already exists',
      images.create({ image: { name: "docker.io/library/x:1", target } }, ns),
    );
    await notFound('image "y": not found', images.get({ name: "y" }, ns));
  });

  await context.test("change by a mask or as a whole", async () => {
    const name = "docker.io/library/x:1";
    const update = (change: object, ...paths: string[]) =>
      images.update({ image: { name, target, ...change }, updateMask: { paths } }, ns);
    const labelled = await update({ labels: { a: "1", b: "2" } }, "labels.a", "annotations.z");
    assert.deepEqual(labelled.image?.labels, { a: "1" });
    assert.deepEqual(labelled.image?.target?.annotations, { a: "1" });
    const other = { ...target, digest: digestOf("other"), annotations: { n: "1" } };
    const moved = await update({ target: other, labels: { no: "1" } }, "target");
    assert.equal(moved.image?.target?.digest, other.digest);
    assert.deepEqual([moved.image.labels, moved.image.target.annotations], [{ a: "1" }, { n: "1" }]);
    assert.equal(moved.image.createdAt?.seconds, 5n);
    assert.ok((moved.image.updatedAt?.seconds ?? 0n) > 5n);
    const whole = await update({ labels: { b: "2" } });
    assert.deepEqual([whole.image?.labels, whole.image?.target?.digest], [{ b: "2" }, target.digest]);
    await invalid(`cannot update "name" field on image "${name}": invalid argument`, update({}, "name"));
    await invalid("target.MediaType must be set: invalid argument", update({ target: { ...target, mediaType: "" } }));
    await notFound('image "y": not found', images.update({ image: { name: "y", target } }, ns));
  });

  await context.test("are listed by filters", async () => {
    await images.create({ image: { name: "y", target, labels: { "a.b/c": "1" } } }, ns);
    const list = async (...filters: string[]): Promise<string[]> =>
      (await images.list({ filters }, ns)).images.map(({ name }) => name);
    assert.deepEqual(await list(), ["docker.io/library/x:1", "y"]);
    assert.deepEqual(await list('labels."a.b/c"==1'), ["y"]);
    assert.deepEqual(await list(`target.digest==${target.digest},target.mediatype~=manifest,name==y`), ["y"]);
    assert.deepEqual(await list("annotations.n"), []);
  });

  await context.test("are deleted, if they point where the client thinks", async () => {
    const digest = digestOf("other");
    await notFound(
      `image "y" has target ${target.digest}, not ${digest}: not found`,
      images.delete({ name: "y", target: { ...target, digest } }, ns),
    );
    await images.delete({ name: "y", target }, ns);
    await notFound('image "y": not found', images.delete({ name: "y" }, ns));
  });

  await context.test("are held by a lease if they expire", async () => {
    const leases = process.client(Leases);
    await leases.create({ id: "l" }, ns);
    const expiring = { name: "e", target, labels: { "containerd.io/gc.expire": "2100-01-01T00:00:00Z" } };
    await notFound(
      "lease does not exist: not found",
      images.create({ image: expiring }, inNamespace("records", "nobody")),
    );
    await images.create({ image: expiring }, inNamespace("records", "l"));
    await images.create({ image: { name: "f", target } }, inNamespace("records", "nobody"));
    const held = async (): Promise<string[]> =>
      (await leases.listResources({ id: "l" }, ns)).resources.map(({ type, id }) => `${type} ${id}`);
    assert.deepEqual(await held(), ["images e"]);
    await images.delete({ name: "e" }, inNamespace("records", "l"));
    assert.deepEqual(await held(), []);
  });

  await context.test("tell what becomes of them under the types of their own service", async () => {
    const told = await topics(process, 9);
    assert.deepEqual(told.slice(0, 2), ["records /images/create", "records /images/update"]);
    assert.ok(told.includes("records /images/delete"));
    const event = process.neighbours.events[0]?.envelope?.event;
    assert.equal(event?.typeUrl, "containerd.services.images.v1.ImageCreate");
    assert.equal(fromBinary(ImageCreateSchema, event.value).name, "docker.io/library/x:1");
  });
});

test("leases", { timeout: 60_000 }, async (context: TestContext) => {
  const process = await MetadataProcess.start(context);
  const leases = process.client(Leases);

  await context.test("are made under a given or a random id", async () => {
    const { lease } = await leases.create({ labels: { a: "1", gone: "" } }, ns);
    assert.match(lease?.id ?? "", /^\d{1,9}-[A-Za-z0-9_-]{4}$/);
    assert.deepEqual(lease?.labels, { a: "1" });
    await leases.create({ id: "l/any thing" }, ns);
    await refused(
      ErrorKind.AlreadyExists,
      'lease "l/any thing": already exists',
      leases.create({ id: "l/any thing" }, ns),
    );
    const list = async (...filters: string[]): Promise<number> => (await leases.list({ filters }, ns)).leases.length;
    assert.deepEqual([await list(), await list("labels.a==1"), await list('id=="l/any thing"')], [2, 1, 1]);
  });

  await context.test("hold resources of known types, in a fixed order", async () => {
    const id = "l/any thing";
    const add = (type: string, resource: string): Promise<unknown> =>
      leases.addResource({ id, resource: { type, id: resource } }, ns);
    await add("snapshots/native", "s");
    await add("ingests", "i");
    await add("images", "m");
    await add("content", digestOf("c"));
    await add("content", digestOf("c"));
    const held = (await leases.listResources({ id }, ns)).resources.map(({ type }) => type);
    assert.deepEqual(held, ["content", "images", "ingests", "snapshots/native"]);
    await leases.deleteResource({ id, resource: { type: "images", id: "m" } }, ns);
    assert.equal((await leases.listResources({ id }, ns)).resources.length, 3);
    await refused(ErrorKind.NotImplemented, "resource type b not supported yet: not implemented", add("b", "x"));
    await invalid("invalid resource type images/x: invalid argument", add("images/x", "x"));
    await invalid("invalid snapshot resource type snapshots: invalid argument", add("snapshots", "x"));
    await invalid(
      "invalid content resource id x: invalid checksum digest format: invalid argument",
      add("content", "x"),
    );
    await refused(ErrorKind.Unknown, "bucket name required", add("snapshots/", "x"));
    await refused(ErrorKind.Unknown, "key required", add("snapshots/native", ""));
  });

  await context.test("that do not exist", async () => {
    const text = 'lease "none": not found';
    await notFound(text, leases.delete({ id: "none" }, ns));
    await notFound(text, leases.listResources({ id: "none" }, ns));
    await notFound(text, leases.addResource({ id: "none", resource: { type: "b", id: "x" } }, ns));
    await notFound(text, leases.deleteResource({ id: "none", resource: { type: "b", id: "x" } }, ns));
  });

  await context.test("are deleted with what they hold on record, without an event", async () => {
    await leases.delete({ id: "l/any thing", sync: true }, ns);
    await leases.create({ id: "l/any thing" }, ns);
    assert.deepEqual((await leases.listResources({ id: "l/any thing" }, ns)).resources, []);
    assert.deepEqual(process.neighbours.events, []);
  });
});

test("sandboxes", { timeout: 60_000 }, async (context: TestContext) => {
  const process = await MetadataProcess.start(context);
  const store = process.client(Store);
  const sandbox = { sandboxId: "s", runtime, spec, sandboxer: "shim" };

  await context.test("of a namespace that never had any", async () => {
    const text = "no sandbox buckets: not found";
    await notFound(text, store.get({ sandboxId: "s" }, ns));
    await notFound(text, store.delete({ sandboxId: "s" }, ns));
    await notFound(text, store.update({ sandbox }, ns));
    assert.deepEqual((await store.list({}, ns)).list, []);
  });

  await context.test("are made and read", async () => {
    const wanted = { ...sandbox, labels: { a: "1", gone: "" }, extensions: { e: spec } };
    const made = (await store.create({ sandbox: wanted }, ns)).sandbox;
    assert.deepEqual(made?.labels, { a: "1" });
    assert.deepEqual((await store.get({ sandboxId: "s" }, ns)).sandbox, made);
    await refused(
      ErrorKind.AlreadyExists,
      'write error: sandbox bucket "s" already exists: already exists',
      store.create({ sandbox: wanted }, ns),
    );
    await invalid(
      "failed to validate sandbox: invalid sandbox ID: identifier must not be empty: invalid argument",
      store.create({ sandbox: { ...wanted, sandboxId: "" } }, ns),
    );
    await notFound('bucket "t" not found: not found', store.get({ sandboxId: "t" }, ns));
  });

  await context.test("change by fields or as a whole", async () => {
    const update = async (change: object, ...fields: string[]) =>
      (await store.update({ sandbox: { ...sandbox, ...change }, fields }, ns)).sandbox;
    assert.deepEqual((await update({ labels: { a: "", b: "2" } }, "labels.a", "labels.b"))?.labels, { b: "2" });
    const other = { name: "other" };
    await invalid("sandbox.Runtime.Name field is immutable: invalid argument", update({ runtime: other }));
    assert.equal((await update({ runtime: other }, "runtime"))?.runtime?.name, "other");
    const stored = (await store.get({ sandboxId: "s" }, ns)).sandbox;
    assert.deepEqual([stored?.runtime?.name, stored?.runtime?.options?.typeUrl], ["other", "x"]);
    const whole = await update({ runtime: other, extensions: { f: spec } });
    assert.deepEqual([whole?.labels, Object.keys(whole?.extensions ?? {})], [{}, ["f"]]);
    const kept = (await store.get({ sandboxId: "s" }, ns)).sandbox?.extensions ?? {};
    assert.deepEqual(Object.keys(kept).sort(), ["e", "f"]);
    await invalid('cannot update "sandboxer" field on sandbox "s": invalid argument', update({}, "sandboxer"));
    await notFound('bucket "t" not found: not found', update({ sandboxId: "t" }));
  });

  await context.test("are listed and deleted", async () => {
    await store.create({ sandbox: { ...sandbox, sandboxId: "t", labels: { x: "1" } } }, ns);
    const list = async (...filters: string[]): Promise<string[]> =>
      (await store.list({ filters }, ns)).list.map(({ sandboxId }) => sandboxId);
    assert.deepEqual([await list(), await list("labels.x==1"), await list("id==s")], [["s", "t"], ["t"], ["s"]]);
    await store.delete({ sandboxId: "s" }, ns);
    await notFound('failed to delete sandbox "s": not found', store.delete({ sandboxId: "s" }, ns));
    assert.deepEqual(process.neighbours.events, []);
  });
});
