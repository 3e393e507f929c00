import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { hostPlatform } from "#config/host-platform.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import type { Daemon } from "../kit/daemon.ts";
import { bigImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { startRegistry } from "../kit/registry.ts";
import { TransferClient } from "../kit/transfer-client.ts";
import { startBothApart } from "./daemons.ts";
import type { Bench, Measurement } from "./measurement.ts";
import { say } from "./progress.ts";
import { removeImage } from "./remove-image.ts";
import { highestMib } from "./resident-memory.ts";
import { interleave } from "./rounds.ts";

const rounds = 3;
const clientsAtOnce = 20;
const unpacks = [{ platform: hostPlatform() }];

/** What clients of containerd 2 do with a large image, by the Transfer service; nothing beside a containerd that has none. */
export const transferBench: Bench = {
  name: "transfer",
  async run() {
    const namespace = uniqueNamespace();
    say("making the images");
    const image = await bigImage({ layers: 9, sizeMb: 200, files: 47_000 });
    await using registry = await startRegistry();
    const reference = await registry.pushImage(image, "bench/big:test");
    const wide = await registry.pushImage(await bigImage({ layers: 2, sizeMb: 500, files: 500 }), "bench/wide:test");
    const high = await registry.pushImage(await bigImage({ layers: 40, sizeMb: 40, files: 2000 }), "bench/high:test");
    await using daemons = await startBothApart();
    if (!(await hasTransfer(daemons.containerd))) {
      say("the containerd beside has no Transfer service: it takes 1.7 or a later one");
      return [];
    }
    const results = await interleave(rounds, async (side, round) => {
      const daemon = daemons[side];
      const client = new TransferClient(daemon.transport, namespace);
      const pullS = await seconds(() => client.pull(reference, { unpacks }));
      const target = `${registry.host}/bench/${side}:${round}`;
      const pushS = await seconds(() => client.push(reference, target));
      const exportS = await seconds(() => client.export([reference]));
      await removeImage(daemon, namespace, reference);
      const pull20S = await seconds(() =>
        Promise.all(Array.from({ length: clientsAtOnce }, () => client.pull(reference, { unpacks }))),
      );
      await removeImage(daemon, namespace, reference);
      const importS = await seconds(() => client.import(image.tar, { name: reference, unpacks }));
      await removeImage(daemon, namespace, reference);
      const pullOnly = async (name: string): Promise<number> => {
        const pulledS = await seconds(() => client.pull(name, { unpacks }));
        await removeImage(daemon, namespace, name);
        return pulledS;
      };
      const [wideS, highS] = [await pullOnly(wide), await pullOnly(high)];
      // By itself, since looking at the memory takes time from what is measured.
      const memoryMib = await highestMib(daemon, client.pull(reference, { unpacks }));
      await removeImage(daemon, namespace, reference);
      return { pullS, pushS, exportS, pull20S, importS, wideS, highS, memoryMib };
    });
    const row = (what: string, bound: number, samples: Measurement["samples"]): Measurement => ({
      what,
      unit: "s",
      better: "lower",
      target: { kind: "ratio", bound },
      samples,
    });
    return [
      row("Transfer: pull + unpack of 200 MB, 9 layers, 47,000 files", 0.4, results.pullS),
      row(`Transfer: the same by ${clientsAtOnce} clients at once`, 0.4, results.pull20S),
      row("Transfer: pull + unpack of one layer of 500 MB", 1, results.wideS),
      row("Transfer: pull + unpack of 40 layers of 1 MB", 1, results.highS),
      row("Transfer: push of what the registry has elsewhere", 1, results.pushS),
      row("Transfer: export", 1, results.exportS),
      row("Transfer: import + unpack", 0.4, results.importS),
      {
        what: "Transfer: memory of the daemon while it pulls the first of these, at the highest, without nats-server",
        unit: "MiB",
        better: "lower",
        target: { kind: "value", bound: 350 },
        samples: results.memoryMib,
      },
    ];
  },
};

async function hasTransfer({ transport }: Daemon): Promise<boolean> {
  const filters = ["type==io.containerd.grpc.v1,id==transfer"];
  return (await createClient(Introspection, transport).plugins({ filters })).plugins.length > 0;
}

/** What the work before wrote must not be written out in the time of this one. */
async function seconds(work: () => Promise<unknown>): Promise<number> {
  await execa("sync");
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}
