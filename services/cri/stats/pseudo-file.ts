import { readFileSync } from "node:fs";

/**
 * Reads a file of the kernel at once: it waits for no disk, and hundreds of them are read for one answer.
 *
 * @returns undefined when it is not there, or what it tells of has gone.
 */
export function readPseudoFile(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
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
