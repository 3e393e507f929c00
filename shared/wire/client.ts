import net from "node:net";
import type { Transport } from "@connectrpc/connect";
import { callStream } from "./grpc/client-stream.ts";
import { callUnary } from "./grpc/client-unary.ts";
import type { CallObserver } from "./observe.ts";
import { SessionHolder } from "./session-holder.ts";

/** A connection to one process of the fleet, for `createClient` of @connectrpc/connect. */
export interface RpcConnection {
  /**
   * Makes the calls. A call waits up to 10 s while the process is not there, since it is being restarted then.
   * A unary call that was under way when the process died is sent again if its method has no side effects, or is one whose calls are kept
   * (`idempotency_level` in its .proto says which), or the process certainly did nothing with it, and fails with `unavailable` otherwise.
   * Failures are {@link FlotillaError}.
   */
  readonly transport: Transport;
  /** Ends the connection and what is under way on it. */
  close(): void;
}

/** What may be said about a connection. */
export interface RpcConnectionOptions {
  /** Told of every call. */
  readonly observer?: CallObserver;
  /** Called when the other side is not there. It is tried again until a call has waited too long. */
  readonly onAbsent?: () => void;
  /** Whether the other side keeps what became of calls: a process of the fleet does, a plugin of somebody else does not. */
  readonly keepsCalls?: boolean;
  /** How long a call waits for the other side to be there, 10 s unless given. */
  readonly heldMsMax?: number;
}

/** Opens a connection to the socket of a process, when first used. */
export function connectRpc(
  socketPath: string,
  { observer, onAbsent, keepsCalls = false, heldMsMax }: RpcConnectionOptions = {},
): RpcConnection {
  const connect = (): net.Socket => {
    const socket = net.connect(socketPath);
    if (onAbsent !== undefined) {
      socket.once("error", onAbsent);
    }
    return socket;
  };
  const sessions = new SessionHolder({ name: socketPath, connect, ...(heldMsMax === undefined ? {} : { heldMsMax }) });
  return {
    transport: {
      unary: (method, signal, timeoutMs, header, input) =>
        callUnary(sessions, method, { signal, timeoutMs, header, observer, keepsCalls }, input),
      stream: (method, signal, timeoutMs, header, input) =>
        callStream(sessions, method, { signal, timeoutMs, header, observer }, input),
    },
    close: () => sessions.close(),
  };
}
