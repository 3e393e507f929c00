import { randomBytes } from "node:crypto";

/** Where in a trace something happens. @source W3C Trace Context level 1 */
export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  /** Whether the trace is recorded. */
  readonly isSampled: boolean;
  /** What others have put on the way and get back unchanged, by the names of the fields. */
  readonly carried: readonly (readonly [name: string, value: string])[];
}

/** The field that says where a call belongs. */
export const traceparentField = "traceparent";
/** Fields that go with it. @source W3C Trace Context section 3.3, W3C Baggage section 3 */
const carriedFields = ["tracestate", "baggage"] as const;
/** What is carried may be as long as this. @source W3C Baggage section 3.3.2 */
const carriedBytesMax = 8192;

const pattern = /^(?!ff)[0-9a-f]{2}-(?<traceId>[0-9a-f]{32})-(?<spanId>[0-9a-f]{16})-(?<flags>[0-9a-f]{2})(?:-.*)?$/;
const noTrace = /^0+$/;
const sampledFlag = 0x01;

/** Reads where a call belongs. @returns undefined when the caller does not say, or says nonsense */
export function readTraceContext(find: (name: string) => string | undefined): TraceContext | undefined {
  const groups = pattern.exec(find(traceparentField) ?? "")?.groups;
  const { traceId = "", spanId = "", flags = "" } = groups ?? {};
  if (groups === undefined || noTrace.test(traceId) || noTrace.test(spanId)) {
    return undefined;
  }
  const carried = carriedFields.flatMap((name) => {
    const value = find(name);
    return value === undefined || value.length > carriedBytesMax ? [] : [[name, value] as const];
  });
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & sampledFlag) !== 0, carried };
}

/** Writes it, as {@link readTraceContext} reads it. */
export function formatTraceparent({ traceId, spanId, isSampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${isSampled ? "01" : "00"}`;
}

/** An id that no other trace has. */
export function newTraceId(): string {
  return randomBytes(16).toString("hex");
}

/** An id that no other span of a trace has. */
export function newSpanId(): string {
  return randomBytes(8).toString("hex");
}
