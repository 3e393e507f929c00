import type { Events } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import type { Handlers } from "#rpc/handler.ts";
import type { EventBus } from "../bus/bus.ts";
import { forwardEvent } from "./events.ts";

/**
 * The Events service of the ttrpc socket, to which shims send their events.
 *
 * @source containerd v2.3.4 plugins/services/events/ttrpc.go
 */
export function ttrpcEventHandlers(bus: EventBus): Handlers<typeof Events> {
  return {
    async forward({ envelope }) {
      await forwardEvent(bus, envelope);
      return {};
    },
  };
}
