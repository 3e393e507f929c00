import { messageBytesMax } from "#base/limits.ts";
import { SettingId } from "./http2/protocol.ts";
import type { PeerSettings } from "./http2/settings.ts";

/** How large messages may be, in bytes without their prefix. */
export interface MessageLimits {
  /** Those of a client. */
  readonly receivedBytes: number;
  /** Those of an answer. */
  readonly sentBytes: number;
}

/** What holds where nobody says otherwise. */
export const defaultMessageLimits: MessageLimits = { receivedBytes: messageBytesMax, sentBytes: messageBytesMax };

/**
 * The limits that a service is told of with the first SETTINGS of a connection, by the gateway, on whose sockets the clients are. So each
 * call is held to the limits of the socket that it came by, and none is told them by itself.
 */
export function settingsOfLimits(limits: MessageLimits): (readonly [id: number, value: number])[] {
  return [
    ...(limits.receivedBytes === messageBytesMax
      ? []
      : [[SettingId.ReceivedMessageSize, limits.receivedBytes] as const]),
    ...(limits.sentBytes === messageBytesMax ? [] : [[SettingId.SentMessageSize, limits.sentBytes] as const]),
  ];
}

/** The limits that SETTINGS tell; those that they leave out stay as they are. */
export function limitsOfSettings(settings: PeerSettings, limits: MessageLimits): MessageLimits {
  const { receivedMessageBytes = limits.receivedBytes, sentMessageBytes = limits.sentBytes } = settings;
  return receivedMessageBytes === limits.receivedBytes && sentMessageBytes === limits.sentBytes
    ? limits
    : { receivedBytes: receivedMessageBytes, sentBytes: sentMessageBytes };
}
