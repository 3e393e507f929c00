import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { ByteString } from "#linux/bytes.ts";
import { attributesOf, mergePaxRecords, type PaxRecords, parsePaxRecords } from "./pax.ts";
import { SparseContent } from "./sparse-content.ts";
import { ContentMapCollector, findSparseFormat, mergeSparseRecords, parseRecordMap } from "./sparse-map.ts";
import { blockBytes, hasNoContent, MemberType, specialBytesMax, type TarMember } from "./tar-format.ts";
import { invalidHeader, parseHeader, parseText, type RawHeader } from "./tar-header.ts";
import type { TarSink } from "./tar-sink.ts";

const State = { Header: 0, Special: 1, SparseMap: 2, Content: 3, Padding: 4, Done: 5 } as const;
type State = (typeof State)[keyof typeof State];

const noRecords: PaxRecords = new Map();

/**
 * Takes an archive apart as its bytes arrive, without copying content and without waiting for anything.
 *
 * Understands V7, ustar, pax and GNU archives with long names, numbers in base 256 and pax sparse files, and is as strict as
 * the reader of Go's library, which containerd uses: what that one refuses is refused here with the same words. What comes after
 * the two blocks of zeros at the end is passed over.
 *
 * The libraries of npm do not fit: they make a stream for each member, which costs more than writing the file, and they take
 * names for UTF-8, which destroys those that are not.
 *
 * @source Go archive/tar reader.go
 */
export class TarReader {
  readonly #sink: TarSink;
  #state: State = State.Header;
  /** A header, or a block of a sparse map, that arrives in several chunks. */
  readonly #block = Buffer.alloc(blockBytes);
  #blockFilled = 0;
  #sawZeroBlock = false;
  /** Bytes that are still missing from the present body or content, and the padding after it. */
  #bytesLeft = 0;
  #paddingLeft = 0;
  #special: { readonly type: string; readonly body: Buffer; filled: number } | undefined;
  #records: PaxRecords = noRecords;
  #longName: ByteString | "" = "";
  #longLink: ByteString | "" = "";
  #member: TarMember | undefined;
  #sparseMap: ContentMapCollector | undefined;
  #sparse: SparseContent | undefined;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /**
   * Takes the next bytes of the archive.
   *
   * @throws {@link FlotillaError} for what is no archive, and whatever the sink throws. The reader is of no use after that.
   */
  write(chunk: Buffer): void {
    let offset = 0;
    while (offset < chunk.length) {
      switch (this.#state) {
        case State.Header:
        case State.SparseMap:
          offset = this.#takeBlock(chunk, offset);
          break;
        case State.Special:
          offset = this.#takeSpecial(chunk, offset);
          break;
        case State.Content:
          offset = this.#takeContent(chunk, offset);
          break;
        case State.Padding:
          offset = this.#takePadding(chunk, offset);
          break;
        case State.Done:
          return;
      }
    }
  }

  /**
   * Says that there are no more bytes. An archive may end without blocks of zeros, but not inside a header or content.
   *
   * @throws {@link FlotillaError} `unexpected EOF` when it is cut short.
   */
  end(): void {
    const isCut =
      this.#blockFilled > 0 ||
      this.#state === State.SparseMap ||
      ((this.#state === State.Content || this.#state === State.Special) && this.#bytesLeft > 0);
    if (isCut) {
      throw cutShort();
    }
  }

  /** Collects a whole block, in place if the chunk has it, and hands it on. */
  #takeBlock(chunk: Buffer, offset: number): number {
    if (this.#blockFilled === 0 && chunk.length - offset >= blockBytes) {
      this.#readBlock(chunk, offset);
      return offset + blockBytes;
    }
    const copied = chunk.copy(this.#block, this.#blockFilled, offset, offset + blockBytes - this.#blockFilled);
    this.#blockFilled += copied;
    if (this.#blockFilled === blockBytes) {
      this.#blockFilled = 0;
      this.#readBlock(this.#block, 0);
    }
    return offset + copied;
  }

  #readBlock(block: Buffer, offset: number): void {
    if (this.#state === State.SparseMap) {
      this.#readSparseMap(block, offset);
    } else {
      this.#readHeader(block, offset);
    }
  }

  #readHeader(block: Buffer, offset: number): void {
    if (block[offset] === 0 && isZero(block, offset)) {
      if (this.#sawZeroBlock) {
        this.#state = State.Done;
      }
      this.#sawZeroBlock = true;
      return;
    }
    if (this.#sawZeroBlock) {
      throw invalidHeader();
    }
    const header = parseHeader(block, offset);
    switch (header.type) {
      case MemberType.PaxHeader:
      case MemberType.PaxGlobalHeader:
      case MemberType.GnuLongName:
      case MemberType.GnuLongLink:
        this.#beginSpecial(header);
        break;
      default:
        this.#beginMember(header);
    }
  }

