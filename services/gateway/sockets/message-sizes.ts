import type { PluginSettings } from "#config/settings.ts";
import type { MessageLimits } from "#wire/message-limits.ts";

/** What grpc-go takes and sends where containerd tells it nothing. @source grpc-go v1.75 server.go `defaultServerMaxReceiveMessageSize` */
const unsetReceivedBytes = 4 * 1024 * 1024;
const unsetSentBytes = 2 ** 31 - 1;

/** How large messages on a socket may be, by the table of its plugin. @source containerd v2.3.4 plugins/server/grpc/grpc.go `InitFn` */
export function messageLimitsOf(settings: PluginSettings): MessageLimits {
  const received = settings.integer("max_recv_message_size");
  const sent = settings.integer("max_send_message_size");
  return {
    receivedBytes: received > 0 ? Math.min(received, unsetSentBytes) : unsetReceivedBytes,
    sentBytes: sent > 0 ? Math.min(sent, unsetSentBytes) : unsetSentBytes,
  };
}
