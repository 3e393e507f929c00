import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { busyboxImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { startRegistry } from "../kit/registry.ts";
import { startConfigured } from "./configured-daemon.ts";
import { ctr, startSide } from "./daemons.ts";
import type { Bench, Side } from "./measurement.ts";
import { residentMib } from "./resident-memory.ts";
import { sideBySide } from "./rounds.ts";

const rounds = 2;
/** So many that what a daemon happens to keep of its last work counts for little. */
const containers = 40;
const burstContainers = 20;
const burstCalls = 10_000;
const callsAtATime = 64;
/** How long after a burst memory has to be given back. */
const restMs = 60_000;
/** How long a daemon is left alone before it counts as idle. Ours gives memory back after a quarter of a minute; after its start in half that. */
const settleMs = 18_000;
const startSettleMs = 10_000;

/** What idle daemons and containers take: proportional set sizes, so that shared pages count once. */
export const memoryBench: Bench = {
  name: "memory",
  async run() {
    const results = await sideBySide(rounds, async (side) => ({
      ...(await measureIdle(side)),
      configuredMib: await measureConfigured(side),
      burstMib: await measureAfterBurst(side),
    }));
    return [
      {
        what: "memory of the idle daemon, without nats-server",
        unit: "MiB",
        better: "lower",
        target: { kind: "value", bound: 150 },
        samples: results.idleMib,
      },
      {
        what: "memory of the idle daemon with everything on, CRI included, without nats-server",
        unit: "MiB",
        better: "lower",
        target: { kind: "value", bound: 165 },
        samples: results.configuredMib,
      },
      {
        what: "memory of the daemon a minute after 10,000 calls, a pull and 20 containers, without nats-server and shims",
        unit: "MiB",
        better: "lower",
        target: { kind: "value", bound: 200 },
        samples: results.burstMib,
      },
      {
        what: "memory of each further idle container, shim included",
        unit: "MiB",
        better: "lower",
        samples: results.containerMib,
      },
    ];
  },
};

/** One daemon at a time: two of a kind would share pages, and each seem smaller than it is. */
async function measureIdle(side: Side): Promise<{ idleMib: number; containerMib: number }> {
  const namespace = uniqueNamespace();
  await using daemon = await startSide(side);
  await delay(startSettleMs);
  const idleMib = residentMib(daemon);
  const { tar, name } = await busyboxImage();
  await ctr(daemon, "-n", namespace, "images", "import", tar);
  // The first container also brings what its daemon loads when it is first used.
  await ctr(daemon, "-n", namespace, "run", "-d", name, "first", "sleep", "3600");
  await delay(settleMs);
  const before = residentMib(daemon);
  for (let index = 0; index < containers; index += 1) {
    await ctr(daemon, "-n", namespace, "run", "-d", name, `further-${index}`, "sleep", "3600");
  }
  await delay(settleMs);
  return { idleMib, containerMib: (residentMib(daemon) - before) / containers };
}

async function measureConfigured(side: Side): Promise<number> {
  await using configured = await startConfigured(side);
  await delay(startSettleMs);
  return residentMib(configured.daemon);
}

async function measureAfterBurst(side: Side): Promise<number> {
  const namespace = uniqueNamespace();
  await using daemon = await startSide(side);
  await using registry = await startRegistry();
  const reference = await registry.pushImage(await busyboxImage(), "bench/memory:test");
  const { version } = createClient(Version, daemon.transport);
  const { list } = createClient(Images, daemon.transport);
  const headers = clientHeaders(namespace);
  for (let made = 0; made < burstCalls; made += callsAtATime) {
    await Promise.all(
      Array.from({ length: callsAtATime }, (_, index) => (index % 2 === 0 ? version({}) : list({}, { headers }))),
    );
  }
  await ctr(daemon, "-n", namespace, "images", "pull", "--plain-http", reference);
  for (let index = 0; index < burstContainers; index += 1) {
    await ctr(daemon, "-n", namespace, "run", "--rm", reference, `burst-${index}`, "true");
  }
  await delay(restMs);
  return residentMib(daemon);
}
