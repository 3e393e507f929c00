import { systemErrorCode } from "#base/errors.ts";
import { Attachment } from "./attachment.ts";
import type { ByteSink, ByteSource } from "./byte-streams.ts";
import { ContainerLog } from "./container-log.ts";
import { type FifoReader, type FifoWriter, openFifoReader, openFifoWriter } from "./fifo-end.ts";
import { type FifoPaths, makeFifoSet, removeFifoSet } from "./fifo-set.ts";
import type { LogStream } from "./log-lines.ts";

/** A client that follows a container. What it does not want is absent. */
export interface AttachedClient {
  readonly stdin?: ByteSource | undefined;
  readonly stdout?: ByteSink | undefined;
  readonly stderr?: ByteSink | undefined;
}

/** What is to be known of a container before its pipes are made. */
export interface ContainerIoOptions {
  readonly id: string;
  /** Of the container, in the state that a reboot forgets. */
  readonly stateDirectory: string;
  readonly tty: boolean;
  /** Whether the container reads what clients send. */
  readonly stdin: boolean;
  /** Is told when entries of the log could not be written; the container goes on. */
  readonly onLogFailure: (error: unknown) => void;
}

/**
 * Input and output of one container: the named pipes that its shim knows, the log, and the clients that are attached.
 *
 * The shim holds both ends of the pipes as well, so that a container neither gets a signal nor loses output when this process dies: it waits
 * as soon as the pipe is full, until {@link recoverContainerIo} goes on reading. What a container puts out last waits there too, since `tasks` holds the
 * pipes until the task is deleted. Output is read as fast as the log and the clients take it.
 *
 * @source containerd v2.3.4 internal/cri/io/container_io.go `ContainerIO`; cmd/containerd-shim-runc-v2/process/io.go `copyPipes`
 */
export class ContainerIo {
  readonly paths: FifoPaths;
  readonly #onLogFailure: (error: unknown) => void;
  readonly #readers: ReadonlyMap<LogStream, FifoReader>;
  readonly #attachments: Readonly<Record<LogStream, Set<Attachment>>> = { stdout: new Set(), stderr: new Set() };
  readonly #over = Promise.withResolvers<void>();
  #log: ContainerLog | undefined;
  #stdin: FifoWriter | undefined;
  /** The same while the shim has not opened its end. */
  #openingStdin: Promise<FifoWriter> | undefined;
  #isStdinEnded = false;
  #isStarted = false;
  #isOver = false;
  /**
   * @param hadWriter - Whether the shim has opened the pipes already.
   * @throws When one of the pipes is not there.
   */
  constructor(paths: FifoPaths, onLogFailure: (error: unknown) => void, hadWriter: boolean) {
    this.paths = paths;
    this.#onLogFailure = onLogFailure;
    const readers = new Map<LogStream, FifoReader>();
    try {
      for (const stream of ["stdout", "stderr"] as const) {
        if (paths[stream] !== "") {
          readers.set(stream, openFifoReader(paths[stream], { hadWriter }));
        }
      }
    } catch (error) {
      for (const reader of readers.values()) {
        reader.close();
      }
      throw error;
    }
    this.#readers = readers;
  }

