import { readSync } from "node:fs";
import type { ByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, succeed } from "#linux/file.ts";

/** Bytes read at a time. */
const pieceBytes = 256 * 1024;

/**
 * Reads a regular file. Nothing that took its place meanwhile is waited for, followed or read.
 *
 * @returns Pieces that are good until the next one.
 */
export function* readContent(directory: number, name: ByteString): Generator<Buffer> {
  const descriptor = openContent(directory, name);
  try {
    const piece = Buffer.allocUnsafe(pieceBytes);
    for (let read = readSync(descriptor, piece); read > 0; read = readSync(descriptor, piece)) {
      yield piece.subarray(0, read);
    }
  } finally {
    closeFile(descriptor);
  }
}

function openContent(directory: number, name: ByteString): number {
  const flags = OpenFlag.ReadOnly | OpenFlag.NoFollow | OpenFlag.NonBlocking;
  return succeed(openAt(directory, name, flags), () => `failed to open path: ${name}`);
}

/** Compares two regular files of one name and size byte by byte. */
export function sameContent(left: number, right: number, name: ByteString): boolean {
  const first = openContent(left, name);
  let second: number | undefined;
  try {
    second = openContent(right, name);
    const [before, after] = [Buffer.allocUnsafe(pieceBytes), Buffer.allocUnsafe(pieceBytes)];
    for (let position = 0; ; ) {
      const read = readSync(first, before, 0, pieceBytes, position);
      const readToo = readSync(second, after, 0, pieceBytes, position);
      if (read !== readToo || !before.subarray(0, read).equals(after.subarray(0, read))) {
        return false;
      }
      if (read === 0) {
        return true;
      }
      position += read;
    }
  } finally {
    closeFile(first);
    if (second !== undefined) {
      closeFile(second);
    }
  }
}
