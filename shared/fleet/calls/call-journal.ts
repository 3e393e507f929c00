import { closeSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import type { CallId } from "#wire/call-id.ts";

/** How large a file grows before a new one is begun; one before it is kept. Decision: some thousand calls each, far more than are under way. */
const fileBytesMax = 1024 * 1024;

/** How long an answer may be that is kept. Those of changes have some dozen bytes; what a command has put out is longer. */
const answerBytesMax = 64 * 1024;

/** What is known of a call that a former process had. */
export interface PastCall {
  /** The answer, if there was one; if not, nobody knows how far the call came. */
  readonly answer: Buffer | undefined;
  /** What was noted of it. */
  readonly note: unknown;
}

/** One line: what happened to a call. */
const Mark = { Since: "S", Begun: "B", Noted: "N", Answered: "A", Failed: "F" } as const;

/**
 * Which calls that change something were begun, and how they ended, so that one that is made again after the death of this process is not
 * carried out twice.
 *
 * Nothing is flushed: what was written outlives the process, and no container outlives the machine.
 */
export class CallJournal {
  readonly #path: string;
  readonly #underWay = new Map<string, unknown>();
  #file: number;
  #sizeBytes: number;

  private constructor(path: string, file: number, sizeBytes: number) {
    this.#path = path;
    this.#file = file;
    this.#sizeBytes = sizeBytes;
  }

  /** Opens the journal of a file, which goes on where a former process has left it. */
  static open(path: string): CallJournal {
    const file = openSync(path, "a", 0o600);
    const journal = new CallJournal(path, file, readIfThere(path).length);
    // The last line may be half a line, which an empty one ends.
    journal.#write(journal.#sizeBytes === 0 ? [Mark.Since, String(Date.now())] : []);
    return journal;
  }

  /** Writes down that a call begins, before it changes anything. */
  begin(id: string): void {
    if (this.#sizeBytes > fileBytesMax) {
      this.#beginFile();
    }
    this.#write([Mark.Begun, id]);
    this.#underWay.set(id, undefined);
  }

  /** Writes down what has to be known of a call that is under way when it is made again. */
  note(id: string, note: unknown): void {
    this.#underWay.set(id, note);
    this.#write([Mark.Noted, id, encode(note)]);
  }

  /** Writes down the answer of a call, before it goes out. Of one that is long it is only known then that the call was under way. */
  answered(id: string, answer: Uint8Array): void {
    this.#underWay.delete(id);
    if (answer.length > answerBytesMax) {
      return;
    }
    this.#write([Mark.Answered, id, Buffer.from(answer).toString("base64")]);
  }

  /** Writes down that a call has failed, and that all it had done is undone. */
  failed(id: string): void {
    this.#underWay.delete(id);
    this.#write([Mark.Failed, id]);
  }

  /**
   * What became of a call that is made again.
   *
   * @returns undefined when nothing was done.
   * @throws {@link FlotillaError} `unavailable` when the call is so old that it may have been forgotten.
   */
  recall({ id, repeatedAfterMs = 0 }: CallId): PastCall | undefined {
    const lines = [`${this.#path}.1`, this.#path].flatMap((path) => readIfThere(path).split("\n"));
    let past: PastCall | undefined;
    let isKnown = false;
    for (const line of lines) {
      const [mark, of, text = ""] = line.split(" ", 3);
      if (of === id) {
        isKnown = true;
        past = readMark(past, mark, text);
      }
    }
    const [, sinceMs] = (lines.find((line) => line.startsWith(Mark.Since)) ?? "").split(" ");
    if (!isKnown && Date.now() - repeatedAfterMs < Number(sinceMs) && this.#hasForgotten()) {
      throw failure(
        ErrorKind.Unavailable,
        "nobody knows any more whether the call was carried out before its process died",
      );
    }
    return past;
  }

  close(): void {
    closeSync(this.#file);
  }

  #hasForgotten(): boolean {
    return readIfThere(`${this.#path}.1`) !== "";
  }

  #beginFile(): void {
    renameSync(this.#path, `${this.#path}.1`);
    const file = openSync(this.#path, "a", 0o600);
    closeSync(this.#file);
    this.#file = file;
    this.#sizeBytes = 0;
    this.#write([Mark.Since, String(Date.now())]);
    for (const [id, note] of this.#underWay) {
      this.#write([Mark.Begun, id]);
      if (note !== undefined) {
        this.#write([Mark.Noted, id, encode(note)]);
      }
    }
  }

  #write(words: readonly string[]): void {
    this.#sizeBytes += writeSync(this.#file, `${words.join(" ")}\n`);
  }
}

function readMark(past: PastCall | undefined, mark: string | undefined, text: string): PastCall | undefined {
  switch (mark) {
    case Mark.Begun:
      return past ?? { answer: undefined, note: undefined };
    case Mark.Noted:
      return { answer: undefined, note: JSON.parse(Buffer.from(text, "base64").toString()) as unknown };
    case Mark.Answered:
      return { answer: Buffer.from(text, "base64"), note: undefined };
    case Mark.Failed:
      return undefined;
    default:
      return past;
  }
}

function encode(note: unknown): string {
  return Buffer.from(JSON.stringify(note)).toString("base64");
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return "";
    }
    throw error;
  }
}
