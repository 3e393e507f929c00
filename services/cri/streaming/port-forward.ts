import { errorMessage } from "#base/errors.ts";
import type { ByteSink } from "../logs/byte-streams.ts";
import type { PortStream, StreamRuntime } from "./stream-runtime.ts";

/** What is forwarded for whom. */
export interface ForwardTarget {
  readonly runtime: Pick<StreamRuntime, "portForward">;
  readonly podId: string;
  /** How long nothing may move, in ms, before the connection is closed; 0 for ever. */
  readonly idleMs: number;
}

/**
 * Serves one connection to a port, and tells the client on its error stream what went wrong. Never rejects.
 *
 * @returns Whether it went well.
 * @source k8s.io/cri-streaming pkg/streaming/portforward/httpstream.go `portForward`
 */
export async function forwardOne(
  { runtime, podId }: ForwardTarget,
  port: number,
  { data, error, closed }: { readonly data: PortStream; readonly error: ByteSink; readonly closed: AbortSignal },
): Promise<boolean> {
  let isWell = true;
  try {
    await runtime.portForward(podId, port, data, closed);
  } catch (reason) {
    isWell = false;
    const message = `error forwarding port ${port} to pod ${podId}, uid : ${errorMessage(reason)}`;
    await error.write(Buffer.from(message)).catch(() => undefined);
  }
  await data.end();
  await error.end();
  return isWell;
}

/** Reads the number of a port. Undefined for what is none. */
export function parsePort(text: string | undefined): number | undefined {
  const port = /^\d{1,5}$/.test(text ?? "") ? Number(text) : 0;
  return port >= 1 && port <= 0xffff ? port : undefined;
}
