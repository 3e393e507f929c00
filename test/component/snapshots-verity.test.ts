import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, open, readFile, writeFile } from "node:fs/promises";
import test from "node:test";
import { execa } from "execa";
import { type MappedDevice, type MappedDevices, machineMappedDevices, mapperControl } from "#linux/device-mapper.ts";
import { Errno, SystemError } from "#linux/libc.ts";
import { unmountAll } from "#linux/unmount.ts";
import { makeLayer } from "../../services/snapshots/drivers/erofs/make-layer.ts";
import { erofsHandler } from "../../services/snapshots/mounts/handlers/erofs.ts";
import { metadataPath, readMetadata } from "../../services/snapshots/verity/metadata.ts";
import { protectImage } from "../../services/snapshots/verity/protect-image.ts";
import { decodeSuperblock, superblockBytes } from "../../services/snapshots/verity/superblock.ts";
import {
  deviceName,
  forgetVerifiedDevice,
  openVerifiedDevice,
} from "../../services/snapshots/verity/verified-device.ts";
import { lacksFileSystem } from "../kit/file-systems.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const skip = await lacksFileSystem("erofs");
const lacksVerity =
  skip || (!(existsSync(mapperControl) && existsSync("/sys/module/dm_verity")) && "the kernel has no dm-verity");
const lacksProgram =
  (await execa("sh", ["-c", "command -v veritysetup"], { reject: false })).exitCode !== 0 &&
  "veritysetup is not installed";
const { signal } = new AbortController();
const blockBytes = 4096;

/** An image of a file, with its hashes behind it. */
async function makeProtected(directory: string): Promise<{ readonly image: string; readonly metadata: string }> {
  await mkdir(`${directory}/tree`);
  await writeFile(`${directory}/tree/file`, Buffer.alloc(900_000, "content "));
  const image = `${directory}/layer.erofs`;
  const metadata = metadataPath(image);
  await makeLayer(`${directory}/tree`, image);
  await protectImage(image, { blockBytes, metadata }, signal);
  return { image, metadata };
}

/** The device mapper as memory. */
class RecordedDevices implements MappedDevices {
  readonly calls: string[] = [];
  readonly devices = new Map<string, MappedDevice>();
  status = "V";
  /** Called before a device is opened. */
  onHold = (): void => undefined;

  create(name: string, { type, sectors, parameters }: Parameters<MappedDevices["create"]>[1]): void {
    this.calls.push(`create ${type} ${sectors}`);
    if (this.devices.has(name)) {
      throw new SystemError(16, "create device");
    }
    this.devices.set(name, { path: `/dev/dm-${this.devices.size}`, status: this.status, parameters });
  }

  find(name: string): MappedDevice | undefined {
    return this.devices.get(name);
  }

  removeWhenUnused(name: string): void {
    this.calls.push("remove");
    this.devices.delete(name);
  }

  hold(path: string): Disposable {
    this.calls.push(`hold ${path}`);
    this.onHold();
    return { [Symbol.dispose]: () => this.calls.push("let go") };
  }
}

test("an image gets its hashes behind it, and beside it what has to be known of them", { skip }, async () => {
  await using directory = await makeTemporaryDirectory("verity");
  const { image, metadata } = await makeProtected(directory.path);
  const { rootHash, hashOffset } = await readMetadata(metadata);
  assert.match(rootHash, /^[0-9a-f]{64}$/);
  assert.deepEqual(Object.keys(JSON.parse(await readFile(metadata, "utf8"))), ["roothash", "hashoffset"]);
  const bytes = readFileSync(image);
  const superblock = decodeSuperblock(bytes.subarray(hashOffset, hashOffset + superblockBytes));
  const { uuid, salt, ...rest } = superblock;
  assert.deepEqual(rest, {
    hashType: 1,
    algorithm: "sha256",
    dataBlockBytes: blockBytes,
    hashBlockBytes: blockBytes,
    dataBlocks: BigInt(hashOffset / blockBytes),
  });
  assert.ok(salt.equals(Buffer.alloc(32)) && !uuid.equals(Buffer.alloc(16)));
  // Two levels: the block that stands for all, and those of the data.
  const hashBlocks = Math.ceil(hashOffset / blockBytes / 128) + 1;
  assert.equal(bytes.length, hashOffset + blockBytes * (1 + hashBlocks));
});

test("veritysetup finds the hashes right", { skip: skip || lacksProgram }, async () => {
  await using directory = await makeTemporaryDirectory("verity");
  const { image, metadata } = await makeProtected(directory.path);
  const { rootHash, hashOffset } = await readMetadata(metadata);
  await execa("veritysetup", ["verify", `--hash-offset=${hashOffset}`, image, image, rootHash]);
});

test("a device is made of what stands in the image, shared, and removed with its last user", { skip }, async () => {
  await using directory = await makeTemporaryDirectory("verity");
  const { image, metadata } = await makeProtected(directory.path);
  const read = await readMetadata(metadata);
  const devices = new RecordedDevices();
  const first = await openVerifiedDevice(image, read, devices);
  const blocks = read.hashOffset / blockBytes;
  assert.equal(first.path, "/dev/dm-0");
  const { parameters = "" } = devices.find(deviceName(image)) ?? {};
  assert.match(
    parameters,
    new RegExp(`^1 (/dev/loop\\d+) \\1 4096 4096 ${blocks} ${blocks + 1} sha256 ${read.rootHash} ${"00".repeat(32)}$`),
  );
  const second = await openVerifiedDevice(image, read, devices);
  assert.equal(second.path, first.path);
  assert.deepEqual(devices.calls, [`create verity ${blocks * 8}`, "hold /dev/dm-0", "hold /dev/dm-0"]);
  devices.calls.length = 0;
  first[Symbol.dispose]();
  assert.deepEqual(devices.calls, ["remove", "let go"], "it is still open when its removal is asked for");
});

