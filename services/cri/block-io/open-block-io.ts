import { glob, readFile, realpath, stat } from "node:fs/promises";
import { errorMessage, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Logger } from "#fleet/log.ts";
import { numbersOf } from "../containers/host-devices.ts";
import { type BlockIo, type FindBlockDevices, readBlockIoClasses } from "./block-io.ts";

/**
 * The classes of block I/O that are configured. A file that can't be read is told of, and there are no classes then.
 *
 * @param path - Of the file; "" for none.
 * @returns undefined where block I/O has no classes.
 * @source containerd v2.3.4 pkg/blockio/blockio_linux.go `SetConfig`, plugins/services/tasks/local.go `initFunc`
 */
export async function openBlockIo(path: string, log: Logger): Promise<ReadonlyMap<string, BlockIo> | undefined> {
  if (path === "") {
    return undefined;
  }
  try {
    const { classes, complaints } = await readBlockIoClasses(await readFile(path, "utf8"), findBlockDevices);
    for (const complaint of complaints) {
      log.warn({ path }, complaint);
    }
    return classes;
  } catch (error) {
    log.error({ err: wrapFailure(error, `blockio not enabled: ${path}`) }, "blockio initialization failed");
    return undefined;
  }
}

/** @source intel/goresctrl v0.12 pkg/blockio/blockio.go `configurableBlockDevices` */
export const findBlockDevices: FindBlockDevices = async (patterns) => {
  const complaints: string[] = [];
  const paths = new Set<string>();
  for (const pattern of patterns) {
    const found = await Array.fromAsync(glob(pattern));
    if (found.length === 0) {
      complaints.push(`device wildcard ${quote(pattern)} does not match any device nodes`);
    }
    for (const match of found) {
      paths.add(await realpath(match).catch(() => match));
    }
  }
  const devices: { readonly major: number; readonly minor: number }[] = [];
  for (const path of paths) {
    try {
      const status = await stat(path);
      if (status.isBlockDevice()) {
        devices.push(numbersOf(status.rdev));
      } else {
        complaints.push(`file ${quote(path)} is not a block device`);
      }
    } catch (error) {
      complaints.push(errorMessage(error));
    }
  }
  return { devices, complaints };
};
