import { basename } from "node:path";
import { execa } from "execa";

const environment = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };
const sectorBytes = 512;
const poolBytes = 2 * 2 ** 30;
const metadataBytes = 16 * 2 ** 20;
/** In sectors: 64 KiB, the smallest that dm-thin takes. */
const blockSectors = 128;

/** Why thin pools cannot be made here, or false. */
export async function lacksThinPools(): Promise<string | false> {
  const { stdout } = await execa("dmsetup", ["targets"], { env: environment, reject: false });
  return /^thin-pool\s/m.test(stdout ?? "") ? false : "the kernel has no thin pools, or dmsetup is not installed";
}

/**
 * Makes a thin pool of two files.
 *
 * @param resources - Takes it away, when its volumes are gone.
 * @returns Its name.
 */
export async function makeThinPool(directory: string, resources: AsyncDisposableStack): Promise<string> {
  const run = async (program: string, ...args: string[]): Promise<string> =>
    (await execa(program, args, { env: environment })).stdout;
  const attach = async (name: string, bytes: number): Promise<string> => {
    await run("truncate", `--size=${bytes}`, `${directory}/${name}`);
    const device = await run("losetup", "--find", "--show", `${directory}/${name}`);
    resources.defer(async () => {
      await run("losetup", "--detach", device);
    });
    return device;
  };
  const metadata = await attach("pool-metadata", metadataBytes);
  const data = await attach("pool-data", poolBytes);
  const name = basename(directory);
  const table = `0 ${poolBytes / sectorBytes} thin-pool ${metadata} ${data} ${blockSectors} 0 1 skip_block_zeroing`;
  await run("dmsetup", "create", name, "--table", table);
  resources.defer(async () => {
    await run("dmsetup", "remove", "--retry", name);
  });
  return name;
}
