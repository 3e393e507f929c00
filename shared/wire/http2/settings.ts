import { ConnectionFault, ErrorCode, SettingId, windowBytesMax } from "./protocol.ts";

const entryBytes = 6;
/** @source RFC 9113 section 6.5.2 */
const frameBytesSettingMin = 16_384;
const frameBytesSettingMax = 16_777_215;

/** The settings of a peer that matter; those that its frame does not mention are undefined. */
export interface PeerSettings {
  headerTableBytes?: number;
  streamsMax?: number;
  initialWindowBytes?: number;
  /** Longest message of a client. Services alone obey it, since only peers reach them. */
  receivedMessageBytes?: number;
  /** Longest message of an answer. */
  sentMessageBytes?: number;
  /** The halves of the name of a connection. */
  callOriginProcess?: number;
  callOriginNumber?: number;
}

/**
 * Reads the payload of a SETTINGS frame.
 *
 * @throws ConnectionFault when a value is not allowed.
 * @source RFC 9113 section 6.5
 */
export function parseSettings(payload: Buffer, start: number, end: number): PeerSettings {
  if ((end - start) % entryBytes !== 0) {
    throw new ConnectionFault(ErrorCode.FrameSizeError, "SETTINGS is not a multiple of 6 bytes long");
  }
  const settings: PeerSettings = {};
  for (let at = start; at < end; at += entryBytes) {
    applySetting(settings, payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
  }
  return settings;
}

function applySetting(settings: PeerSettings, id: number, value: number): void {
  switch (id) {
    case SettingId.HeaderTableSize:
      settings.headerTableBytes = Math.min(value, settings.headerTableBytes ?? value);
      return;
    case SettingId.EnablePush:
      if (value > 1) {
        throw new ConnectionFault(ErrorCode.ProtocolError, "SETTINGS_ENABLE_PUSH is neither 0 nor 1");
      }
      return;
    case SettingId.MaxConcurrentStreams:
      settings.streamsMax = value;
      return;
    case SettingId.InitialWindowSize:
      if (value > windowBytesMax) {
        throw new ConnectionFault(ErrorCode.FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE is too large");
      }
      settings.initialWindowBytes = value;
      return;
    case SettingId.ReceivedMessageSize:
      settings.receivedMessageBytes = value;
      return;
    case SettingId.SentMessageSize:
      settings.sentMessageBytes = value;
      return;
    case SettingId.CallOriginProcess:
      settings.callOriginProcess = value;
      return;
    case SettingId.CallOriginNumber:
      settings.callOriginNumber = value;
      return;
    case SettingId.MaxFrameSize:
      if (value < frameBytesSettingMin || value > frameBytesSettingMax) {
        throw new ConnectionFault(ErrorCode.ProtocolError, "SETTINGS_MAX_FRAME_SIZE is out of range");
      }
      return;
    default:
  }
}
