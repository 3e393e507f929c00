import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { ErrorKind, errorMessage, FlotillaError, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { findRfc3339Ns, timestampNow } from "#base/times.ts";
import { compileFilters, type Filter } from "#containerd/filter.ts";
import type { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { type Call, EncodedResponse, EncodedResponses, type Handlers, handleEncoded } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { EventBus, NewEvent, Start } from "../bus/bus.ts";
import { validateForwarded, validateTopic } from "../domain/topic.ts";
import { eventFields } from "./event-fields.ts";
import { readForwarded } from "./forwarded-envelope.ts";
import { Place, readPlace } from "./place.ts";

/** Asks a subscription to begin with the event of this sequence, a decimal number. Ours; containerd has no replay. */
const sinceSequenceHeader = "flotilla-since-sequence";
/** Asks a subscription to begin with the events of this time, as RFC 3339 writes it. Ours. */
const sinceTimeHeader = "flotilla-since-time";

const nsPerMs = 1_000_000n;

/**
 * The public Events service.
 *
 * @source containerd v2.3.4 plugins/services/events/service.go, core/events/exchange/exchange.go
 */
export function eventHandlers(bus: EventBus): Handlers<typeof Events> {
  return {
    async publish({ topic, event }, call) {
      const namespace = publishingNamespace(call);
      validateTopic(topic);
      const envelope = create(EnvelopeSchema, {
        timestamp: timestampNow(),
        namespace,
        topic,
        ...(event === undefined ? {} : { event }),
      });
      return await appendOne(bus, { envelope }, call);
    },
    forward: handleEncoded((request, call) => {
      const { envelope, encoded } = readForwarded(request);
      validateForwarded(envelope);
      return appendOne(bus, { envelope, encoded }, call);
    }),
    async *subscribe({ filters }, call) {
      const passes = compileSubscription(filters);
      const start = startOf(call);
      const events = await bus.subscribe(start, call.signal);
      const place = new Place(call, events.start);
      if (start.kind === "sequence") {
        // What is no longer kept is not missed as long as nothing has been read.
        call.resumeAt?.("");
      } else {
        place.tell();
      }
      call.acknowledge?.();
      for await (const several of events) {
        place.reach(several);
        const wanted = several.filter((event) => passes(eventFields(event)));
        if (wanted.length > 0) {
          place.tell();
          yield new EncodedResponses(wanted.map(({ encoded }) => new EncodedResponse(encoded)));
        }
      }
    },
  };
}

/** A call that is made again, since this process died, publishes under the same message id, which is harmless. */
function appendOne(bus: EventBus, event: Omit<NewEvent, "messageId">, { id }: Call): Promise<EncodedResponse> {
  // containerd's exchange promises nothing, and whoever publishes here waits for the answer.
  return bus.append([{ messageId: id?.id ?? randomUUID(), ...event }], { durability: "stored" }).then(emptyAnswer);
}

const empty = new EncodedResponse();
const emptyAnswer = (): EncodedResponse => empty;

function publishingNamespace(call: Call): string {
  try {
    return requireNamespace(call);
  } catch (error) {
    throw wrapFailure(error, "failed publishing event");
  }
}

/** containerd sends this error unmapped, so its class is unknown. */
function compileSubscription(filters: readonly string[]): Filter {
  try {
    return compileFilters(filters);
  } catch (error) {
    if (isFailure(error)) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `subscription error: failed parsing subscription filters: ${errorMessage(error)}`,
        { cause: error },
      );
    }
    throw error;
  }
}

/** A call that is made again, since this process died, goes on where it was, or begins when it was made first. */
function startOf(call: Call): Start {
  const { resumeAt, repeatedAfterMs } = call.id ?? {};
  if (resumeAt !== undefined) {
    return { kind: "position", position: readPlace(resumeAt) };
  }
  const sequence = call.header(sinceSequenceHeader);
  if (sequence !== undefined) {
    if (!/^\d{1,15}$/.test(sequence)) {
      throw failure(ErrorKind.InvalidArgument, `header ${sinceSequenceHeader} is no sequence number`);
    }
    return { kind: "sequence", sequence: Number(sequence) };
  }
  const time = call.header(sinceTimeHeader);
  if (time === undefined) {
    return repeatedAfterMs === undefined
      ? { kind: "now" }
      : { kind: "time", timeNs: BigInt(Date.now() - repeatedAfterMs) * nsPerMs };
  }
  const timeNs = findRfc3339Ns(time);
  if (timeNs === undefined) {
    throw failure(
      ErrorKind.InvalidArgument,
      `header ${sinceTimeHeader} is no time as in 2006-01-02T15:04:05.999999999Z`,
    );
  }
  return { kind: "time", timeNs };
}
