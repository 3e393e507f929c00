import { fromBinary } from "@bufbuild/protobuf";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { ContainerConfigSchema } from "#gen/runtime/v1/api_pb.ts";
import type { CriPeers } from "../peers.ts";
import type { Container } from "../store/container.ts";
import { toGoJson } from "../store/go-message.ts";
import { getRecord, specOf } from "./container-record.ts";
import { formatExactJson } from "./spec/exact-json.ts";

/** What else there is to be told of a container, as JSON. @source containerd v2.3.4 internal/cri/server/container_status.go `toCRIContainerInfo` */
export async function verboseInfo(peers: CriPeers, container: Container): Promise<Record<string, string>> {
  const record = await getRecord(peers, container.id);
  const options = record.runtime?.options;
  const isRunc = options?.typeUrl.endsWith(OptionsSchema.typeName) === true;
  return {
    info: formatExactJson({
      sandboxID: container.metadata.podId,
      pid: container.status.pid,
      removing: container.status.removing,
      snapshotKey: record.snapshotKey,
      snapshotter: record.snapshotter,
      runtimeType: record.runtime?.name ?? "",
      runtimeOptions:
        isRunc && options !== undefined ? toGoJson(OptionsSchema, fromBinary(OptionsSchema, options.value)) : null,
      config: toGoJson(ContainerConfigSchema, container.metadata.config),
      runtimeSpec: specOf(record),
    }),
  };
}
