import { randomBytes } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { execa } from "execa";
import { ContainerCreateSchema } from "#gen/containerd/events/container_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { until } from "./processes.ts";

/** A running `ctr events`. */
export interface EventFollower extends AsyncDisposable {
  /** What it has printed so far: `<time> <namespace> <topic> <json>`. */
  readonly lines: readonly string[];
  /** Waits, up to 10 s, until the lines are as wanted. */
  until(areSo: (lines: readonly string[]) => boolean): Promise<void>;
  /** Resolves when it has ended, by itself or not. */
  readonly ended: Promise<void>;
  /** Ends it. */
  stop(): Promise<void>;
}

const probeTopic = "/flotilla/probe";

/**
 * Starts `ctr events` and waits until it really gets events: what happens after that is in the lines.
 *
 * @param filters - As `ctr events` takes them. They must let the topic `/flotilla/probe` pass; none do.
 */
export async function followEvents(
  { address, transport }: { readonly address: string; readonly transport: Transport },
  filters: readonly string[],
): Promise<EventFollower> {
  const lines: string[] = [];
  let isSubscribed = false;
  let partial = "";
  const child = execa("ctr", ["--address", address, "events", ...filters], {
    reject: false,
    stdin: "ignore",
    buffer: false,
  });
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = `${partial}${text}`.split("\n");
    partial = parts.pop() ?? "";
    for (const line of parts) {
      if (line.includes(` ${probeTopic} `)) {
        isSubscribed = true;
      } else {
        lines.push(line);
      }
    }
  });
  const ended = child.then(() => undefined);
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  try {
    await until(
      async () => {
        await publishProbe(transport);
        return isSubscribed;
      },
      () => "ctr events prints no events",
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    lines,
    until: (areSo) =>
      until(
        () => areSo(lines),
        () => `events are not as expected:\n${lines.join("\n")}`,
      ),
    ended,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function publishProbe(transport: Transport): Promise<void> {
  const message = create(ContainerCreateSchema, { id: `probe-${randomBytes(4).toString("hex")}` });
  const event = { typeUrl: ContainerCreateSchema.typeName, value: toBinary(ContainerCreateSchema, message) };
  await createClient(Events, transport).publish({ topic: probeTopic, event }, { headers: clientHeaders("ft-probe") });
}
