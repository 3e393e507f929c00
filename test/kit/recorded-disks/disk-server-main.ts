import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { mountAll } from "#linux/mount.ts";
import { DiskLogWriter } from "./disk-log.ts";
import { type ServedFile, serveFuse } from "./fuse-server.ts";

/**
 * Serves files as disks whose every write and flush is logged before it is answered.
 *
 *   node disk-server-main.ts MOUNT LOG FILE...
 */
const [mountPoint = "", logPath = "", ...paths] = process.argv.slice(2);
const log = new DiskLogWriter(logPath);
const files = paths.map((path, disk): ServedFile => {
  const descriptor = openSync(path, "r+");
  const sizeBytes = fstatSync(descriptor).size;
  return {
    name: String(disk),
    sizeBytes,
    read(offset, length) {
      const data = Buffer.alloc(Math.max(0, Math.min(length, sizeBytes - offset)));
      readSync(descriptor, data, 0, data.length, offset);
      return data;
    },
    write(offset, data) {
      log.write(disk, offset, data);
      writeSync(descriptor, data, 0, data.length, offset);
    },
    flush: () => log.flush(disk),
  };
});
const device = openSync("/dev/fuse", "r+");
const options = [`fd=${device}`, "rootmode=40000", "user_id=0", "group_id=0"];
await mountAll([{ type: "fuse", source: "recorded-disks", options }], mountPoint);
serveFuse(device, files);
closeSync(device);
