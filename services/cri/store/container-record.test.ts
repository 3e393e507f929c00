import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { ContainerConfigSchema, NamespaceMode } from "#gen/runtime/v1/api_pb.ts";
import { type ContainerMetadata, decodeContainerMetadata, encodeContainerMetadata } from "./container-record.ts";

const metadata: ContainerMetadata = {
  id: "c1",
  name: "main_pod_ns_uid_0",
  podId: "s1",
  config: create(ContainerConfigSchema, {
    metadata: { name: "main" },
    image: { image: "sha256:abc" },
    envs: [{ key: "A", value: new Uint8Array(Buffer.from("b")) }],
    labels: { y: "2", x: "1" },
    mounts: [{ containerPath: "/a", uidMappings: [{ hostId: 5, length: 1 }] }],
    CDIDevices: [{ name: "v/c=d" }],
    linux: {
      resources: { memoryLimitInBytes: 9223372036854775807n },
      securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER }, runAsUser: { value: 0n } },
    },
  }),
  imageRef: "sha256:abc",
  logPath: "/var/log/x",
  stopSignal: "SIGTERM",
  processLabel: "",
};

test("metadata is written as Go writes containerd's structures, and read back whole", () => {
  const record = encodeContainerMetadata(metadata);
  assert.equal(record.typeUrl, "github.com/containerd/cri/pkg/store/container/Metadata");
  assert.equal(
    Buffer.from(record.value).toString("utf8"),
    '{"Version":"v1","Metadata":{"ID":"c1","Name":"main_pod_ns_uid_0","SandboxID":"s1","Config":{"metadata":{"name":"main"},' +
      '"image":{"image":"sha256:abc"},"envs":[{"key":"A","value":"Yg=="}],"mounts":[{"container_path":"/a","uidMappings":[{"host_id":5,"length":1}]}],' +
      '"labels":{"x":"1","y":"2"},"linux":{"resources":{"memory_limit_in_bytes":9223372036854775807},' +
      '"security_context":{"namespace_options":{"pid":1},"run_as_user":{}}},"CDI_devices":[{"name":"v/c=d"}]},' +
      '"ImageRef":"sha256:abc","LogPath":"/var/log/x","StopSignal":"SIGTERM","ProcessLabel":""}}',
  );
  assert.deepEqual(decodeContainerMetadata(record), metadata);
});

test("metadata of another version, and what is none, is refused", () => {
  const read = (text: string) => () => decodeContainerMetadata({ value: new Uint8Array(Buffer.from(text)) });
  assert.throws(read('{"Version":"v2","Metadata":{}}'), /unsupported version: "v2"/);
  assert.throws(read('{"Version":"v1","Metadata":{"Config":{"labels":[]}}}'), /labels is not what it must be/);
  assert.throws(read('{"Version":"v1","Metadata":{"Config":{"log_path":5}}}'), /log_path is not what it must be/);
});
