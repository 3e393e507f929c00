import type { CallOrigin } from "../call-id.ts";
import { type MessageLimits, settingsOfLimits } from "../message-limits.ts";
import type { FrameWriter } from "./frame-writer.ts";
import { headerListBytesMax } from "./limits.ts";
import { clientPreface, defaultWindowBytes, SettingId } from "./protocol.ts";

/** What a server is told that it may send. */
export interface GreetedWindows {
  /** On each new stream. */
  readonly streamBytes: number;
  /** On all streams together. */
  readonly connectionBytes: number;
}

/** Sends what a client begins a connection with. No header block may refer to a table, so that it can be passed on as it is. */
export function greetServer(
  writer: FrameWriter,
  { streamBytes, connectionBytes }: GreetedWindows,
  limits: MessageLimits,
  origin: CallOrigin,
): void {
  writer.appendControl(clientPreface, 0, clientPreface.length);
  writer.settings([
    [SettingId.HeaderTableSize, 0],
    [SettingId.EnablePush, 0],
    [SettingId.InitialWindowSize, streamBytes],
    [SettingId.MaxHeaderListSize, headerListBytesMax],
    ...settingsOfLimits(limits),
    ...origin.settings,
  ]);
  writer.windowUpdate(0, connectionBytes - defaultWindowBytes);
}
