import { hostname } from "node:os";
import { JetStreamBus } from "../../services/events/bus/jetstream.ts";
import { MemoryBus } from "../../services/events/bus/memory.ts";
import { dialNats } from "../../services/events/bus/nats.ts";
import { eventBusSuite } from "../conformance/event-bus.suite.ts";
import { NatsServer } from "./nats-server.ts";

eventBusSuite("memory", () =>
  Promise.resolve({ bus: new MemoryBus(), [Symbol.asyncDispose]: () => Promise.resolve() }),
);

eventBusSuite("JetStream", async () => {
  const resources = new AsyncDisposableStack();
  const nats = resources.use(await NatsServer.start());
  const bus = resources.use(
    new JetStreamBus({
      dial: () => dialNats(nats.address),
      stream: {
        name: "suite",
        retentionAgeMs: 3_600_000,
        retentionBytes: 64 * 1024 * 1024,
        replicas: 1,
        duplicateWindowMs: 120_000,
      },
      origin: { source: "/flotilla/suite", host: hostname() },
      waitMsMax: 10_000,
      isAlone: true,
      flush: undefined,
      onConnected: () => undefined,
      onDisconnected: () => undefined,
    }),
  );
  await bus.ready(10_000);
  return { bus, [Symbol.asyncDispose]: () => resources.disposeAsync() };
});
