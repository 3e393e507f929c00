import { clientHeaders } from "#wire/headers.ts";

/** On whose behalf a transfer works. */
export interface Caller {
  readonly namespace: string;
  /** What holds all that is made until something else does. "" for none, where nothing is made. */
  readonly lease: string;
}

/** How long another process may take for a call that only looks up or records. */
export const answerMsMax = 30_000;

/** Options of such a call. */
export function boundedCall(
  { namespace, lease }: Caller,
  signal?: AbortSignal,
): { readonly headers: Record<string, string>; readonly timeoutMs: number; readonly signal?: AbortSignal } {
  return {
    headers: clientHeaders(namespace, lease),
    timeoutMs: answerMsMax,
    ...(signal === undefined ? {} : { signal }),
  };
}
