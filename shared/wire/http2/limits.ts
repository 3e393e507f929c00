/** Every limit of the engine, with its unit. Where no source is named, the number is a decision explained beside it. */

/** Largest frame payload that a connection takes. @source RFC 9113 section 6.5.2, the default of SETTINGS_MAX_FRAME_SIZE */
export const frameBytesMax = 16_384;

/** Largest header block on the wire, over all its frames. */
export const headerBlockBytesMax = 64 * 1024;

/** Largest header list once decoded, counted as RFC 9113 counts SETTINGS_MAX_HEADER_LIST_SIZE; what services take too. */
export const headerListBytesMax = 64 * 1024;

/** Frames that one header block may be spread over: more than a block of full size needs, few enough to be cheap. */
export const headerBlockFramesMax = 16;

/** Streams that one client connection may have open. A daemon with one long wait for each container needs thousands. */
export const streamsMax = 4096;

/**
 * Receive window of each connection, which is also what a slow receiver makes the relay hold for one connection.
 * Wide enough that a sender does not wait for credit while the other side's event loop is busy for some milliseconds.
 */
export const connectionWindowBytes = 4 * 1024 * 1024;

/** Unwritten bytes of a socket from which on its receiver counts as slow and senders get no more credit. */
export const slowSocketBytes = 256 * 1024;

/** Unwritten frames other than DATA, which no window limits, from which on their senders are not read any more. */
export const controlBacklogBytesMax = 1024 * 1024;

/** How long a new connection may take to show which protocol it speaks. */
export const prefaceMsMax = 30_000;

/** How long a connection that ends by a fault stays open so that the peer can read the GOAWAY. */
export const lingerMs = 1_000;

/** Streams that a client may reset at once; services allow more. @source CVE-2023-44487 */
export const resetsBurst = 1_000;

/** Streams that a client may reset per second for ever. */
export const resetsPerSecond = 200;

/**
 * Frames that move nothing (SETTINGS, PING, PRIORITY, empty and unknown ones) that a peer may send at once beyond those
 * that go with payload; Go clients send a PING with every round of data to measure the path.
 */
export const idleFramesBurst = 10_000;

/** Frames that move nothing that a peer may send per second for ever. */
export const idleFramesPerSecond = 1_000;

/** Frames that move nothing that go with one that has payload. */
export const idleFramesEarned = 4;

/** As how many of them SETTINGS count, since they may touch every stream. */
export const settingsCost = 16;

/** How long the answer to a PING waits for something else to leave with it. */
export const pingAnswerMsMax = 10;

/** How long a client has to acknowledge the announcement of a stop before it is told which stream was its last. */
export const lastStreamMsMax = 1_000;

/** Streams that a server remembers to have reset, since frames of them may still come. */
export const resetsRemembered = 256;

/**
 * Receive window of each stream of an endpoint: what a handler that reads slowly makes it hold. Wide, since these sockets
 * never leave the machine and bulk data would otherwise wait for updates.
 */
export const endpointStreamWindowBytes = 1024 * 1024;

/** Receive window of a whole connection of an endpoint. */
export const endpointConnectionWindowBytes = 16 * 1024 * 1024;
