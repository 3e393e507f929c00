import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { MetricsSchema as MetricsV1 } from "#gen/io/containerd/cgroups/v1/metrics_pb.ts";
import { MetricsSchema as MetricsV2 } from "#gen/io/containerd/cgroups/v2/metrics_pb.ts";
import type { CgroupValue } from "./measure.ts";
import { valuesOfV1 } from "./values-v1.ts";
import { valuesOfV2 } from "./values-v2.ts";

/** What a container's supervisor has told of its cgroup. */
export interface ContainerStats {
  readonly namespace: string;
  readonly id: string;
  readonly stats: Any;
}

/** The figures of containers, under the names of containerd; those of a runtime that tells something else are left out. */
export function containerFamilies(containers: readonly ContainerStats[]): MetricFamily[] {
  const families = new Map<string, FamilyBuilder>();
  for (const { namespace, id, stats } of containers) {
    for (const { name, help, labels, value } of valuesOf(stats)) {
      let family = families.get(name);
      if (family === undefined) {
        family = new FamilyBuilder("gauge", `container_${name}`, `Of each container: ${help}.`);
        families.set(name, family);
      }
      family.add({ ...labels, container_id: id, namespace }, value);
    }
  }
  return [...families.values()];
}

/** Go's names of types have no host before them. */
function valuesOf(stats: Any): readonly CgroupValue[] {
  const named = { ...stats, typeUrl: `/${stats.typeUrl.split("/").at(-1) ?? ""}` };
  const v1 = anyUnpack(named, MetricsV1);
  if (v1 !== undefined) {
    return valuesOfV1(v1);
  }
  const v2 = anyUnpack(named, MetricsV2);
  return v2 === undefined ? [] : valuesOfV2(v2);
}
