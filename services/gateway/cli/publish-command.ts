import { resolve } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { defaultAddress } from "#config/listeners.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Command, CommandInput } from "./command.ts";
import { readInput } from "./output.ts";

/**
 * Publishes one event. Shims run it to tell of an exit when the daemon that started them is gone.
 *
 * @source containerd v2.3.4 cmd/containerd/command/publish.go `publishCommand`
 */
export const publishCommand: Command = {
  names: ["publish"],
  usage: "Publish an event, given as a google.protobuf.Any on standard input",
  flags: [
    { names: ["namespace"], usage: "Namespace to publish in" },
    { names: ["topic"], usage: "Topic of the event, such as /tasks/exit" },
  ],
  run: publish,
};

/** Longer than the daemon needs to come back after a crash, since a shim publishes just then. */
const publishMsMax = 30_000;

async function publish({ values, globals }: CommandInput): Promise<void> {
  const topic = values.get("topic") ?? "";
  if (topic === "") {
    throw failure(ErrorKind.InvalidArgument, "topic required to publish event");
  }
  const event = decodeEvent(await readInput());
  const connection = connectRpc(resolve(globals.get("address") || defaultAddress));
  try {
    await createClient(Events, connection.transport).publish(
      { topic, event },
      { headers: clientHeaders(values.get("namespace") ?? ""), timeoutMs: publishMsMax },
    );
  } finally {
    connection.close();
  }
}

function decodeEvent(bytes: Uint8Array): Any {
  try {
    return fromBinary(AnySchema, bytes);
  } catch (error) {
    throw new Error(`the event on standard input: ${errorMessage(error)}`, { cause: error });
  }
}
