import { closeSync, constants, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import type { CallObject } from "./call-object.ts";

/** One line of the audit. Of a message it has what names the object of the call, and nothing else. */
export interface AuditRecord {
  /** RFC 3339. */
  readonly time: string;
  /** Who: ids of a user, or names of a certificate, and where from. */
  readonly who: object;
  readonly namespace: string;
  /** `package.Service/Method`. */
  readonly method: string;
  /** What the call is about, by the fields of its request; undefined for one that was refused, or whose request can't be read. */
  readonly object: CallObject | undefined;
  /** The rule that let it in, or kept it out. */
  readonly rule: string | undefined;
  /** How it ended: the name of a gRPC code, `ok` among them. */
  readonly outcome: string;
  readonly durMs: number;
}

export interface AuditLogOptions {
  readonly path: string;
  /** When the file has become as large it is put aside as `<path>.1`, in place of the one before. */
  readonly bytesMax: number;
  /** Told once, until a record can be written again. */
  onFailure(error: unknown): void;
}

const fileMode = 0o600;

/**
 * A file of records, one line of JSON each, appended as calls end. A record survives the death of every process, and not a power cut: nobody waits for
 * the disk.
 */
export class AuditLog implements Disposable {
  readonly #options: AuditLogOptions;
  #descriptor: number;
  #sizeBytes: number;
  #hasFailed = false;

  /** @throws A system error when the file can't be opened. */
  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#descriptor = openLog(options.path);
    this.#sizeBytes = fstatSync(this.#descriptor).size;
  }

  write(record: AuditRecord): void {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    try {
      if (this.#sizeBytes > 0 && this.#sizeBytes + line.length > this.#options.bytesMax) {
        this.#turn();
      }
      writeSync(this.#descriptor, line);
      this.#sizeBytes += line.length;
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed) {
        this.#hasFailed = true;
        this.#options.onFailure(error);
      }
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }

  #turn(): void {
    const { path } = this.#options;
    renameSync(path, `${path}.1`);
    const next = openLog(path);
    closeSync(this.#descriptor);
    this.#descriptor = next;
    this.#sizeBytes = 0;
  }
}

function openLog(path: string): number {
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
  return openSync(path, O_APPEND | O_CREAT | O_NOFOLLOW | O_WRONLY, fileMode);
}
