import { createClient } from "@connectrpc/connect";
import { type Container, Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Daemon } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { ctr, startBoth } from "./daemons.ts";
import { type Bench, spreadOf } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const rounds = 6;
const livesPerRound = 5;
const snapshotter = "overlayfs";

/** A container from its record to its end, by the calls that `ctr run --rm` makes. */
export const lifecycleBench: Bench = {
  name: "lifecycle",
  async run() {
    const namespace = uniqueNamespace();
    await using daemons = await startBoth();
    const lives = {
      flotilla: await prepareLives(daemons.flotilla, namespace),
      containerd: await prepareLives(daemons.containerd, namespace),
    };
    const results = await interleave(rounds, async (side, round) => {
      const times: number[] = [];
      for (let life = 0; life < livesPerRound; life += 1) {
        times.push(await lives[side](`${side}-${round}-${life}`));
      }
      return { lifeMs: spreadOf(times).median };
    });
    return [
      {
        what: "create + start + wait + delete, shim runtime",
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 1 },
        samples: results.lifeMs,
      },
    ];
  },
};

/** @returns A function that lives one life of a container that does nothing, and gives its time in ms. */
async function prepareLives(daemon: Daemon, namespace: string): Promise<(id: string) => Promise<number>> {
  const { tar, name, diffIds } = await busyboxImage();
  await ctr(daemon, "-n", namespace, "images", "import", tar);
  await ctr(daemon, "-n", namespace, "containers", "create", name, "template", "true");
  const options = { headers: clientHeaders(namespace) };
  const containers = createClient(Containers, daemon.transport);
  const leases = createClient(Leases, daemon.transport);
  const snapshots = createClient(Snapshots, daemon.transport);
  const tasks = createClient(Tasks, daemon.transport);
  const { container: template } = await containers.get({ id: "template" }, options);
  if (template === undefined) {
    throw new Error("the container is not there");
  }
  const parent = diffIds[0] ?? "";
  return async (id) => {
    const startedMs = performance.now();
    const { lease } = await leases.create({}, options);
    const leased = { headers: clientHeaders(namespace, lease?.id) };
    const { mounts } = await snapshots.prepare({ snapshotter, key: id, parent }, leased);
    await containers.create({ container: renamed(template, id, namespace) }, leased);
    await leases.delete({ id: lease?.id ?? "" }, options);
    await tasks.create({ containerId: id, rootfs: mounts }, options);
    const waited = tasks.wait({ containerId: id }, options);
    await tasks.start({ containerId: id }, options);
    const { exitStatus } = await waited;
    await tasks.delete({ containerId: id }, options);
    // In the order of `ctr`: a snapshot whose container is gone may be collected at any moment.
    await snapshots.remove({ snapshotter, key: id }, options);
    await containers.delete({ id }, options);
    if (exitStatus !== 0) {
      throw new Error(`the container ended with status ${exitStatus}`);
    }
    return performance.now() - startedMs;
  };
}

function renamed(template: Container, id: string, namespace: string): Container {
  const spec = JSON.parse(Buffer.from(template.spec?.value ?? []).toString()) as { linux: { cgroupsPath: string } };
  spec.linux.cgroupsPath = `/${namespace}/${id}`;
  const value = Buffer.from(JSON.stringify(spec));
  return {
    ...template,
    id,
    snapshotKey: id,
    ...(template.spec === undefined ? {} : { spec: { ...template.spec, value } }),
  };
}
