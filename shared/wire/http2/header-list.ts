import { callHeader } from "../call-id.ts";
import { FieldForm, HeaderDecoder } from "./header-decoder.ts";
import { HeaderBlockBuilder } from "./header-encoder.ts";
import { headerListBytesMax } from "./limits.ts";
import { type RequestHead, readRequestHead } from "./request-head.ts";

/** Larger blocks are seldom the same twice. */
const cachedBlockBytesMax = 1024;
const cachedBlocksMax = 256;
const indexedBlocksMax = 64;

/** What a header block says. It may stand for many blocks that are the same, so it never changes. */
export class HeaderList {
  /** The fields encoded so that they mean the same on every connection. */
  readonly block: Buffer;
  /** Name, value, name, value, ...; empty when they are too many. */
  readonly fields: readonly string[];
  /** Whether there is more than SETTINGS_MAX_HEADER_LIST_SIZE allows. */
  readonly isTooLarge: boolean;
  #request: RequestHead | undefined;

  constructor(block: Buffer, fields: readonly string[], isTooLarge: boolean) {
    this.block = block;
    this.fields = fields;
    this.isTooLarge = isTooLarge;
  }

  /** First value of a field, by its lower-case name. */
  find(name: string): string | undefined {
    const { fields } = this;
    for (let at = 0; at < fields.length; at += 2) {
      if (fields[at] === name) {
        return fields[at + 1];
      }
    }
    return undefined;
  }

  /** The fields as the head of a request. */
  get request(): RequestHead {
    this.#request ??= readRequestHead(this);
    return this.#request;
  }
}

/**
 * Lists by the bytes of the blocks that said them. The calls of a client differ little in their headers, so most blocks need
 * not be read at all.
 */
class ListCache {
  readonly #lists = new Map<string, HeaderList>();
  readonly #countMax: number;

  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  find(block: string): HeaderList | undefined {
    return this.#lists.get(block);
  }

  add(block: string, list: HeaderList): void {
    if (this.#lists.size >= this.#countMax) {
      for (const oldest of this.#lists.keys()) {
        this.#lists.delete(oldest);
        break;
      }
    }
    this.#lists.set(block, list);
  }

  clear(): void {
    this.#lists.clear();
  }
}

/** Of blocks that mean the same on every connection. */
const statelessLists = new ListCache(cachedBlocksMax);

/** Reads the header blocks of one connection, in their order. */
export class HeaderReader {
  readonly #decoder = new HeaderDecoder();
  /** Of blocks that mean something as long as the table stays as it is. */
  readonly #indexedLists = new ListCache(indexedBlocksMax);
  #indexedAtChange = 0;
  /** Whether exactly the bytes that were read last may be forwarded, so that the frames around them can be forwarded too. */
  isVerbatim = false;
  #neededTable = false;

  /** Forbids larger tables than this, once the peer has acknowledged the setting. */
  limitTable(tableBytesMax: number): void {
    this.#decoder.limitTable(tableBytesMax);
  }

  /**
   * Reads a block to its end.
   *
   * @throws ConnectionFault when the block is malformed.
   */
  read(block: Buffer, start: number, end: number): HeaderList {
    const decoder = this.#decoder;
    decoder.begin(block, start, end);
    const fieldsStart = decoder.at;
    if (end - fieldsStart > cachedBlockBytesMax) {
      return this.#decode(block, start, end);
    }
    const key = block.toString("latin1", fieldsStart, end);
    const stateless = statelessLists.find(key);
    if (stateless !== undefined) {
      this.isVerbatim = fieldsStart === start;
      return stateless;
    }
    if (this.#indexedAtChange === decoder.tableChanges) {
      const indexed = this.#indexedLists.find(key);
      if (indexed !== undefined) {
        this.isVerbatim = false;
        return indexed;
      }
    }
    const changes = decoder.tableChanges;
    const list = this.#decode(block, start, end);
    if (list.find(callHeader) !== undefined) {
      return list;
    }
    if (!this.#neededTable) {
      statelessLists.add(key, list);
    } else if (changes === decoder.tableChanges) {
      this.#rememberIndexed(key, list, changes);
    }
    return list;
  }

  #rememberIndexed(key: string, list: HeaderList, changes: number): void {
    if (this.#indexedAtChange !== changes) {
      this.#indexedLists.clear();
      this.#indexedAtChange = changes;
    }
    this.#indexedLists.add(key, list);
  }

  #decode(block: Buffer, start: number, end: number): HeaderList {
    const decoder = this.#decoder;
    const fieldsStart = decoder.at;
    const fields: string[] = [];
    let builder: HeaderBlockBuilder | undefined;
    while (decoder.next()) {
      if (decoder.listBytes > headerListBytesMax) {
        continue;
      }
      const { name, value } = decoder;
      fields.push(name, value);
      if (decoder.needsTable) {
        if (builder === undefined) {
          builder = new HeaderBlockBuilder();
          builder.addEncoded(block, fieldsStart, decoder.fieldStart);
        }
        builder.add(name, value, decoder.form === FieldForm.NeverIndexed ? 0x10 : 0x00);
      } else {
        builder?.addEncoded(block, decoder.fieldStart, decoder.at);
      }
    }
    const isTooLarge = decoder.listBytes > headerListBytesMax;
    this.#neededTable = builder !== undefined;
    this.isVerbatim = builder === undefined && fieldsStart === start;
    if (isTooLarge) {
      return new HeaderList(Buffer.alloc(0), [], true);
    }
    return new HeaderList(builder?.build() ?? Buffer.from(block.subarray(fieldsStart, end)), fields, false);
  }
}
