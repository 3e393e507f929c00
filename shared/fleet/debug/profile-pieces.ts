import { ErrorKind, failure } from "#base/errors.ts";
import type { ProfileRequest } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { type ProfileKind, profileKinds } from "./profile.ts";

/** Bytes of a profile that travel at a time. */
const pieceBytes = 256 * 1024;

/**
 * Makes a profile of this process and gives it in pieces.
 *
 * @throws {@link FlotillaError} `invalid_argument` for what can't be asked for; what `takeProfile` throws.
 */
export async function* profilePieces(
  { kind, seconds, format }: Pick<ProfileRequest, "kind" | "seconds" | "format">,
  signal: AbortSignal,
): AsyncGenerator<{ piece: Uint8Array }> {
  if (!profileKinds.includes(kind as ProfileKind) || (format !== "pprof" && format !== "v8")) {
    throw failure(ErrorKind.InvalidArgument, `there is no profile ${kind} as ${format}`);
  }
  const { takeProfile } = await import("./profile.ts");
  const { encodePprof } = await import("./pprof.ts");
  const taken = await takeProfile(kind as ProfileKind, seconds, signal);
  const bytes = format === "pprof" ? encodePprof(taken) : Buffer.from(JSON.stringify(taken.profile));
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    yield { piece: bytes.subarray(at, at + pieceBytes) };
  }
}
