import { constants, inflateRawSync } from "node:zlib";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { headerDictionary, headerDictionaryChecksum } from "./header-dictionary.ts";

/** Largest block of headers in bytes, unpacked: those of Kubernetes have less than a hundred. */
const blockBytesMax = 64 * 1024;

/** How far back compressed data may point. @source RFC 1951, section 2 */
const windowBytes = 32 * 1024;

/** The header of a compressed stream that begins with a dictionary: two bytes and the checksum of the dictionary. @source RFC 1950, section 2.2 */
const streamHead = Buffer.from([0x78, 0xbb, 0, 0, 0, 0]);
streamHead.writeUInt32BE(headerDictionaryChecksum, 2);

/** Longest piece that can be stored without being compressed. @source RFC 1951, section 3.2.4 */
const storedBytesMax = 0xffff;

/** An empty stored piece, by which compressors say that all before it is to be handed on: readers in Go hold back what comes before. */
const flushMark = Buffer.from([0, 0, 0, 0xff, 0xff]);

/** Headers of a stream; names in lower case. */
export type SpdyHeaders = ReadonlyMap<string, string>;

/** A block of headers that can't be read, after which nothing of the connection can. */
function brokenBlock(why: string, cause?: unknown): FlotillaError {
  return new FlotillaError(ErrorKind.InvalidArgument, `block of headers: ${why}`, { cause });
}

/**
 * Reads the blocks of headers of one connection, which are one compressed stream that is flushed after each block.
 *
 * Each is unpacked on its own, with the end of what came before as its dictionary, so that no state of the compressor is held between them.
 *
 * @source SPDY protocol draft 3.1, section 2.6.10
 */
export class HeaderBlockReader {
  #isFirst = true;
  #window: Uint8Array = headerDictionary;

  /** @throws {@link FlotillaError} `invalid_argument` for what is no such block. */
  read(block: Uint8Array): SpdyHeaders {
    let compressed = block;
    if (this.#isFirst) {
      checkStreamHead(block);
      compressed = block.subarray(streamHead.length);
      this.#isFirst = false;
    }
    let bytes: Buffer;
    try {
      bytes = inflateRawSync(compressed, {
        dictionary: this.#window,
        finishFlush: constants.Z_SYNC_FLUSH,
        maxOutputLength: blockBytesMax,
      });
    } catch (error) {
      throw brokenBlock("does not unpack", error);
    }
    this.#window = Buffer.concat([this.#window, bytes]).subarray(-windowBytes);
    return parseHeaders(bytes);
  }
}

function checkStreamHead(block: Uint8Array): void {
  const view = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  const isZlib =
    view.length >= streamHead.length && (view.readUInt8(0) & 0x0f) === 8 && view.readUInt16BE(0) % 31 === 0;
  const hasDictionary = isZlib && (view.readUInt8(1) & 0x20) !== 0;
  if (!hasDictionary || view.readUInt32BE(2) !== headerDictionaryChecksum) {
    throw brokenBlock("does not begin with the dictionary of SPDY");
  }
}

function parseHeaders(bytes: Buffer): SpdyHeaders {
  let offset = 0;
  const number = (): number => {
    if (offset + 4 > bytes.length) {
      throw brokenBlock("ends too early");
    }
    offset += 4;
    return bytes.readUInt32BE(offset - 4);
  };
  const text = (): string => {
    const length = number();
    if (length > bytes.length - offset) {
      throw brokenBlock("ends too early");
    }
    offset += length;
    return bytes.toString("latin1", offset - length, offset);
  };
  const headers = new Map<string, string>();
  for (let left = number(); left > 0; left -= 1) {
    const name = text().toLowerCase();
    if (headers.has(name)) {
      throw brokenBlock(`has ${JSON.stringify(name)} twice`);
    }
    headers.set(name, text());
  }
  return headers;
}

/**
 * Writes the blocks of headers of one connection. They are stored, not compressed: what we have to say is four bytes long.
 */
export class HeaderBlockWriter {
  #isFirst = true;

  write(headers: SpdyHeaders): Uint8Array {
    const pieces: Uint8Array[] = [uint32(headers.size)];
    for (const [name, value] of headers) {
      for (const text of [name, value]) {
        const bytes = Buffer.from(text, "latin1");
        pieces.push(uint32(bytes.length), bytes);
      }
    }
    const bytes = Buffer.concat(pieces);
    const head = this.#isFirst ? [streamHead] : [];
    this.#isFirst = false;
    return Buffer.concat([...head, ...storedPieces(bytes), flushMark]);
  }
}

function* storedPieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += storedBytesMax) {
    const piece = bytes.subarray(offset, offset + storedBytesMax);
    const head = Buffer.alloc(5);
    head.writeUInt16LE(piece.length, 1);
    head.writeUInt16LE(~piece.length & 0xffff, 3);
    yield head;
    yield piece;
  }
}

function uint32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
