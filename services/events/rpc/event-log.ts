import { ErrorKind, failure } from "#base/errors.ts";
import type { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { EventBus } from "../bus/bus.ts";

/** It travels as a header. */
const messageIdPattern = /^[!-~]{1,256}$/;

/** The private EventLog service. Its callers are processes of the fleet, whose events are taken as they are. */
export function eventLogHandlers(bus: EventBus): Handlers<typeof EventLog> {
  return {
    async append({ records }) {
      await bus.append(
        records.map(({ messageId, envelope }) => {
          if (!messageIdPattern.test(messageId) || envelope === undefined) {
            throw failure(ErrorKind.InvalidArgument, "a record needs an envelope and a message id of visible ASCII");
          }
          return { messageId, envelope };
        }),
      );
      return {};
    },
  };
}
