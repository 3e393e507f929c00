import { execa } from "execa";
import { bigImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { startRegistry } from "../kit/registry.ts";
import { startBothApart } from "./daemons.ts";
import type { Bench } from "./measurement.ts";
import { say } from "./progress.ts";
import { removeImage } from "./remove-image.ts";
import { interleave } from "./rounds.ts";

const rounds = 3;
const pullMsMax = 300_000;

/** A large image from a registry on this machine, with Debian's `ctr`, until it is unpacked. */
export const pullBench: Bench = {
  name: "pull",
  async run() {
    const namespace = uniqueNamespace();
    say("making the image");
    const image = await bigImage({ layers: 9, sizeMb: 200, files: 47_000 });
    await using registry = await startRegistry();
    const reference = await registry.pushImage(image, "bench/big:test");
    await using daemons = await startBothApart();
    const results = await interleave(rounds, async (side) => {
      const daemon = daemons[side];
      // What the round before wrote must not be written out in the time of this one.
      await execa("sync");
      const startedMs = performance.now();
      const args = ["-a", daemon.address, "-n", namespace, "images", "pull", "--plain-http", reference];
      await execa("ctr", args, { stdin: "ignore", stdout: "ignore", timeout: pullMsMax });
      const pullS = (performance.now() - startedMs) / 1000;
      await removeImage(daemon, namespace, reference);
      return { pullS };
    });
    return [
      {
        what: "pull + unpack of 200 MB, 9 layers, 47,000 files",
        unit: "s",
        better: "lower",
        target: { kind: "ratio", bound: 0.5 },
        samples: results.pullS,
      },
    ];
  },
};
