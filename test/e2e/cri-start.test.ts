import assert from "node:assert/strict";
import test from "node:test";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { startFlotilla } from "../kit/daemon.ts";

test("the kubelet is answered as containerd answers it", async () => {
  await using daemon = await startFlotilla({ cri: true });
  const runtime = createClient(RuntimeService, daemon.transport);
  const version = await runtime.version({});
  assert.equal(version.version, "0.1.0");
  assert.equal(version.runtimeName, "containerd");
  assert.match(version.runtimeVersion, /^v2\.3\.4\+flotilla\./);
  assert.equal(version.runtimeApiVersion, "v1");
  assert.ok(daemon.pidOf("cri") !== undefined);
  await daemon.kill9("cri");
  assert.equal((await runtime.version({})).runtimeName, "containerd");
});

test("where CRI is disabled its process is not started and its services are unknown", async () => {
  await using daemon = await startFlotilla();
  assert.equal(daemon.pidOf("cri"), undefined);
  await assert.rejects(
    createClient(RuntimeService, daemon.transport).version({}),
    (error) =>
      isFailure(error, ErrorKind.NotImplemented) && /unknown service runtime\.v1\.RuntimeService/.test(error.message),
  );
});
