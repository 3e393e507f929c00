import { closeSync, openSync, readFileSync, readSync } from "node:fs";

/** What most files of the kernel fit into. One for all, since Node.js would take as much from the machine for each file of which it is not told the size. */
const place = Buffer.allocUnsafeSlow(16 * 1024);

/**
 * Reads a file of the kernel at once: it waits for no disk, and hundreds of them are read for one answer.
 *
 * @returns undefined when it is not there, or what it tells of has gone.
 */
export function readPseudoFile(path: string): string | undefined {
  try {
    const descriptor = openSync(path, "r");
    try {
      return readInto(place, descriptor) ?? readFileSync(path, "latin1");
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return undefined;
  }
}

/** @returns undefined for what does not fit. */
function readInto(buffer: Buffer, descriptor: number): string | undefined {
  let end = 0;
  while (end < buffer.length) {
    const readBytes = readSync(descriptor, buffer, end, buffer.length - end, null);
    if (readBytes === 0) {
      return buffer.toString("latin1", 0, end);
    }
    end += readBytes;
  }
  return undefined;
}

/** A number in a file; undefined for `max`, too. */
export function numberIn(path: string): bigint | undefined {
  const text = readPseudoFile(path)?.trim() ?? "";
  return /^\d+$/.test(text) ? BigInt(text) : undefined;
}

/** Numbers by their names. Those that are not there are 0. */
export type FigureTable = (name: string) => bigint;

/** The numbers of a file with a name and a number on each line. */
export function tableIn(path: string): FigureTable | undefined {
  const text = readPseudoFile(path);
  if (text === undefined) {
    return undefined;
  }
  const lines = `\n${text}`;
  return (name) => {
    const key = `\n${name} `;
    const start = lines.indexOf(key);
    if (start < 0) {
      return 0n;
    }
    const end = lines.indexOf("\n", start + key.length);
    const value = lines.slice(start + key.length, end < 0 ? undefined : end);
    return /^\d+$/.test(value) ? BigInt(value) : 0n;
  };
}
