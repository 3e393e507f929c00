import { ErrorKind, isFailure } from "#base/errors.ts";
import { type CriPeers, criCall } from "../peers.ts";

const killSignal = 9;
/** How long a killed process, or an answer about it, may take, in milliseconds. */
const stepMsMax = 10_000;

/**
 * Ends and deletes the task of a container if there is one. One that is being made for somebody who is gone is waited for, so that none comes
 * to be after this has returned. May be repeated.
 *
 * @throws {@link FlotillaError} when the task may still be there.
 */
export async function removeTask({ peers }: { readonly peers: Pick<CriPeers, "tasks"> }, id: string): Promise<void> {
  const containerId = id;
  for (const act of [
    () => peers.tasks.kill({ containerId, signal: killSignal, all: true }, criCall({ timeoutMs: stepMsMax })),
    () => peers.tasks.wait({ containerId }, criCall({ timeoutMs: stepMsMax })),
    () => peers.tasks.delete({ containerId }, criCall({ timeoutMs: stepMsMax })),
  ]) {
    await act().catch((error: unknown) => {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
    });
  }
}
