/** The server's table of header fields, as far as a client must know it. */
export class HeaderTable {
  isThere = true;
  /** Fields put into it so far; they are few enough that none is put out. */
  inserted = 0;
  /** Whether a block has been sent. */
  isBegun = false;

  limit(bytes: number): void {
    this.isThere = bytes > 0;
  }
}

/** The header block of one request: in full, and by references once the server has it in its table. */
export class RequestHeaders {
  readonly #table: HeaderTable;
  readonly #fields: readonly (readonly [name: string, value: string])[];
  /** Where in the order of insertions its first field is. */
  #firstInsertion: number | undefined;
  #later: { readonly inserted: number; readonly block: Buffer } | undefined;

  constructor(table: HeaderTable, path: string, namespace: string) {
    this.#table = table;
    this.#fields = requestFields(path, namespace);
  }

  /** The block for the next request on the connection. */
  next(): Buffer {
    const { inserted } = this.#table;
    const first = this.#firstInsertion;
    if (first === undefined) {
      return this.#inFull();
    }
    if (this.#later?.inserted !== inserted) {
      const block = this.#table.isThere
        ? Buffer.from(this.#fields.map((_, index) => 0x80 | (61 + inserted - first - index)))
        : Buffer.concat(this.#fields.map(([name, value]) => literalField(0, name, value)));
      this.#later = { inserted, block };
    }
    return this.#later.block;
  }

  #inFull(): Buffer {
    const table = this.#table;
    this.#firstInsertion = table.inserted;
    // A server that wants no table is owed the update that says so, before its first block. RFC 7541, 4.2.
    const update = table.isThere || table.isBegun ? Buffer.alloc(0) : Buffer.from([0x20]);
    table.isBegun = true;
    if (table.isThere) {
      table.inserted += this.#fields.length;
    }
    const kind = table.isThere ? 0x40 : 0;
    return Buffer.concat([update, ...this.#fields.map(([name, value]) => literalField(kind, name, value))]);
  }
}

/** @source RFC 7541, 6.2 */
function literalField(kind: number, name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([kind, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

function requestFields(path: string, namespace: string): [name: string, value: string][] {
  return [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["user-agent", "flotilla-bench"],
    ["te", "trailers"],
    ["containerd-namespace", namespace],
  ];
}
