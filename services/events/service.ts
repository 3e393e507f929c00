import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { readFileIfThere, replaceFile } from "#base/durable-file.ts";
import { heldCallMsMax } from "#base/limits.ts";
import { guardSocket } from "#fleet/admission.ts";
import { logFailures } from "#fleet/failed-calls.ts";
import type { Logger } from "#fleet/log.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import { shimEventsSocketOf, stateDirectoryOf } from "#fleet/process-name.ts";
import { type ProcessContext, type ProcessParts } from "#fleet/run.ts";
import { readUsers } from "#fleet/users.ts";
import { Events as TtrpcEvents } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { bindService } from "#wire/handler.ts";
import { serveTtrpc } from "#wire/ttrpc/server.ts";
import type { EventBus } from "./bus/bus.ts";
import { JetStreamBus } from "./bus/jetstream.ts";
import type { Dial } from "./bus/link.ts";
import { dialNats, withoutPassword } from "./bus/nats.ts";
import { StreamFiles } from "./bus/stream-files.ts";
import { type EventsConfig, readEventsConfig } from "./config.ts";
import { eventFamilies } from "./event-families.ts";
import { Intake } from "./intake/intake.ts";
import { Spool } from "./intake/spool.ts";
import { ChildServer } from "./nats/server.ts";
import { childAccount } from "./nats/server-config.ts";
import { eventsGrpcPlugin, natsPlugin } from "./plugins.ts";
import { eventLogHandlers } from "./rpc/event-log.ts";
import { eventHandlers } from "./rpc/events.ts";
import { ttrpcEventHandlers } from "./rpc/ttrpc-events.ts";

const drainMs = 5_000;
/** How long the start waits for NATS. The gateway does not wait for a process as long as calls may wait. */
const readyMsMax = 5_000;

/** Builds the events process. */
export async function composeEvents(context: ProcessContext): Promise<ProcessParts> {
  const { config, log, resources } = context;
  const settings = readEventsConfig(config);
  const nats = openNats(context, settings);
  const files = resources.use(
    new StreamFiles(`${settings.root}/jetstream/${childAccount}/streams/${settings.stream.name}/msgs`),
  );
  const bus = resources.use(
    new JetStreamBus({
      dial: nats.dial,
      stream: settings.stream,
      origin: { source: await readSource(settings.root), host: hostname() },
      waitMsMax: heldCallMsMax,
      isAlone: settings.external === undefined,
      flush: settings.external === undefined ? () => files.flush() : undefined,
      onConnected: () => log.info("connected to NATS"),
      onDisconnected: (reason) => log.warn({ err: reason }, "not connected to NATS"),
    }),
  );
  // Shims can tell their events before NATS is there.
  const spool = await serveShims(context, settings, bus);
  await nats.started;
  return {
    plugins: plugins(bus, settings),
    services: [bindService(EventLog, eventLogHandlers(bus))],
    measure: () => eventFamilies(bus.state(), spool.sizeBytes),
  };
}

/** Opens the socket on which the gateway hands over what shims say. */
async function serveShims(
  { config, log, resources }: ProcessContext,
  { root }: EventsConfig,
  bus: EventBus,
): Promise<Spool> {
  const spool = resources.use(await Spool.open(`${root}/spool`));
  const intake = new Intake(bus, spool, log);
  const stop = new AbortController();
  const running = intake.run(stop.signal);
  resources.defer(async () => {
    stop.abort();
    await running;
  });
  const ttrpc = await serveTtrpc({
    socketPath: shimEventsSocketOf(config.state),
    admit: guardSocket({ process: "events", side: "public", log, users: readUsers() }),
    services: [bindService(TtrpcEvents, ttrpcEventHandlers(intake))],
    observer: logFailures(log),
  });
  resources.defer(() => ttrpc.close(drainMs));
  return spool;
}

function plugins(bus: JetStreamBus, { external, stream }: EventsConfig): PluginDefinition[] {
  return [
    {
      manifest: natsPlugin,
      async init() {
        await bus.ready(readyMsMax);
        return { exports: { stream: stream.name, url: external === undefined ? "" : withoutPassword(external.url) } };
      },
    },
    { manifest: eventsGrpcPlugin, init: () => ({ services: [bindService(Events, eventHandlers(bus))] }) },
  ];
}

/** Starts the child server, unless the configuration names one elsewhere. */
function openNats(
  { config, log, resources, stopping }: ProcessContext,
  { external, root, stream }: EventsConfig,
): { readonly dial: Dial; readonly started: Promise<void> } {
  if (external !== undefined) {
    return { dial: () => dialNats(external), started: Promise.resolve() };
  }
  const child = resources.use(
    new ChildServer({
      root,
      state: stateDirectoryOf(config.state, "events"),
      stream: stream.name,
      retentionBytes: stream.retentionBytes,
      log,
      interrupted: stopping,
      onFailed: () => endBeyondBudget(log),
    }),
  );
  const started = child.start();
  return {
    dial: async () => {
      await started;
      return await dialNats(child.address());
    },
    started,
  };
}

/** A server that keeps dying is this process's failure, which its own owner counts. */
function endBeyondBudget(log: Logger): void {
  log.fatal("nats-server keeps dying, ending with it");
  process.exit(1);
}

/** The daemon's own URI reference among all sources of events, made at the first start. */
async function readSource(root: string): Promise<string> {
  const path = `${root}/source`;
  const stored = await readFileIfThere(path);
  if (stored !== undefined) {
    return stored.trim();
  }
  const source = `/flotilla/${randomUUID()}`;
  await mkdir(root, { recursive: true, mode: 0o700 });
  await replaceFile(path, `${source}\n`, { mode: 0o644 });
  return source;
}