test("a device that goes before it is held is made again, and one of something else is refused", { skip }, async () => {
  await using directory = await makeTemporaryDirectory("verity");
  const { image, metadata } = await makeProtected(directory.path);
  const read = await readMetadata(metadata);
  const devices = new RecordedDevices();
  let goes = 2;
  devices.onHold = () => {
    if (goes > 0) {
      goes -= 1;
      devices.devices.clear();
      if (goes === 0) {
        throw new SystemError(Errno.NoEntry, "open");
      }
    }
  };
  using device = await openVerifiedDevice(image, read, devices);
  assert.equal(device.path, "/dev/dm-0");
  assert.equal(devices.calls.filter((call) => call.startsWith("create")).length, 3);

  const name = deviceName(image);
  const failure = `existing dm-verity device "${name}" verification failed: dm-verity device "${name}" verification failed`;
  const other = { ...read, rootHash: "00".repeat(32) };
  await assert.rejects(openVerifiedDevice(image, other, devices), { message: failure });
  devices.devices.clear();
  devices.status = "C";
  await assert.rejects(openVerifiedDevice(image, read, devices), { message: failure }, "what was found changed");
});

test("metadata and superblocks that make no sense are refused before the kernel is asked", { skip }, async () => {
  await using directory = await makeTemporaryDirectory("verity");
  const { image, metadata } = await makeProtected(directory.path);
  const path = `${directory.path}/other`;
  await assert.rejects(readMetadata(path), /^FlotillaError: failed to read metadata file ".*other"/);
  for (const [text, message] of [
    ["{", /failed to parse metadata file/],
    ["{}", /missing root hash in metadata file/],
    ['{"roothash":"ab cd","hashoffset":1}', /invalid root hash/],
    ['{"roothash":"abcd","hashoffset":-1}', /invalid hash offset/],
  ] as const) {
    await writeFile(path, text);
    await assert.rejects(readMetadata(path), message);
  }
  const read = await readMetadata(metadata);
  const devices = new RecordedDevices();
  for (const [offset, bytes, message] of [
    [0, "x", /invalid superblock signature/],
    [8, "\x02", /unsupported superblock version/],
    [12, "\x02", /unsupported hash type/],
    [32, "sha 1", /invalid hash algorithm/],
    [64, "\x01", /invalid block sizes/],
    [80, "\xff\xff", /salt of 65535 bytes/],
  ] as const) {
    await using file = await open(image, "r+");
    const { buffer } = await file.read(Buffer.alloc(superblockBytes), 0, superblockBytes, read.hashOffset);
    await file.write(Buffer.from(bytes, "latin1"), 0, bytes.length, read.hashOffset + offset);
    await assert.rejects(openVerifiedDevice(image, read, devices), message);
    await file.write(buffer, 0, superblockBytes, read.hashOffset);
  }
  await assert.rejects(openVerifiedDevice(image, { ...read, hashOffset: 1 << 30 }, devices), /data too short/);
  assert.deepEqual(devices.calls, []);
});

test("mounted with dm-verity an image shows what is in it, a changed block is an error, and nothing is left", {
  skip: lacksVerity,
}, async () => {
  await using directory = await makeTemporaryDirectory("verity");
  const { image, metadata } = await makeProtected(directory.path);
  const mount = { type: "erofs", source: image, options: ["ro", "loop", `X-containerd.dmverity=${metadata}`] };
  const [first, second] = [`${directory.path}/first`, `${directory.path}/second`];
  const name = deviceName(image);
  const mounted = await erofsHandler.mount(mount, first);
  assert.match(mounted.source, /^\/dev\/dm-\d+$/);
  assert.deepEqual(mounted.options, ["ro"]);
  await erofsHandler.mount(mount, second);
  assert.ok(readFileSync(`${first}/file`).equals(readFileSync(`${directory.path}/tree/file`)));
  await erofsHandler.unmount(first);
  assert.ok(machineMappedDevices.find(name) !== undefined, "it is mounted in another place");
  assert.equal(readFileSync(`${second}/file`).length, 900_000);
  await erofsHandler.unmount(second);
  await gone(name);

  // A device that a crash has left.
  machineMappedDevices.removeWhenUnused(name);
  const left = await openVerifiedDevice(image, await readMetadata(metadata), {
    ...machineMappedDevices,
    removeWhenUnused: () => undefined,
  });
  left[Symbol.dispose]();
  assert.ok(machineMappedDevices.find(name) !== undefined);
  forgetVerifiedDevice(image);
  await gone(name);

  await using file = await open(image, "r+");
  const { hashOffset } = await readMetadata(metadata);
  // The content of the file is most of the image.
  await file.write("changed", Math.floor(hashOffset / 2));
  await file.sync();
  await erofsHandler.mount(mount, first);
  try {
    assert.throws(() => readFileSync(`${first}/file`), { code: "EIO" });
  } finally {
    await unmountAll(first);
  }
  await gone(name);
});

/** The kernel removes it on its own when the last user has gone. */
async function gone(name: string): Promise<void> {
  for (let tries = 0; machineMappedDevices.find(name) !== undefined; tries += 1) {
    assert.ok(tries < 1000, `${name} is left`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
