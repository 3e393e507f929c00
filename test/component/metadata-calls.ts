import assert from "node:assert/strict";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { MetadataProcess } from "./metadata-process.ts";

/** Asserts that a call is refused with a class and the whole text. */
export async function refused(kind: ErrorKind, message: string, call: Promise<unknown>): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(isFailure(error), String(error));
    assert.deepEqual([error.kind, error.message], [kind, message]);
    return true;
  });
}

export function invalid(message: string, call: Promise<unknown>): Promise<void> {
  return refused(ErrorKind.InvalidArgument, message, call);
}

export function notFound(message: string, call: Promise<unknown>): Promise<void> {
  return refused(ErrorKind.NotFound, message, call);
}

export function exists(message: string, call: Promise<unknown>): Promise<void> {
  return refused(ErrorKind.AlreadyExists, message, call);
}

/** Waits until so many events have arrived, and answers all with their namespaces and topics. */
export async function topics(process: MetadataProcess, count: number): Promise<string[]> {
  await process.neighbours.until(() => process.neighbours.events.length >= count);
  return process.neighbours.events.map(({ envelope }) => `${envelope?.namespace} ${envelope?.topic}`);
}

/** Reads a stream to its end. */
export async function collect<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const message of messages) {
    collected.push(message);
  }
  return collected;
}
