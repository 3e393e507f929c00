import { mkdir, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { syncDirectory } from "#base/durable-file.ts";
import { ErrorKind, failure } from "#base/errors.ts";
import { type Record, RecordSchema } from "#gen/flotilla/events/v1/log_pb.ts";

/** A segment is closed beyond this, so that what is published twice after a crash is little. */
const segmentEventsMax = 256;
const segmentBytesMax = 4 * 1024 * 1024;
/** What may wait on disk: some hundred thousand events of shims. */
const spoolBytesMax = 64 * 1024 * 1024;
/** Length and checksum before each record. */
const headBytes = 8;
const segmentName = /^\d{16}$/;

type SegmentFile = Awaited<ReturnType<typeof open>>;

/** Events that were added and not removed yet, of one file. */
export interface Segment {
  readonly number: number;
  /** In the order in which they were added. */
  readonly records: readonly Record[];
  /** Bytes at the end that hold no whole record, which nobody was told to be kept. */
  readonly tornBytes: number;
}

interface OpenSegment {
  readonly file: SegmentFile;
  readonly number: number;
  /** How many it holds. */
  events: number;
}

interface Addition {
  readonly bytes: Buffer;
  readonly done: PromiseWithResolvers<void>;
}

/**
 * A queue of events on disk, for when they can go nowhere else. What has been added is there after a power cut, in its order.
 *
 * It is a directory of segments, files with ascending numbers as names, and each is a sequence of records: length and CRC-32 of what follows, 4 bytes
 * each, big endian, and an encoded `flotilla.events.v1.Record`. Records are added to the newest segment and taken out by whole
 * segments from the oldest. Additions that come together share one flush.
 */
export class Spool implements AsyncDisposable {
  readonly #directory: string;
  /** Numbers of the segments, oldest first, and how many bytes each has. */
  readonly #segments: Map<number, number>;
  #sizeBytes: number;
  /** The segment that is added to. */
  #newest: OpenSegment | undefined;
  #nextNumber: number;
  #additions: Addition[] = [];
  /** The last of what runs on the files, one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(directory: string, segments: Map<number, number>) {
    this.#directory = directory;
    this.#segments = segments;
    this.#sizeBytes = segments.values().reduce((sum, bytes) => sum + bytes, 0);
    this.#nextNumber = Math.max(0, ...segments.keys()) + 1;
  }

  /** Opens the spool of a directory, which is made if it is not there. */
  static async open(directory: string): Promise<Spool> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const numbers = (await readdir(directory)).filter((name) => segmentName.test(name)).map(Number);
    const segments = new Map<number, number>();
    for (const number of numbers.toSorted((one, other) => one - other)) {
      segments.set(number, (await stat(pathOf(directory, number))).size);
    }
    return new Spool(directory, segments);
  }

  /** Whether nothing is kept or being added. */
  /** What waits on disk, in bytes. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get isEmpty(): boolean {
    return this.#segments.size === 0 && this.#additions.length === 0;
  }

  /**
   * Adds an event behind all that were added before.
   *
   * @throws {@link FlotillaError} `unavailable` when the spool is full or the disk does not take it. It may be kept nevertheless.
   */
  async add(record: Record): Promise<void> {
    const payload = toBinary(RecordSchema, record);
    const bytes = Buffer.allocUnsafe(headBytes + payload.byteLength);
    bytes.writeUInt32BE(payload.byteLength, 0);
    bytes.writeUInt32BE(crc32(payload), 4);
    bytes.set(payload, headBytes);
    if (this.#sizeBytes + bytes.length > spoolBytesMax) {
      throw failure(ErrorKind.Unavailable, `${this.#sizeBytes} bytes of events wait on disk already`);
    }
    this.#sizeBytes += bytes.length;
    const addition = { bytes, done: Promise.withResolvers<void>() };
    this.#additions.push(addition);
    if (this.#additions.length === 1) {
      void this.#exclusively(() => this.#writeAdditions());
    }
    await addition.done.promise;
  }

  /** Reads the oldest segment, to which nothing is added from now on; undefined when there is none. */
  oldest(): Promise<Segment | undefined> {
    return this.#exclusively(async () => {
      const [number] = this.#segments.keys();
      if (number === undefined) {
        return undefined;
      }
      if (number === this.#newest?.number) {
        await this.#closeNewest();
      }
      return parseSegment(number, await readFile(pathOf(this.#directory, number)));
    });
  }

  /** Removes a segment whose events are elsewhere. */
  remove({ number }: Segment): Promise<void> {
    return this.#exclusively(async () => {
      await rm(pathOf(this.#directory, number), { force: true });
      await syncDirectory(this.#directory);
      this.#sizeBytes -= this.#segments.get(number) ?? 0;
      this.#segments.delete(number);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#exclusively(() => this.#closeNewest());
  }

  /** Writes all additions that wait. Never rejects: who added is told. */
  async #writeAdditions(): Promise<void> {
    let additions: readonly Addition[] = [];
    try {
      const segment = (this.#newest ??= await this.#create());
      additions = this.#takeAdditions();
      const bytes = Buffer.concat(additions.map((addition) => addition.bytes));
      const sizeBytes = (this.#segments.get(segment.number) ?? 0) + bytes.length;
      this.#segments.set(segment.number, sizeBytes);
      await segment.file.appendFile(bytes);
      await segment.file.datasync();
      segment.events += additions.length;
      if (segment.events >= segmentEventsMax || sizeBytes >= segmentBytesMax) {
        await this.#closeNewest();
      }
      additions.forEach(({ done }) => done.resolve());
    } catch (error) {
      // What follows must not stand behind a torn record.
      await this.#closeNewest().catch(() => undefined);
      const refusal = failure(ErrorKind.Unavailable, "events can't be kept on disk", { cause: error });
      for (const { bytes, done } of additions.length > 0 ? additions : this.#takeAdditions()) {
        this.#sizeBytes -= additions.length > 0 ? 0 : bytes.length;
        done.reject(refusal);
      }
    }
  }

  #takeAdditions(): Addition[] {
    const additions = this.#additions;
    this.#additions = [];
    return additions;
  }

  async #create(): Promise<OpenSegment> {
    const number = this.#nextNumber;
    const file = await open(pathOf(this.#directory, number), "wx", 0o600);
    this.#nextNumber++;
    try {
      await syncDirectory(this.#directory);
    } catch (error) {
      await file.close();
      throw error;
    }
    return { file, number, events: 0 };
  }

  async #closeNewest(): Promise<void> {
    const newest = this.#newest;
    this.#newest = undefined;
    await newest?.file.close();
  }

  #exclusively<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#last.then(act);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

function pathOf(directory: string, number: number): string {
  return `${directory}/${String(number).padStart(16, "0")}`;
}

/** Reads records up to the first that is not whole. */
function parseSegment(number: number, bytes: Buffer): Segment {
  const records: Record[] = [];
  let offset = 0;
  while (offset + headBytes <= bytes.length) {
    const end = offset + headBytes + bytes.readUInt32BE(offset);
    const payload = bytes.subarray(offset + headBytes, end);
    if (end > bytes.length || crc32(payload) !== bytes.readUInt32BE(offset + 4)) {
      break;
    }
    records.push(fromBinary(RecordSchema, payload));
    offset = end;
  }
  return { number, records, tornBytes: bytes.length - offset };
}
