import { randomBytesAtStart } from "#base/random.ts";
import { SettingId } from "./http2/protocol.ts";

/**
 * Tells a service which call it has before it: sent with one that is made again because its process died under it, and with one that is a
 * part of another. The gateway lets none of a client's through.
 */
export const callHeader = "flotilla-call";

/** What a call that changes something is known by, in whatever process and however often it is handled. */
export interface CallId {
  readonly id: string;
  /** How long ago it was made first, in milliseconds, when it is made again; undefined for the first time. */
  readonly repeatedAfterMs: number | undefined;
  /** Where its answers go on, as the process before told (`Call.resumeAt`); undefined for all of them. */
  readonly resumeAt?: string | undefined;
}

/**
 * Where calls come from: a connection, which the service is told the name of once. A call is known by that and the number of its stream, so
 * that nothing has to be sent with each.
 */
export interface CallOrigin {
  readonly name: string;
  readonly settings: readonly (readonly [id: number, value: number])[];
}

/** Distinguishes this process from all others, before and after it. */
const processNumber = randomBytesAtStart(4).readUInt32BE();
let lastOrigin = randomBytesAtStart(3).readUIntBE(0, 3);

/** A name for a new connection. */
export function nextOrigin(): CallOrigin {
  lastOrigin = (lastOrigin + 1) >>> 0;
  return {
    name: originName(processNumber, lastOrigin),
    settings: [
      [SettingId.CallOriginProcess, processNumber],
      [SettingId.CallOriginNumber, lastOrigin],
    ],
  };
}

/** The name that the two settings of a connection give it. */
export function originName(process: number, number: number): string {
  return `${process.toString(36)}-${number.toString(36)}`;
}

/** The id of a call that was made first on a connection of that name, under that number of a stream. */
export function idOfStream(origin: string, streamId: number): string {
  return `${origin}-${streamId}`;
}

/** The value of the header. */
export function writeCallId({ id, repeatedAfterMs, resumeAt }: CallId): string {
  if (repeatedAfterMs === undefined) {
    return id;
  }
  const age = `${id};${Math.ceil(repeatedAfterMs)}`;
  return resumeAt === undefined ? age : `${age};${resumeAt}`;
}

/** Reads the value of the header, which a peer has written. */
export function readCallId(value: string): CallId {
  const [id = "", age, resumeAt] = value.split(";");
  return { id, repeatedAfterMs: age === undefined ? undefined : Number(age), resumeAt };
}

/** The id of the call on a stream of a service. */
export function callIdOf(
  stream: { readonly callId: string | undefined },
  request: { find(name: string): string | undefined },
): CallId | undefined {
  const told = request.find(callHeader);
  if (told !== undefined) {
    return readCallId(told);
  }
  const id = stream.callId;
  return id === undefined ? undefined : { id, repeatedAfterMs: undefined };
}

/**
 * The headers of a call that is made for another, so that it is known when that is made again; none where nobody makes that again.
 *
 * @param part - Unique among the parts of the call.
 */
export function headersOfPart(whole: CallId | undefined, part: string): Record<string, string> {
  return whole === undefined ? {} : { [callHeader]: writeCallId({ ...whole, id: `${whole.id}/${part}` }) };
}
