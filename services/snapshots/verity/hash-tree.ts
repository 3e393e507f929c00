import { hash } from "node:crypto";
import { writeSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

const algorithm = "sha256";
const digestBytes = 32;
/** What is read of the data at a time. */
const chunkBytes = 1024 * 1024;

/** What is hashed, and where the hashes go. */
export interface HashTreeOrder {
  /** Of data and of hashes; a power of two. */
  readonly blockBytes: number;
  readonly dataBlocks: number;
  /** Where the hashes begin in the file, at a multiple of the size of a block. */
  readonly treeOffset: number;
  readonly salt: Buffer;
}

/**
 * Where each level of hashes lies, that of the data first: the file has the topmost first. One block of data has none.
 *
 * @returns Offsets in units of blocks from the beginning of the tree, and how many blocks there are in all.
 * @source Linux Documentation/admin-guide/device-mapper/verity.rst `Hash Tree`
 */
export function planHashTree({ blockBytes, dataBlocks }: Pick<HashTreeOrder, "blockBytes" | "dataBlocks">): {
  readonly levels: readonly number[];
  readonly blocks: number;
} {
  const perBlock = blockBytes / digestBytes;
  const counts: number[] = [];
  for (let count = dataBlocks; count > 1; ) {
    count = Math.ceil(count / perBlock);
    counts.push(count);
  }
  let blocks = 0;
  const levels = counts.toReversed().map((count) => {
    blocks += count;
    return blocks - count;
  });
  return { levels: levels.toReversed(), blocks };
}

/**
 * Writes the hashes of all blocks of a file, and theirs in turn, into the same file. It takes memory for a block of each level, whatever
 * the size of the file.
 *
 * @param file - Open for reading and writing; its data are of `dataBlocks` whole blocks.
 * @returns The hash of the topmost block, which stands for the whole.
 * @throws {@link FlotillaError} `unknown` when the file is shorter; system errors.
 */
export async function writeHashTree(file: FileHandle, order: HashTreeOrder, signal: AbortSignal): Promise<Buffer> {
  const { blockBytes, dataBlocks } = order;
  const tree = new HashTree(file.fd, order);
  const chunk = Buffer.allocUnsafeSlow(Math.max(chunkBytes, blockBytes));
  for (let offset = 0; offset < dataBlocks * blockBytes; ) {
    signal.throwIfAborted();
    const wanted = Math.min(chunk.length, dataBlocks * blockBytes - offset);
    const { bytesRead } = await file.read(chunk, 0, wanted, offset);
    if (bytesRead !== wanted) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `cannot read data block: ${bytesRead} bytes of ${wanted} at ${offset}`,
      );
    }
    for (let block = 0; block < wanted; block += blockBytes) {
      tree.add(chunk.subarray(block, block + blockBytes));
    }
    offset += wanted;
  }
  return tree.end();
}

/** A block of hashes that is being filled. */
interface Level {
  /** Where it will stand in the file. */
  offset: number;
  readonly block: Buffer;
  used: number;
}

class HashTree {
  readonly #descriptor: number;
  readonly #levels: readonly Level[];
  /** The salt with room for a block behind it. */
  readonly #salted: Buffer;
  readonly #saltBytes: number;
  #root: Buffer = Buffer.alloc(0);

  constructor(descriptor: number, order: HashTreeOrder) {
    const { blockBytes, treeOffset, salt } = order;
    this.#descriptor = descriptor;
    this.#levels = planHashTree(order).levels.map((start) => ({
      offset: treeOffset + start * blockBytes,
      block: Buffer.alloc(blockBytes),
      used: 0,
    }));
    this.#salted = Buffer.concat([salt, Buffer.alloc(blockBytes)]);
    this.#saltBytes = salt.length;
  }

  add(block: Buffer): void {
    this.#put(0, this.#digest(block));
  }

  end(): Buffer {
    for (const [index, level] of this.#levels.entries()) {
      if (level.used > 0) {
        this.#flush(index, level);
      }
    }
    return this.#root;
  }

  #put(index: number, digest: Buffer): void {
    const level = this.#levels[index];
    if (level === undefined) {
      this.#root = digest;
      return;
    }
    level.used += digest.copy(level.block, level.used);
    if (level.used === level.block.length) {
      this.#flush(index, level);
    }
  }

  /** Writes a block, with zeros to its end, and passes its hash on. */
  #flush(index: number, level: Level): void {
    level.block.fill(0, level.used);
    writeSync(this.#descriptor, level.block, 0, level.block.length, level.offset);
    level.offset += level.block.length;
    level.used = 0;
    this.#put(index + 1, this.#digest(level.block));
  }

  #digest(block: Buffer): Buffer {
    block.copy(this.#salted, this.#saltBytes);
    return hash(algorithm, this.#salted, "buffer");
  }
}