  #beginSpecial({ type, sizeBytes }: RawHeader): void {
    if (sizeBytes < 0) {
      throw invalidHeader();
    }
    if (sizeBytes > specialBytesMax) {
      throw new FlotillaError(ErrorKind.Unknown, "archive/tar: header field too long");
    }
    this.#special = { type, body: Buffer.allocUnsafe(sizeBytes), filled: 0 };
    this.#expect(sizeBytes, State.Special);
  }

  /** Sets how many bytes come next. */
  #expect(sizeBytes: number, state: State): void {
    this.#bytesLeft = sizeBytes;
    this.#paddingLeft = (blockBytes - (sizeBytes % blockBytes)) % blockBytes;
    this.#state = state;
    if (sizeBytes === 0) {
      this.#completeBytes();
    }
  }

  #completeBytes(): void {
    this.#state = this.#paddingLeft > 0 ? State.Padding : State.Header;
    if (this.#special === undefined) {
      this.#completeContent();
    } else {
      const { type, body } = this.#special;
      this.#special = undefined;
      this.#readSpecial(type, body);
    }
  }

  #takeSpecial(chunk: Buffer, offset: number): number {
    if (this.#special === undefined) {
      throw new TypeError("no special member is being read");
    }
    const copied = chunk.copy(this.#special.body, this.#special.filled, offset, offset + this.#bytesLeft);
    this.#special.filled += copied;
    this.#bytesLeft -= copied;
    if (this.#bytesLeft === 0) {
      this.#completeBytes();
    }
    return offset + copied;
  }

  #readSpecial(type: string, body: Buffer): void {
    switch (type) {
      case MemberType.GnuLongName:
        this.#longName = parseText(body, 0, body.length);
        break;
      case MemberType.GnuLongLink:
        this.#longLink = parseText(body, 0, body.length);
        break;
      case MemberType.PaxHeader:
        this.#records = parsePaxRecords(body);
        break;
      default:
        // A global header has to be well-formed; nobody makes use of what it says.
        parsePaxRecords(body);
    }
  }

  #beginMember(header: RawHeader): void {
    const records = this.#records;
    mergePaxRecords(header, records);
    header.name = this.#longName === "" ? header.name : this.#longName;
    header.linkName = this.#longLink === "" ? header.linkName : this.#longLink;
    this.#records = noRecords;
    this.#longName = "";
    this.#longLink = "";
    if (header.type === MemberType.RegularOld) {
      header.type = header.name.endsWith("/") ? MemberType.Directory : MemberType.Regular;
    }
    const storedBytes = hasNoContent(header.type) ? 0 : header.sizeBytes;
    if (storedBytes < 0) {
      throw invalidHeader();
    }
    const sparse = header.type === MemberType.Regular ? findSparseFormat(records) : undefined;
    if (sparse !== undefined) {
      mergeSparseRecords(header, records);
    }
    const member: TarMember = { ...header, attributes: attributesOf(records) };
    this.#member = member;
    if (sparse === "content") {
      if (storedBytes < blockBytes) {
        throw cutShort();
      }
      this.#sparseMap = new ContentMapCollector();
      this.#expect(storedBytes, State.SparseMap);
      return;
    }
    if (sparse === "records") {
      this.#sparse = new SparseContent(this.#sink, parseRecordMap(records), member, storedBytes);
    }
    this.#sink.begin(member);
    this.#expect(storedBytes, State.Content);
  }

  #readSparseMap(block: Buffer, offset: number): void {
    this.#bytesLeft -= blockBytes;
    if (this.#sparseMap === undefined || this.#member === undefined || this.#bytesLeft < 0) {
      throw cutShort();
    }
    const map = this.#sparseMap.add(block.subarray(offset, offset + blockBytes));
    if (map !== undefined) {
      this.#sparseMap = undefined;
      this.#sparse = new SparseContent(this.#sink, map, this.#member, this.#bytesLeft);
      this.#sink.begin(this.#member);
      this.#expect(this.#bytesLeft, State.Content);
    }
  }

  #takeContent(chunk: Buffer, offset: number): number {
    const length = Math.min(this.#bytesLeft, chunk.length - offset);
    if (this.#member?.type === MemberType.Regular) {
      const data = offset === 0 && length === chunk.length ? chunk : chunk.subarray(offset, offset + length);
      (this.#sparse ?? this.#sink).content(data);
    }
    this.#bytesLeft -= length;
    if (this.#bytesLeft === 0) {
      this.#completeBytes();
    }
    return offset + length;
  }

  #completeContent(): void {
    const member = this.#member;
    this.#member = undefined;
    if (member?.type === MemberType.Regular) {
      this.#sparse?.finish();
      this.#sparse = undefined;
      this.#sink.finish();
    }
  }

  #takePadding(chunk: Buffer, offset: number): number {
    const length = Math.min(this.#paddingLeft, chunk.length - offset);
    this.#paddingLeft -= length;
    if (this.#paddingLeft === 0) {
      this.#state = State.Header;
    }
    return offset + length;
  }
}

/** The error for an archive that ends too early. @source Go io.ErrUnexpectedEOF */
function cutShort(): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, "unexpected EOF");
}

function isZero(block: Buffer, offset: number): boolean {
  for (let index = offset; index < offset + blockBytes; index += 1) {
    if (block[index] !== 0) {
      return false;
    }
  }
  return true;
}
