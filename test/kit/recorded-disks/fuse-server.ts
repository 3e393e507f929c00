import { readSync, writeSync } from "node:fs";

/** A file that is served, by its place in the list. */
export interface ServedFile {
  readonly name: string;
  readonly sizeBytes: number;
  read(offset: number, length: number): Buffer;
  write(offset: number, data: Buffer): void;
  flush(): void;
}

/** Calls of the kernel that are answered. @source linux include/uapi/linux/fuse.h `enum fuse_opcode` */
const Call = {
  Lookup: 1,
  Forget: 2,
  GetAttributes: 3,
  SetAttributes: 4,
  Open: 14,
  Read: 15,
  Write: 16,
  Statfs: 17,
  Release: 18,
  Fsync: 20,
  Flush: 25,
  Init: 26,
  OpenDirectory: 27,
  ReleaseDirectory: 29,
  Interrupt: 36,
  Destroy: 38,
  BatchForget: 42,
} as const;

const inHeaderBytes = 40;
const outHeaderBytes = 16;
const writeHeaderBytes = 40;
const attributeBytes = 88;
const pageBytes = 4096;
const pagesMax = 32;
const rootNode = 1;
/** The first file has the node after the root's. */
const firstNode = 2;
const notFound = -2;
const notSupported = -38;
/** Version of the protocol that the answers are written in. */
const [major, minor] = [7, 31];
/** @source linux include/uapi/linux/fuse.h `FUSE_MAX_PAGES` */
const maxPagesFlag = 1 << 22;
/** Seconds for which the kernel need not ask again. */
const validSeconds = 3600n;

/**
 * Answers the kernel's calls for a file system of a few files of fixed size, one call after the other, until it is unmounted.
 *
 * @param device - Of `/dev/fuse`, mounted.
 * @source linux Documentation/filesystems/fuse/fuse.rst, include/uapi/linux/fuse.h
 */
export function serveFuse(device: number, files: readonly ServedFile[]): void {
  const request = Buffer.alloc(pageBytes * (pagesMax + 2));
  for (;;) {
    const length = readRequest(device, request);
    if (length === undefined) {
      return;
    }
    const [call, unique, node] = [request.readUInt32LE(4), request.readBigUInt64LE(8), request.readBigUInt64LE(16)];
    const body = request.subarray(inHeaderBytes, length);
    const answer = answerCall(call, body, files, Number(node));
    if (answer !== undefined) {
      const header = Buffer.alloc(outHeaderBytes);
      const data = typeof answer === "number" ? Buffer.alloc(0) : answer;
      header.writeUInt32LE(outHeaderBytes + data.length, 0);
      header.writeInt32LE(typeof answer === "number" ? answer : 0, 4);
      header.writeBigUInt64LE(unique, 8);
      writeSync(device, Buffer.concat([header, data]));
    }
  }
}

/** @returns the length, or undefined once the file system is unmounted. */
function readRequest(device: number, request: Buffer): number | undefined {
  for (;;) {
    try {
      return readSync(device, request);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENODEV") {
        return undefined;
      }
      // The call was withdrawn before it was read.
      if (code !== "ENOENT" && code !== "EINTR" && code !== "EAGAIN") {
        throw error;
      }
    }
  }
}

/** @returns what to answer: data, an error number below zero, or undefined for nothing. */
function answerCall(
  call: number,
  body: Buffer,
  files: readonly ServedFile[],
  node: number,
): Buffer | number | undefined {
  const file = files[node - firstNode];
  switch (call) {
    case Call.Init:
      return initAnswer();
    case Call.Lookup: {
      const name = body.toString("latin1", 0, body.indexOf(0));
      const index = files.findIndex((served) => served.name === name);
      return index === -1 ? notFound : entryAnswer(index + firstNode, files);
    }
    case Call.GetAttributes:
    case Call.SetAttributes:
      return attributesAnswer(node, files);
    case Call.Open:
    case Call.OpenDirectory:
      return Buffer.alloc(16);
    case Call.Read:
      return file?.read(Number(body.readBigUInt64LE(8)), body.readUInt32LE(16)) ?? notFound;
    case Call.Write: {
      const length = body.readUInt32LE(16);
      file?.write(Number(body.readBigUInt64LE(8)), body.subarray(writeHeaderBytes, writeHeaderBytes + length));
      const answer = Buffer.alloc(8);
      answer.writeUInt32LE(length, 0);
      return file === undefined ? notFound : answer;
    }
    case Call.Fsync:
      file?.flush();
      return 0;
    case Call.Statfs:
      return Buffer.alloc(80);
    case Call.Release:
    case Call.ReleaseDirectory:
    case Call.Flush:
    case Call.Destroy:
      return 0;
    case Call.Forget:
    case Call.BatchForget:
    case Call.Interrupt:
      return undefined;
    default:
      return notSupported;
  }
}

function initAnswer(): Buffer {
  const answer = Buffer.alloc(64);
  answer.writeUInt32LE(major, 0);
  answer.writeUInt32LE(minor, 4);
  answer.writeUInt32LE(maxPagesFlag, 12);
  answer.writeUInt32LE(pageBytes * pagesMax, 20);
  answer.writeUInt32LE(1, 24);
  answer.writeUInt16LE(pagesMax, 28);
  return answer;
}

function entryAnswer(node: number, files: readonly ServedFile[]): Buffer {
  const answer = Buffer.alloc(40);
  answer.writeBigUInt64LE(BigInt(node), 0);
  answer.writeBigUInt64LE(validSeconds, 16);
  answer.writeBigUInt64LE(validSeconds, 24);
  return Buffer.concat([answer, attributes(node, files)]);
}

function attributesAnswer(node: number, files: readonly ServedFile[]): Buffer {
  const answer = Buffer.alloc(16);
  answer.writeBigUInt64LE(validSeconds, 0);
  return Buffer.concat([answer, attributes(node, files)]);
}

function attributes(node: number, files: readonly ServedFile[]): Buffer {
  const sizeBytes = files[node - firstNode]?.sizeBytes ?? 0;
  const answer = Buffer.alloc(attributeBytes);
  answer.writeBigUInt64LE(BigInt(node), 0);
  answer.writeBigUInt64LE(BigInt(sizeBytes), 8);
  answer.writeBigUInt64LE(BigInt(Math.ceil(sizeBytes / 512)), 16);
  answer.writeUInt32LE(node === rootNode ? 0o040700 : 0o100600, 60);
  answer.writeUInt32LE(1, 64);
  answer.writeUInt32LE(pageBytes, 80);
  return answer;
}
