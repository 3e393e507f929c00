import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { validateIdentifier } from "#containerd/identifier.ts";

/** What is checked of an event before it is taken. */
export interface EventHead {
  readonly namespace: string;
  readonly topic: string;
  readonly timestamp?: { readonly seconds: bigint; readonly nanos: number } | undefined;
}

/** Seconds of the year 1, which Go's `time.Time` holds when nothing was set. */
const goZeroSeconds = -62_135_596_800n;

/**
 * Checks a topic: `/` and identifiers with `/` between them.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/events/exchange/exchange.go `validateTopic`, `Publish`
 */
export function validateTopic(topic: string): void {
  try {
    validateTopicParts(topic);
  } catch (error) {
    throw wrapFailure(error, `envelope topic ${quote(topic)}`);
  }
}

function validateTopicParts(topic: string): void {
  if (topic === "") {
    throw failure(ErrorKind.InvalidArgument, "must not be empty");
  }
  if (!topic.startsWith("/")) {
    throw failure(ErrorKind.InvalidArgument, "must start with '/'");
  }
  if (topic.length === 1) {
    throw failure(ErrorKind.InvalidArgument, "must have at least one component");
  }
  for (const component of topic.slice(1).split("/")) {
    try {
      validateIdentifier(component);
    } catch (error) {
      throw wrapFailure(error, `failed validation on component ${quote(component)}`);
    }
  }
}

/**
 * Checks an event that somebody forwards. A missing timestamp passes, as Go reads it as 1970.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/events/exchange/exchange.go `validateEnvelope`
 */
export function validateForwarded({ namespace, topic, timestamp }: EventHead): void {
  try {
    validateIdentifier(namespace);
  } catch (error) {
    throw wrapFailure(error, "event envelope has invalid namespace");
  }
  validateTopic(topic);
  if (timestamp?.seconds === goZeroSeconds && timestamp.nanos === 0) {
    throw failure(ErrorKind.InvalidArgument, "timestamp must be set on forwarded event");
  }
}
