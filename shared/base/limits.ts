/** Every limit that more than one part of the fleet keeps, with its unit and where the number comes from. */

/** Largest message in either direction. @source containerd v2.3.4 defaults/defaults.go `DefaultMaxRecvMsgSize` */
export const messageBytesMax = 16 * 1024 * 1024;

/** Largest ttrpc frame payload. @source containerd/ttrpc channel.go `messageLengthMax` */
export const ttrpcFrameBytesMax = 4 * 1024 * 1024;

/** Longest identifier. @source containerd v2.3.4 pkg/identifiers/validate.go `maxLength` */
export const identifierBytesMax = 76;

/** Largest sum of a label's key and value. @source containerd v2.3.4 pkg/labels/validate.go `maxSize` */
export const labelBytesMax = 4096;

/** How long a call waits for a process that is being restarted before it fails with `unavailable`. */
export const heldCallMsMax = 10_000;

/** Longest path of a Unix socket. @source containerd v2.3.4 pkg/sys/socket_unix.go */
export const socketPathBytesMax = 104;

/** Longest wait of a timer in ms; Node.js turns a longer one into 1 ms. @source Node.js documentation, timers, `setTimeout` */
export const timerMsMax = 0x7fff_ffff;
