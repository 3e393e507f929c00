import assert from "node:assert/strict";
import test from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import {
  ContainerConfigSchema,
  ContainerStatsSchema,
  PodSandboxConfigSchema,
  PodSandboxStatsSchema,
} from "#gen/runtime/v1/api_pb.ts";
import type { Container } from "../store/container.ts";
import type { Pod } from "../store/pod.ts";
import { containerStats, podStats } from "./stats-messages.ts";

const cgroup = {
  timestampNs: 7n,
  cpu: { totalNs: 5n, pressure: undefined },
  memory: {
    usage: 4n,
    workingSet: 3n,
    available: 0n,
    rss: 2n,
    pageFaults: 1n,
    majorPageFaults: 0n,
    swap: 0n,
    swapAvailable: undefined,
    pressure: undefined,
  },
  processes: 1n,
};

test("figures are told with whom they are of, a pod's with those of its containers", () => {
  const config = create(ContainerConfigSchema, { metadata: { name: "c", attempt: 2 }, labels: { a: "1" } });
  const container = { id: "container", metadata: { config } } as unknown as Container;
  const figures = { cgroup, rate: 9n, layer: undefined, layerRoot: "/layers" };
  const encoded = containerStats(container, figures);
  const stats = fromBinary(ContainerStatsSchema, encoded);
  assert.deepEqual([stats.attributes?.id, stats.attributes?.metadata?.attempt], ["container", 2]);
  assert.deepEqual(
    [stats.cpu?.usageCoreNanoSeconds?.value, stats.cpu?.usageNanoCores?.value, stats.memory?.workingSetBytes?.value],
    [5n, 9n, 3n],
  );
  assert.equal(stats.writableLayer?.fsId?.mountpoint, "/layers");
  const podConfig = create(PodSandboxConfigSchema, { metadata: { name: "p" }, annotations: { b: "2" } });
  const whole = fromBinary(
    PodSandboxStatsSchema,
    podStats({ id: "pod", config: podConfig } as unknown as Pod, {
      timestampNs: 8n,
      cgroup,
      rate: undefined,
      interfaces: undefined,
      containers: [encoded, encoded],
      processes: 6n,
    }),
  );
  assert.deepEqual([whole.attributes?.id, whole.attributes?.annotations], ["pod", { b: "2" }]);
  assert.deepEqual([whole.linux?.process?.processCount?.value, whole.linux?.cpu?.usageNanoCores], [6n, undefined]);
  assert.deepEqual(whole.linux?.containers, [stats, stats]);
});