  /**
   * Begins to read. To be called once.
   *
   * @param logPath - File of the log, whose directory must be there; empty for none.
   * @param lineBytesMax - Longest line of it; 0 or less for no limit.
   * @throws When the log can't be opened; nothing has been read then, and it may be called again.
   */
  startLog(logPath: string, lineBytesMax: number): void {
    if (this.#isStarted) {
      throw new Error("the output is read already");
    }
    if (logPath !== "") {
      this.#log = new ContainerLog(logPath, { lineBytesMax, onFailure: this.#onLogFailure });
    }
    this.#isStarted = true;
    void Promise.all(Array.from(this.#readers, ([stream, reader]) => this.#pump(stream, reader))).then(() =>
      this.#finish(),
    );
  }

  /**
   * Goes on in a new file of the log, if there is one.
   *
   * @throws When it can't be opened; the old one stays in use.
   */
  reopenLog(): void {
    this.#log?.reopen();
  }

  /**
   * Lets a client follow the container until its output ends, the client goes away, or its input ends; the end of its input leaves output
   * alone where it also ends the container's.
   *
   * @param closeStdin - Ends the container's input at the shim. Called at the end of the client's input, if given.
   * @param signal - Lets the client go.
   * @throws When the client is so slow that it was let go of.
   * @source containerd v2.3.4 internal/cri/io/container_io.go `Attach`
   */
  async attach(
    client: AttachedClient,
    { closeStdin, signal }: { readonly closeStdin?: (() => Promise<void>) | undefined; readonly signal: AbortSignal },
  ): Promise<void> {
    const attachments = [
      ...(client.stdout === undefined ? [] : [this.#attach("stdout", client.stdout)]),
      ...(client.stderr === undefined || this.paths.terminal ? [] : [this.#attach("stderr", client.stderr)]),
    ];
    const detach = (): void => {
      for (const attachment of attachments) {
        attachment.end();
      }
    };
    signal.addEventListener("abort", detach, { once: true });
    if (signal.aborted) {
      detach();
    }
    const input = this.#takeStdin(client.stdin).then(async (hasEnded) => {
      if (!hasEnded) {
        return;
      }
      if (closeStdin === undefined) {
        detach();
      } else {
        await this.#endStdin();
        await closeStdin();
      }
    });
    try {
      await Promise.all(attachments.map(({ ended }) => ended));
      if (attachments.length === 0) {
        await input;
      }
    } finally {
      signal.removeEventListener("abort", detach);
      detach();
      // The client's input is closed by whoever serves it; what it still does concerns nobody here.
      input.catch(() => undefined);
    }
  }

  /**
   * Waits until all output is in the log and on its way to the clients: the container and whoever holds its pipes has ended, or `close` was
   * called. Never rejects, and has no limit of its own.
   */
  drained(): Promise<void> {
    return this.#over.promise;
  }

  /** Stops reading and removes the pipes. For a container whose task is gone. */
  async close(): Promise<void> {
    this.#stdin?.close();
    for (const reader of this.#readers.values()) {
      reader.close();
    }
    if (!this.#isStarted) {
      this.#finish();
    }
    await this.drained();
    await removeFifoSet(this.paths);
  }

  #attach(stream: LogStream, sink: ByteSink): Attachment {
    const attachment = new Attachment(sink);
    if (this.#isOver) {
      attachment.end();
    } else {
      this.#attachments[stream].add(attachment);
    }
    return attachment;
  }

  async #pump(stream: LogStream, reader: FifoReader): Promise<void> {
    const attachments = this.#attachments[stream];
    await reader.follow((bytes) => {
      this.#log?.write(stream, bytes);
      const waits: Promise<void>[] = [];
      for (const attachment of attachments) {
        if (attachment.isClosed) {
          attachments.delete(attachment);
        } else {
          waits.push(attachment.write(bytes));
        }
      }
      return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
    });
    this.#log?.endStream(stream);
    for (const attachment of attachments) {
      attachment.end();
    }
  }

  #finish(): void {
    this.#isOver = true;
    for (const attachment of [...this.#attachments.stdout, ...this.#attachments.stderr]) {
      attachment.end();
    }
    this.#stdin?.close();
    this.#log?.close();
    this.#over.resolve();
  }

  /** Hands on what a client sends. Tells whether the client has ended its input while the container still read. */
  async #takeStdin(source: ByteSource | undefined): Promise<boolean> {
    if (source === undefined || this.paths.stdin === "" || this.#isStdinEnded || this.#isOver) {
      return false;
    }
    try {
      const stdin = await this.#openStdin();
      for await (const bytes of source) {
        await stdin.write(bytes);
      }
      return true;
    } catch (error) {
      if (systemErrorCode(error) === "ENXIO") {
        // The shim has closed its end: the container reads no more.
        this.#isStdinEnded = true;
      }
      return false;
    }
  }

  async #openStdin(): Promise<FifoWriter> {
    this.#openingStdin ??= openFifoWriter(this.paths.stdin);
    try {
      this.#stdin = await this.#openingStdin;
    } catch (error) {
      this.#openingStdin = undefined;
      throw error;
    }
    if (this.#isOver || this.#isStdinEnded) {
      this.#stdin.close();
    }
    return this.#stdin;
  }

  async #endStdin(): Promise<void> {
    this.#isStdinEnded = true;
    await this.#stdin?.end();
  }
}

/**
 * Makes and opens the pipes of a container that is about to be created.
 *
 * @throws When that fails; nothing is left then.
 */
export async function openContainerIo(options: ContainerIoOptions): Promise<ContainerIo> {
  const paths = await makeFifoSet(options.stateDirectory, options.id, {
    terminal: options.tty,
    stdin: options.stdin,
  });
  try {
    return new ContainerIo(paths, options.onLogFailure, false);
  } catch (error) {
    await removeFifoSet(paths);
    throw error;
  }
}

/**
 * Opens the pipes of a container that was started before this process. Where it has ended since, what is left in them is read.
 *
 * @param paths - As its task tells them.
 * @throws When they are not there.
 */
export function recoverContainerIo(paths: FifoPaths, options: Pick<ContainerIoOptions, "onLogFailure">): ContainerIo {
  return new ContainerIo(paths, options.onLogFailure, true);
}
