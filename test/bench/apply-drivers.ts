import { execa } from "execa";
import { lacksFileSystem } from "../kit/file-systems.ts";
import { type BenchFileSystem, makeFileSystem } from "./file-system.ts";
import type { Side } from "./measurement.ts";
import { say } from "./progress.ts";

/** A snapshotter that both daemons have. */
export interface BenchDriver {
  readonly snapshotter: string;
  /** Where the image of 47,000 files in 9 layers is too much. */
  readonly image?: { readonly layers: number; readonly sizeMb: number; readonly files: number };
  /** Our time over containerd's that is to be reached. */
  readonly bound: number;
}

/** The snapshotters, and what the daemons have to be told of them. */
export interface BenchDrivers extends AsyncDisposable {
  readonly drivers: readonly BenchDriver[];
  /** Lines of TOML. */
  readonly config: (side: Side) => string;
}

/** Room for the image with all its files; copies of it are what `blockfile` writes for each layer. */
const scratchBytes = 400 * 1024 ** 2;
const scratchInodes = 64_000;

/** Makes what the drivers need that this machine can have; says which ones it cannot. @param fileSystem - For those with no wishes. */
export async function prepareDrivers(fileSystem: BenchFileSystem): Promise<BenchDrivers> {
  await using resources = new AsyncDisposableStack();
  const drivers: BenchDriver[] = [
    { snapshotter: "overlayfs", bound: 0.5 },
    // containerd flushes each file that it copies for the next layer, which takes a quarter of an hour for all layers.
    { snapshotter: "native", bound: 0.7, image: { layers: 3, sizeMb: 20, files: 4000 } },
  ];
  const tables: ((side: Side) => string)[] = [];
  const table = (id: string, ...lines: string[]): string =>
    `[plugins."io.containerd.snapshotter.v1.${id}"]\n${lines.join("\n")}\n`;
  if (await hasFileSystem("btrfs")) {
    const { path } = resources.use(await makeFileSystem({ type: "btrfs" }));
    drivers.push({ snapshotter: "btrfs", bound: 0.7 });
    tables.push((side) => table("btrfs", `root_path = "${path}/${side}"`));
  }
  if (await hasFileSystem("ext4")) {
    const scratch = `${fileSystem.path}/scratch`;
    await execa("truncate", [`--size=${scratchBytes}`, scratch]);
    await execa("/usr/sbin/mkfs.ext4", ["-q", "-N", String(scratchInodes), scratch]);
    drivers.push({ snapshotter: "blockfile", bound: 0.7 });
    tables.push(() => table("blockfile", `scratch_file = "${scratch}"`, 'fs_type = "ext4"'));
  }
  if (await hasFileSystem("erofs")) {
    drivers.push({ snapshotter: "erofs", bound: 0.7 });
  }
  const owned = resources.move();
  return {
    drivers,
    config: (side) => tables.map((lines) => lines(side)).join(""),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function hasFileSystem(type: string): Promise<boolean> {
  const lacking = await lacksFileSystem(type);
  if (lacking !== false) {
    say(`left out: ${lacking}`);
  }
  return lacking === false;
}
