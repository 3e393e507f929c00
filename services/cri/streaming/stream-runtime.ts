import type { ByteSink, ByteSource } from "../logs/byte-streams.ts";

/** Size of a terminal in characters. */
export interface TerminalSize {
  readonly width: number;
  readonly height: number;
}

/** What a client brings for a process. What it did not ask for is absent. */
export interface ProcessStreams {
  readonly stdin?: ByteSource | undefined;
  readonly stdout?: ByteSink | undefined;
  readonly stderr?: ByteSink | undefined;
  readonly tty: boolean;
  /** Sizes of the client's terminal, as they change. */
  readonly resizes?: AsyncIterable<TerminalSize> | undefined;
}

/** Both directions of a connection to a forwarded port. */
export interface PortStream extends ByteSink {
  readonly bytes: ByteSource;
}

/** What the streaming server lets clients do. */
export interface StreamRuntime {
  /**
   * Runs a command in a container and resolves with its exit code.
   *
   * @param signal - The client has gone. The command goes on, without input.
   */
  exec(containerId: string, command: readonly string[], streams: ProcessStreams, signal: AbortSignal): Promise<number>;
  /** Follows a container until it ends or the client does. @param signal - The client has gone. */
  attach(containerId: string, streams: ProcessStreams, signal: AbortSignal): Promise<void>;
  /** Connects to a port on the loopback of a pod and hands on bytes until either side has ended. @param signal - The client has gone. */
  portForward(podId: string, port: number, stream: PortStream, signal: AbortSignal): Promise<void>;
}
