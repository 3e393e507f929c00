import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
import type { Reply } from "./link.ts";

/**
 * Errors that are the message's own: it is too large for the stream, or its headers are for any. Everything else may be otherwise later: a full
 * account or disk, a cluster without a leader, a message before it that was refused.
 *
 * @source nats-server v2.9.10 server/errors.json `JSStreamMessageExceedsMaximumErr`, `JSStreamHeaderExceedsMaximumErr`
 */
const permanentErrors: ReadonlySet<number | undefined> = new Set([10_054, 10_097]);

/** What the stream says about a message. */
export type Answer =
  /** It is stored; a duplicate was before. */
  | { readonly kind: "taken"; readonly sequence: number; readonly isDuplicate: boolean }
  /** This message will never be taken. */
  | { readonly kind: "refused"; readonly error: FlotillaError }
  | { readonly kind: "later" };

/** Reads the answer to a published message. @source NATS docs, "JetStream wire API reference", publish acknowledgement */
export function readAnswer(reply: Reply): Answer {
  if (reply.status !== 0) {
    return { kind: "later" };
  }
  const { seq, duplicate, error } = JSON.parse(Buffer.from(reply.body).toString("latin1")) as {
    readonly seq?: number;
    readonly duplicate?: boolean;
    readonly error?: { readonly err_code?: number; readonly description?: string };
  };
  if (error === undefined) {
    return { kind: "taken", sequence: seq ?? 0, isDuplicate: duplicate === true };
  }
  return permanentErrors.has(error.err_code)
    ? { kind: "refused", error: failure(ErrorKind.ResourceExhausted, `event refused: ${error.description ?? ""}`) }
    : { kind: "later" };
}
