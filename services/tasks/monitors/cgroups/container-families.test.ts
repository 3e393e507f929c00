import assert from "node:assert/strict";
import test from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { MetricsSchema as MetricsV1 } from "#gen/io/containerd/cgroups/v1/metrics_pb.ts";
import { MetricsSchema as MetricsV2 } from "#gen/io/containerd/cgroups/v2/metrics_pb.ts";
import { containerFamilies } from "./container-families.ts";

function valuesOf(stats: Any): Map<string, number> {
  const families = containerFamilies([{ namespace: "ns", id: "c", stats }]);
  return new Map(families.flatMap(({ series, values }) => series.map((each, at) => [each, values[at] ?? -1])));
}

const own = 'container_id="c",namespace="ns"';

test("a cgroup of version 2 is told of under containerd's names", () => {
  const metrics = create(MetricsV2, {
    pids: { current: 3n, limit: 9n },
    cpu: { usageUsec: 7n },
    memory: { usage: 4096n, fileMapped: 12n },
    memoryEvents: { oom: 2n },
    io: { usage: [{ major: 8n, minor: 1n, rbytes: 5n, wios: 6n }] },
  });
  const values = valuesOf(
    create(AnySchema, { typeUrl: "io.containerd.cgroups.v2.Metrics", value: toBinary(MetricsV2, metrics) }),
  );
  for (const [series, value] of [
    [`container_pids_current{${own}}`, 3],
    [`container_pids_limit{${own}}`, 9],
    [`container_cpu_usage_usec_microseconds{${own}}`, 7],
    [`container_memory_usage_bytes{${own}}`, 4096],
    [`container_memory_file_mapped_bytes{${own}}`, 12],
    [`container_memory_oom_total{${own}}`, 2],
    [`container_io_rbytes_bytes{container_id="c",major="8",minor="1",namespace="ns"}`, 5],
    [`container_io_wios_total{container_id="c",major="8",minor="1",namespace="ns"}`, 6],
  ] as const) {
    assert.equal(values.get(series), value, series);
  }
});

test("a cgroup of version 1 is told of under containerd's names", () => {
  const metrics = create(MetricsV1, {
    hugetlb: [{ pagesize: "2MB", usage: 1n }],
    cpu: { usage: { total: 10n, perCpu: [4n, 6n] }, throttling: { throttledTime: 3n } },
    memory: { rss: 5n, totalPgMajFault: 8n, usage: { usage: 77n, failcnt: 1n } },
    memoryOomControl: { oomKill: 2n },
    blkio: { ioServicedRecursive: [{ op: "Read", device: "/dev/sda", major: 8n, minor: 0n, value: 11n }] },
  });
  const values = valuesOf(
    create(AnySchema, { typeUrl: "io.containerd.cgroups.v1.Metrics", value: toBinary(MetricsV1, metrics) }),
  );
  for (const [series, value] of [
    ['container_hugetlb_usage_bytes{container_id="c",namespace="ns",page="2MB"}', 1],
    [`container_cpu_total_nanoseconds{${own}}`, 10],
    ['container_per_cpu_nanoseconds{container_id="c",cpu="1",namespace="ns"}', 6],
    [`container_cpu_throttled_time_nanoseconds{${own}}`, 3],
    [`container_memory_rss_bytes{${own}}`, 5],
    [`container_memory_total_pgmajfault_bytes{${own}}`, 8],
    [`container_memory_usage_usage_bytes{${own}}`, 77],
    [`container_memory_usage_failcnt_total{${own}}`, 1],
    [`container_memory_oom_total{${own}}`, 2],
    [
      'container_blkio_io_serviced_recursive_total{container_id="c",device="/dev/sda",major="8",minor="0",namespace="ns",op="Read"}',
      11,
    ],
  ] as const) {
    assert.equal(values.get(series), value, series);
  }
});

test("what is no cgroup's is left out", () => {
  assert.equal(valuesOf(create(AnySchema, { typeUrl: "example.com/other.Stats", value: new Uint8Array(3) })).size, 0);
});
