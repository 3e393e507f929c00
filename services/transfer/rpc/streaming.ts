import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { StreamInitSchema, Streaming } from "#gen/containerd/services/streaming/v1/streaming_pb.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, namespaceHeader } from "#wire/headers.ts";
import { packMessage, type TypedMessage, unpackMessage } from "../streams/any.ts";
import type { LeaseWatch } from "../streams/lease-watch.ts";
import { OpenStream } from "../streams/stream.ts";
import type { StreamTable } from "../streams/stream-table.ts";

/** How long a client may take to say what its stream is called. */
const initMsMax = 30_000;
/** Longest id of a stream, in characters. */
const idCharactersMax = 1024;

const opened = packMessage(EmptySchema, {});

/**
 * The Streaming service. A stream is there for others from the Empty answer on and until its call ends, which it does
 * when whoever uses it closes it, when its lease goes, or when the client goes; that the client sends no more does not end it.
 *
 * @source containerd v2.3.4 plugins/services/streaming/service.go
 */
export function streamingService(streams: StreamTable, leases: LeaseWatch): ServiceBinding {
  return bindService(Streaming, {
    async *stream(messages, call) {
      // An archive comes in thousands of messages, each dealt with before the next is asked for.
      call.borrowRequests?.();
      const requests = messages[Symbol.asyncIterator]();
      const { id } = unpackMessage(StreamInitSchema, await firstMessage(requests));
      if (id.length > idCharactersMax) {
        throw failure(ErrorKind.InvalidArgument, `the id of the stream is longer than ${idCharactersMax} characters`);
      }
      const stream = new OpenStream(requests);
      // A namespace is not needed here, as in containerd, nor must the lease exist.
      const namespace = call.header(namespaceHeader) ?? "";
      const lease = leaseOf(call);
      const unregister = streams.register({ namespace, id }, lease, stream);
      try {
        if (lease !== "") {
          leases.noteLeased();
        }
        yield opened;
        yield* stream.messages(call.signal);
      } finally {
        unregister();
      }
    },
  });
}

async function firstMessage(requests: AsyncIterator<TypedMessage>): Promise<TypedMessage> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(failure(ErrorKind.DeadlineExceeded, "the stream was not given an id in time")),
      initMsMax,
    );
  });
  try {
    const first = await Promise.race([requests.next(), late]);
    if (first.done === true) {
      throw failure(ErrorKind.InvalidArgument, "the stream ended before it was given an id");
    }
    return first.value;
  } finally {
    clearTimeout(timer);
  }
}
