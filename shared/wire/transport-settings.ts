import type { Settings } from "node:http2";

/**
 * HTTP/2 settings that every process of the fleet advertises on its own socket.
 *
 * The header table is off, so that header blocks carry no state and the gateway may pass them through as bytes.
 * The windows are wide, since these sockets never leave the machine and bulk data would otherwise
 * wait for window updates.
 */
export const serviceSettings = {
  headerTableSize: 0,
  initialWindowSize: 1024 * 1024,
  maxFrameSize: 16_384,
  maxConcurrentStreams: 4096,
  maxHeaderListSize: 64 * 1024,
  enablePush: false,
} satisfies Settings;

/** Receive window of a whole connection between processes of the fleet, in bytes. */
export const connectionWindowBytes = 16 * 1024 * 1024;

/** What one HTTP/2 session may keep in memory, in MB as Node counts it; its default of 10 resets busy streams. */
export const sessionMemoryMegabytesMax = 128;

/**
 * Streams that a client of a process may reset at once and per second before its connection is cut. Higher than Node's
 * defaults and than what the gateway allows its own clients, since the gateway passes their resets on: a limit that is
 * reached here would cost the calls that go on beside them.
 */
export const streamResetLimits: { readonly streamResetBurst: number; readonly streamResetRate: number } = {
  streamResetBurst: 5_000,
  streamResetRate: 1_000,
};
