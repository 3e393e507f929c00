import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { ContainerSchema } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { MountSchema } from "#gen/containerd/types/mount_pb.ts";
import { restartRequest } from "./restart-request.ts";

function requestFor(spec: object | undefined, labels: Record<string, string>) {
  const value = Buffer.from(JSON.stringify(spec ?? {}));
  const container = create(ContainerSchema, { id: "one", labels, ...(spec === undefined ? {} : { spec: { value } }) });
  const { terminal, stdin, stdout, stderr, rootfs } = restartRequest(container, [
    create(MountSchema, { type: "overlay", options: ["ro"] }),
  ]);
  return { terminal, stdin, stdout, stderr, options: rootfs[0]?.options };
}

test("a container is asked for as a client would", () => {
  const terminal = { process: { terminal: true } };
  const silent = { terminal: false, stdin: "", stdout: "", stderr: "", options: ["ro"] };
  const uri = "binary:///usr/bin/logger?a=b";
  const output = { "containerd.io/restart.loguri": uri };
  assert.deepEqual(requestFor(undefined, {}), silent);
  assert.deepEqual(requestFor(terminal, {}), silent, "a terminal without output can't be had");
  assert.deepEqual(requestFor({}, output), { ...silent, stdout: uri, stderr: uri });
  assert.deepEqual(requestFor(terminal, output), { ...silent, terminal: true, stdout: uri, stderr: uri });
  const mountLabel = "system_u:object_r:container_file_t:s0:c1,c2";
  assert.deepEqual(requestFor({ linux: { mountLabel } }, {}).options, ["ro", `context="${mountLabel}"`]);
});
