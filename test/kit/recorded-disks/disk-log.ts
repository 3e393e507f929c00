import { openSync, readFileSync, writeSync } from "node:fs";

/** Something that a disk was asked to do. */
export interface DiskEvent {
  readonly disk: number;
  /** Where the log ended after it, in bytes. */
  readonly position: number;
  /** What was written and where; undefined for a flush of all that was written to the disk before. */
  readonly write: { readonly offset: number; readonly data: Buffer } | undefined;
}

const headerBytes = 24;
const Kind = { Write: 1, Flush: 2 } as const;

/** Writes the log; an event is in the file when the call returns. */
export class DiskLogWriter {
  readonly #descriptor: number;

  constructor(path: string) {
    this.#descriptor = openSync(path, "a");
  }

  write(disk: number, offset: number, data: Buffer): void {
    writeSync(this.#descriptor, Buffer.concat([header(Kind.Write, disk, offset, data.length), data]));
  }

  flush(disk: number): void {
    writeSync(this.#descriptor, header(Kind.Flush, disk, 0, 0));
  }
}

function header(kind: number, disk: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt32LE(kind, 0);
  bytes.writeUInt32LE(disk, 4);
  bytes.writeBigUInt64LE(BigInt(offset), 8);
  bytes.writeUInt32LE(length, 16);
  return bytes;
}

/** Reads a whole log. */
export function readDiskLog(path: string): DiskEvent[] {
  const bytes = readFileSync(path);
  const events: DiskEvent[] = [];
  let position = 0;
  while (position < bytes.length) {
    const [kind, disk, length] = [0, 4, 16].map((offset) => bytes.readUInt32LE(position + offset));
    const offset = Number(bytes.readBigUInt64LE(position + 8));
    const end = position + headerBytes + (length ?? 0);
    const data = bytes.subarray(position + headerBytes, end);
    events.push({ disk: disk ?? 0, position: end, write: kind === Kind.Write ? { offset, data } : undefined });
    position = end;
  }
  return events;
}
