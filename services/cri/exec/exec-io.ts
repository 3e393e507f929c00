import { type ByteSink, type ByteSource, nowhere } from "../logs/byte-streams.ts";
import { type FifoReader, type FifoWriter, openFifoReader, openFifoWriter } from "../logs/fifo-end.ts";
import { type FifoPaths, makeFifoSet, removeFifoSet } from "../logs/fifo-set.ts";

/** Input and output of a process that joins a container. */
export class ExecIo implements AsyncDisposable {
  readonly paths: FifoPaths;
  readonly #stdout: FifoReader;
  readonly #stderr: FifoReader | undefined;
  #stdin: FifoWriter | undefined;
  #isClosed = false;

  private constructor(paths: FifoPaths) {
    this.paths = paths;
    this.#stdout = openFifoReader(paths.stdout);
    try {
      this.#stderr = paths.stderr === "" ? undefined : openFifoReader(paths.stderr);
    } catch (error) {
      this.#stdout.close();
      throw error;
    }
  }

  /** Makes the pipes and opens them. @param directory - Of the container, in the state that a reboot forgets. */
  static async create(
    directory: string,
    id: string,
    wishes: { readonly terminal: boolean; readonly stdin: boolean },
  ): Promise<ExecIo> {
    const paths = await makeFifoSet(directory, id, wishes);
    try {
      return new ExecIo(paths);
    } catch (error) {
      await removeFifoSet(paths);
      throw error;
    }
  }

  /**
   * Hands on what the process puts out until it and those that it left its pipes to have ended. A client that goes away does not end it: the
   * rest is forgotten, so that the process is not held up.
   */
  async follow(stdout: ByteSink = nowhere, stderr: ByteSink = nowhere): Promise<void> {
    await Promise.all([
      handOn(this.#stdout, stdout),
      this.#stderr === undefined ? stderr.end() : handOn(this.#stderr, stderr),
    ]);
  }

  /** Hands on what a client sends, until it ends, the client goes away or the process reads no more. To be called once the process runs. */
  async feed(source: ByteSource): Promise<void> {
    try {
      this.#stdin = await openFifoWriter(this.paths.stdin);
      if (this.#isClosed) {
        this.#stdin.close();
      }
      for await (const bytes of source) {
        await this.#stdin.write(bytes);
      }
      await this.#stdin.end();
    } catch {
      // Of a client that has gone nobody is to be told, and of a process that reads no more its end tells.
      this.#stdin?.close();
    }
  }

  /** Lets the pipes go and removes them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#stdin?.close();
    this.#stdout.close();
    this.#stderr?.close();
    await removeFifoSet(this.paths);
  }
}

async function handOn(reader: FifoReader, sink: ByteSink): Promise<void> {
  let hasGone = false;
  await reader.follow((bytes) => {
    if (hasGone) {
      return undefined;
    }
    return sink.write(bytes).catch(() => {
      hasGone = true;
    });
  });
  await sink.end();
}
