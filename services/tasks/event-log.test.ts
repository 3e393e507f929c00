import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { createRouterTransport } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { openLog } from "#fleet/log.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { openEventLog } from "./event-log.ts";

test("however many tasks have ended, few calls try to tell it at a time, and all is told in the end", async () => {
  let isRefusing = true;
  let underWay = 0;
  let mostUnderWay = 0;
  const told: string[] = [];
  const refused = Promise.withResolvers<void>();
  const transport = createRouterTransport(({ service }) =>
    service(EventLog, {
      append: async ({ records }) => {
        underWay += 1;
        mostUnderWay = Math.max(mostUnderWay, underWay);
        await new Promise((resolve) => setImmediate(resolve));
        underWay -= 1;
        if (isRefusing) {
          refused.resolve();
          throw failure(ErrorKind.Unavailable, "no stream");
        }
        told.push(...records.map(({ messageId }) => messageId));
        return {};
      },
    }),
  );
  const stop = new AbortController();
  const log = openEventLog(
    { transport, close: () => undefined },
    { log: openLog("tasks", { level: "fatal", format: "json" }), stopping: stop.signal },
  );
  const ids = Array.from({ length: 100 }, (_, index) => `task-${index}`);
  const published = ids.map((messageId) =>
    log.publish([{ messageId, namespace: "n", topic: "/tasks/exit", event: create(AnySchema, {}) }]),
  );
  await refused.promise;
  isRefusing = false;
  await Promise.all(published);
  assert.deepEqual(told.sort(), ids.sort());
  assert.ok(mostUnderWay <= 4, `${mostUnderWay} calls at a time`);
});
