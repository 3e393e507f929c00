import { setTimeout as delay } from "node:timers/promises";
import { abortReason } from "#wire/session-holder.ts";

/** The longest wait before something is tried again, whatever it has cost so far. */
const waitMsMax = 30_000;
/** The longest wait that a server may ask for. One that wants more is not waited for. */
export const retryAfterMsMax = 120_000;

/**
 * Waits before something is tried again: twice as long each time, and never as long as others who began at the same moment.
 *
 * @param wait.failures - How often it has failed, at least 1.
 * @param wait.atLeastMs - What the server asked for.
 * @throws the signal's reason.
 */
export async function backOff(wait: {
  readonly firstMs: number;
  readonly failures: number;
  readonly atLeastMs?: number;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { firstMs, failures, atLeastMs = 0, signal } = wait;
  const doubledMs = Math.min(waitMsMax, firstMs * 2 ** (failures - 1));
  try {
    await delay(atLeastMs + doubledMs * (0.5 + Math.random() / 2), undefined, { signal });
  } catch (error) {
    throw signal.aborted ? abortReason(signal) : error;
  }
}
