import { createClient } from "@connectrpc/connect";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { ctr, startBoth } from "./daemons.ts";
import { type LoadClient, type LoadReport, startLoadClient } from "./load.ts";
import type { Bench, Side } from "./measurement.ts";
import { say } from "./progress.ts";
import { interleave } from "./rounds.ts";

const namespace = "bench";
const containers = 1000;
const rounds = 5;
const durationMs = 2_000;
const warmUpMs = 500;
const version = "/containerd.services.version.v1.Version/Version";
const list = "/containerd.services.containers.v1.Containers/List";

/** Calls that change nothing: an empty one, and a long list. */
export const rpcBench: Bench = {
  name: "rpc",
  async run() {
    await using daemons = await startBoth();
    await using resources = new AsyncDisposableStack();
    const counting: Record<Side, Daemon> = {
      flotilla: resources.use(
        await startFlotilla({ config: '[plugins."io.containerd.server.v1.metrics"]\naddress = "127.0.0.1:0"\n' }),
      ),
      containerd: resources.use(await startContainerd({ config: '[metrics]\naddress = "127.0.0.1:0"\n' })),
    };
    await using client = startLoadClient();
    for (const daemon of [daemons.flotilla, daemons.containerd]) {
      await createContainers(daemon);
    }
    const results = await interleave(rounds, async (side) => {
      const { address } = daemons[side];
      const single = await load(client, address, version, 1);
      const some = await load(client, address, version, 16);
      const many = await load(client, address, version, 64);
      const counted = await load(client, counting[side].address, version, 64);
      const lists = await load(client, address, list, 4);
      return {
        medianMs: single.medianMs,
        rate: rateOf(some),
        manyRate: rateOf(many),
        countedShare: rateOf(counted) / rateOf(many),
        listRate: rateOf(lists),
      };
    });
    return [
      {
        what: "unary call, 16 in flight",
        unit: "calls/s",
        better: "higher",
        target: { kind: "ratio", bound: 1 },
        samples: results.rate,
      },
      {
        what: "unary call, 64 in flight",
        unit: "calls/s",
        better: "higher",
        target: { kind: "ratio", bound: 1.1 },
        samples: results.manyRate,
      },
      {
        what: "unary call, 64 in flight, with metrics on: share of the rate without",
        unit: "of the rate",
        better: "higher",
        target: { kind: "value", bound: 0.95 },
        samples: results.countedShare,
      },
      {
        what: "unary call, one at a time",
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 1.8 },
        samples: results.medianMs,
      },
      {
        what: "list of 1,000 containers",
        unit: "calls/s",
        better: "higher",
        target: { kind: "ratio", bound: 2.5 },
        samples: results.listRate,
      },
    ];
  },
};

function load(client: LoadClient, address: string, path: string, inFlight: number): Promise<LoadReport> {
  return client.run({ address, calls: [{ path, messageBase64: "" }], namespace, inFlight, durationMs, warmUpMs });
}

function rateOf({ turns, elapsedMs }: LoadReport): number {
  return (turns * 1000) / elapsedMs;
}

/** Makes records of containers that are like those that `ctr` makes. */
async function createContainers(daemon: Daemon): Promise<void> {
  const { tar, name } = await busyboxImage();
  await ctr(daemon, "-n", namespace, "images", "import", tar);
  await ctr(daemon, "-n", namespace, "containers", "create", name, "template", "true");
  const client = createClient(Containers, daemon.transport);
  const options = { headers: clientHeaders(namespace) };
  const { container } = await client.get({ id: "template" }, options);
  if (container === undefined) {
    throw new Error("the container is not there");
  }
  for (let index = 1; index < containers; index += 1) {
    await client.create({ container: { ...container, id: `container-${index}` } }, options);
  }
  const listed = await client.list({}, options);
  say(`${listed.containers.length} containers, specs of ${container.spec?.value.length ?? 0} bytes`);
}
