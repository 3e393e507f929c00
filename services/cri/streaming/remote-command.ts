import type { ByteSource } from "../logs/byte-streams.ts";
import { encodeStatus, type RemoteStatus } from "./remote-status.ts";
import { readResizes } from "./resizes.ts";
import type { ProcessStreams } from "./stream-runtime.ts";

/** What the client asked for when it asked for the address. */
export interface WantedStreams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** The streams of a client that has come, whatever it speaks. */
export interface RemoteCommand {
  readonly streams: ProcessStreams;
  /** Tells how it ended. Rejects when the client has gone. */
  writeStatus(status: RemoteStatus): Promise<void>;
  /** Aborts when the client has gone. */
  readonly closed: AbortSignal;
  /** Ends the connection, once the client has what was sent. */
  close(): void;
}

/** Puts the streams of a client together. */
export function remoteCommand(parts: {
  readonly wanted: WantedStreams;
  readonly stdin: ByteSource | undefined;
  readonly stdout: ProcessStreams["stdout"];
  readonly stderr: ProcessStreams["stderr"];
  readonly resize: ByteSource | undefined;
  readonly writeError: (bytes: Uint8Array) => Promise<void>;
  /** Whether the status is JSON. */
  readonly isStatusJson: boolean;
  readonly closed: AbortSignal;
  readonly close: () => void;
}): RemoteCommand {
  const { stdin, stdout, stderr, resize, closed, close } = parts;
  return {
    streams: {
      stdin,
      stdout,
      stderr,
      tty: parts.wanted.tty,
      resizes: resize === undefined ? undefined : readResizes(resize),
    },
    writeStatus: async (status) => {
      const bytes = encodeStatus(status, parts.isStatusJson);
      if (bytes.length > 0) {
        await parts.writeError(bytes);
      }
    },
    closed,
    close,
  };
}

/** Serves a client that has come: does what it came for, tells it how that ended, and lets it go. Never rejects. */
export async function serveRemoteCommand(
  command: RemoteCommand,
  act: (streams: ProcessStreams, signal: AbortSignal) => Promise<RemoteStatus>,
): Promise<void> {
  try {
    await command.writeStatus(await act(command.streams, command.closed));
  } catch {
    // The client has gone before it could be told.
  } finally {
    command.close();
  }
}
