import { randomUUID } from "node:crypto";
import { open } from "node:fs/promises";
import { replaceFile } from "#base/durable-file.ts";
import { planHashTree, writeHashTree } from "./hash-tree.ts";
import { encodeMetadata } from "./metadata.ts";
import { encodeSuperblock, hashStart, superblockBytes } from "./superblock.ts";

/** As containerd salts it, so that the same image has the same hash everywhere. */
const salt = Buffer.alloc(32);

/**
 * Puts a tree of hashes behind an image, by which dm-verity checks every block of it, and the hash that stands for all of them into a file.
 *
 * @param image - Path of the file, which nobody has mounted.
 * @param options - `blockBytes`: 512 for an image of blocks of that size, else 4096. `metadata`: path of the file that is written, and on
 *   disk before this resolves; the image is not.
 * @throws System errors; the image is not to be used then.
 * @source containerd v2.3.4 plugins/diff/erofs/dmverity_linux.go `formatDmverityLayer`
 */
export async function protectImage(
  image: string,
  { blockBytes, metadata }: { readonly blockBytes: number; readonly metadata: string },
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(image, "r+");
  const dataBlocks = Math.ceil((await file.stat()).size / blockBytes);
  const hashOffset = dataBlocks * blockBytes;
  const treeOffset = hashStart(hashOffset, blockBytes);
  // Fills the last block of data, and the rest of the superblock's.
  await file.truncate(treeOffset + planHashTree({ blockBytes, dataBlocks }).blocks * blockBytes);
  const superblock = encodeSuperblock({
    hashType: 1,
    uuid: Buffer.from(randomUUID().replaceAll("-", ""), "hex"),
    algorithm: "sha256",
    dataBlockBytes: blockBytes,
    hashBlockBytes: blockBytes,
    dataBlocks: BigInt(dataBlocks),
    salt,
  });
  await file.write(superblock, 0, superblockBytes, hashOffset);
  const root = await writeHashTree(file, { blockBytes, dataBlocks, treeOffset, salt }, signal);
  await replaceFile(metadata, encodeMetadata({ rootHash: root.toString("hex"), hashOffset }), { mode: 0o644 });
}
