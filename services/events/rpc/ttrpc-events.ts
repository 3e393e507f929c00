import { createHash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Events } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { type Envelope, EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import { validateForwarded } from "../domain/topic.ts";
import type { Intake } from "../intake/intake.ts";

/**
 * The Events service of the ttrpc socket, to which shims send their events. An event is answered once it is on disk.
 *
 * An event that comes again is the same event: a shim, or the gateway for it, repeats what may not have arrived, and a shim's events have
 * times to the nanosecond.
 *
 * @source containerd v2.3.4 plugins/services/events/ttrpc.go
 */
export function ttrpcEventHandlers(intake: Intake): Handlers<typeof Events> {
  return {
    async forward({ envelope }) {
      const forwarded = envelope ?? create(EnvelopeSchema);
      validateForwarded(forwarded);
      await intake.take({ messageId: contentId(forwarded), envelope: forwarded });
      return {};
    },
  };
}

function contentId(envelope: Envelope): string {
  return `shim-${createHash("sha256").update(toBinary(EnvelopeSchema, envelope)).digest("base64url")}`;
}
