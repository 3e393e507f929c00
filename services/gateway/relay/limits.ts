/** Every limit of the relay that is not one of HTTP/2, with its unit; each number is a decision explained beside it. */

/** Request frames of one stream that are kept so that they can be sent again. */
export const keptRequestBytesMax = 64 * 1024;

/** Request frames that are kept for all streams of one client connection together. */
export const keptRequestsBytesMax = 8 * 1024 * 1024;

/**
 * How much of the response to a repeatable call is held back until it is complete, so that the call can still be sent
 * again: one frame, which is what such responses are mostly smaller than.
 */
export const gatedResponseBytesMax = 16 * 1024;

/** Responses that one upstream connection holds back at a time; with their size this stays well below its window. */
export const gatedResponsesMax = 64;

/** Connections to one process that are kept for the next clients: as many short-lived clients as there mostly are at a time. */
export const idleUpstreamsMax = 4;

/** How long such a connection is kept at least; each takes some memory at both ends. */
export const idleUpstreamMsMax = 10_000;

/** Highest stream id of a connection that another client may still have, so that there is room for the ids of that one. */
export const reusedStreamIdMax = 2 ** 30;

/** First pause between two tries to reach a process that is not there; it doubles with each. */
export const reconnectMsMin = 10;

/** Longest pause between two tries to reach a process that is not there. */
export const reconnectMsMax = 100;

/** How often in a row a request is sent again when each process dies soon after it; more often, the request is the reason. */
export const resendsMax = 3;

/**
 * How much of a response may wait for its client when the process dies and another is to go on: what the next one sends before the client has taken
 * that comes on top.
 */
export const resumedWaitingBytesMax = 1024 * 1024;

/** A process that lives this long with a request did not die of it. */
export const harmlessMs = 10_000;

/** How long a client whose call has been answered may take to end its request before it is told to stop. */
export const unfinishedRequestMs = 100;
