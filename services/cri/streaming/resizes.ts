import type { ByteSource } from "../logs/byte-streams.ts";
import type { TerminalSize } from "./stream-runtime.ts";

/** Longest message about the size of a terminal in bytes, with room for spaces. */
const messageBytesMax = 1024;

/**
 * Sizes of a terminal out of what a client sends of them: JSON values one after the other, `{"Width":80,"Height":24}`. Ends at the first that
 * is none, and passes over sizes that are nothing.
 *
 * @source k8s.io/cri-streaming pkg/streaming/remotecommand/httpstream.go `handleResizeEvents`; containerd v2.3.4
 *   internal/cri/server/streaming.go `handleResizing`
 */
export async function* readResizes(source: ByteSource): AsyncGenerator<TerminalSize> {
  let text = "";
  for await (const bytes of source) {
    text += Buffer.from(bytes).toString("latin1");
    for (let end = text.indexOf("}"); end !== -1; end = text.indexOf("}")) {
      const size = parseSize(text.slice(0, end + 1));
      if (size === undefined) {
        return;
      }
      text = text.slice(end + 1);
      if (size.width >= 1 && size.height >= 1) {
        yield size;
      }
    }
    if (text.length > messageBytesMax) {
      return;
    }
  }
}

/** Names are matched as Go does, whatever their case. */
function parseSize(text: string): TerminalSize | undefined {
  try {
    const fields = Object.entries(JSON.parse(text) as Record<string, unknown>).map(
      ([name, value]) => [name.toLowerCase(), value] as const,
    );
    const { width = 0, height = 0 } = Object.fromEntries(fields) as Record<string, unknown>;
    return isDimension(width) && isDimension(height) ? { width, height } : undefined;
  } catch {
    return undefined;
  }
}

function isDimension(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff;
}
