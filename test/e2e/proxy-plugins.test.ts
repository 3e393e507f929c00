import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Controller } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { bindService } from "#wire/handler.ts";
import { clientHeaders, namespaceHeader } from "#wire/headers.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { TransferClient } from "../kit/transfer-client.ts";

let daemon: Daemon;
let directory: TemporaryDirectory;
let server: RpcServer;
let registry: Registry;
let image: TestImage;
let leaks: LeakSnapshot;

/** What the plugins were asked, in order. */
const asked: string[] = [];
const oddType = "application/vnd.example.odd";
/** Ends the sandbox. */
let end = Promise.withResolvers<void>();

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("plugins");
  image = await busyboxImage();
  registry = await startRegistry();
  server = await serveRpc({
    socketPath: `${directory.path}/p.sock`,
    services: [
      bindService(Diff, {
        apply: ({ diff, mounts }, call) => {
          asked.push(`apply ${call.header(namespaceHeader)} ${diff?.mediaType} ${mounts[0]?.type}`);
          if (diff?.mediaType === "application/vnd.example.unknown") {
            throw failure(ErrorKind.NotImplemented, "not mine");
          }
          // The digest of the whole layer, so that an unpacker is content.
          const digest = image.diffIds[0] ?? "";
          return { applied: { mediaType: "application/vnd.oci.image.layer.v1.tar", digest, size: 7n } };
        },
        diff: ({ mediaType }) => {
          asked.push(`diff ${mediaType}`);
          if (mediaType !== oddType) {
            throw failure(ErrorKind.NotImplemented, "not mine");
          }
          return { diff: { mediaType, digest: `sha256:${"1".repeat(64)}`, size: 9n } };
        },
      }),
      bindService(Controller, {
        create: ({ sandboxId, sandboxer }, call) => {
          asked.push(`create ${call.header(namespaceHeader)} ${sandboxId} ${sandboxer}`);
          return { sandboxId };
        },
        start: ({ sandboxId }) => ({ sandboxId, pid: 4711, labels: { from: "far" } }),
        platform: () => ({ platform: { os: "linux", architecture: "riscv64" } }),
        wait: async () => {
          await end.promise;
          return { exitStatus: 3, exitedAt: { seconds: 1n, nanos: 2 } };
        },
        stop: ({ timeoutSecs }) => {
          asked.push(`stop ${timeoutSecs}`);
          end.resolve();
          return {};
        },
        status: ({ sandboxId }) => ({ sandboxId, state: "SANDBOX_READY", pid: 4711 }),
        shutdown: () => ({}),
        update: ({ fields }) => {
          asked.push(`update ${fields.join(",")}`);
          return {};
        },
      }),
    ],
  });
  daemon = await startFlotilla({
    config: `
[timeouts]
  "io.flotilla.timeout.proxy.call" = "1s"
[proxy_plugins.oddly]
  type = "diff"
  address = "${directory.path}/p.sock"
[proxy_plugins.farbox]
  type = "sandbox"
  address = "${directory.path}/p.sock"
[plugins."io.containerd.service.v1.diff-service"]
  default = ["oddly", "walking"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "${hostPlatform().os}/${hostPlatform().architecture}"
  snapshotter = "native"
  differ = "oddly"
`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await server?.close(0);
  await registry?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("introspection shows differs and sandbox controllers of others", async () => {
  const { plugins } = await createClient(Introspection, daemon.transport).plugins({
    filters: ["id==oddly", "id==farbox"],
  });
  assert.deepEqual(
    new Set(plugins.map(({ type, id, initErr }) => `${type} ${id} ${initErr?.message ?? "ok"}`)),
    new Set(["io.containerd.differ.v1 oddly ok", "io.containerd.sandbox.controller.v1 farbox ok"]),
  );
});

test("differs are asked in the order of the configuration, until one can do it", async () => {
  const namespace = uniqueNamespace();
  const headers = clientHeaders(namespace);
  const diff = createClient(Diff, daemon.transport);
  const digest = `sha256:${"2".repeat(64)}`;
  const mounts = [{ type: "bind", source: directory.path, target: "", options: ["rw", "rbind"] }];
  const { applied } = await diff.apply({ diff: { mediaType: oddType, digest, size: 1n }, mounts }, { headers });
  assert.equal(applied?.size, 7n);
  assert.ok(asked.includes(`apply ${namespace} ${oddType} bind`));
  const made = await diff.diff({ mediaType: oddType }, { headers });
  assert.equal(made.diff?.size, 9n);
  // The other one says that it does not know the blob.
  await assert.rejects(
    diff.apply({ diff: { mediaType: "application/vnd.example.unknown", digest, size: 1n }, mounts }, { headers }),
    (error) => isFailure(error, ErrorKind.NotFound),
  );
});

test("a pull unpacks by the differ that its configuration names", async () => {
  const reference = await registry.pushImage(image, "oddly:test");
  const namespace = uniqueNamespace();
  await new TransferClient(daemon.transport, namespace).pull(reference, {
    unpacks: [{ platform: hostPlatform(), snapshotter: "native" }],
  });
  assert.ok(asked.some((call) => call.startsWith(`apply ${namespace} application/vnd.oci.image.layer`)));
  const names: string[] = [];
  const snapshots = createClient(Snapshots, daemon.transport);
  for await (const { info } of snapshots.list({ snapshotter: "native" }, { headers: clientHeaders(namespace) })) {
    names.push(...info.map(({ name }) => name));
  }
  assert.deepEqual(names, [image.diffIds[0]]);
});

test("a sandbox controller of somebody else is asked under its name, and waited for as long as it takes", async () => {
  const namespace = uniqueNamespace();
  const headers = clientHeaders(namespace);
  const controller = createClient(Controller, daemon.transport);
  const sandbox = { sandboxId: "box", sandboxer: "farbox" };
  end = Promise.withResolvers();
  await controller.create(sandbox, { headers });
  assert.ok(asked.includes(`create ${namespace} box farbox`));
  const started = await controller.start(sandbox, { headers });
  assert.deepEqual([started.pid, started.labels], [4711, { from: "far" }]);
  assert.equal((await controller.platform(sandbox, { headers })).platform?.architecture, "riscv64");
  assert.equal((await controller.status(sandbox, { headers })).state, "SANDBOX_READY");
  await controller.update({ ...sandbox, sandbox: { sandboxId: "box" }, fields: ["labels"] }, { headers });
  assert.ok(asked.includes("update labels"));
  const waited = controller.wait(sandbox, { headers });
  // Longer than a call may take.
  await new Promise((resolve) => {
    setTimeout(resolve, 1_500);
  });
  await controller.stop({ ...sandbox, timeoutSecs: 5 }, { headers });
  assert.equal((await waited).exitStatus, 3);
  await controller.shutdown(sandbox, { headers });
  await assert.rejects(controller.status({ ...sandbox, sandboxer: "none" }, { headers }), (error) =>
    isFailure(error, ErrorKind.NotFound),
  );
});
