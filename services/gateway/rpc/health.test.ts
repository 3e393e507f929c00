import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "#gen/grpc/health/v1/health_pb.ts";
import { healthHandlers } from "./health.ts";

test("health says that the daemon serves no longer once a process was given up, and tells who watches", async () => {
  const crippled = new AbortController();
  const ended = new AbortController();
  const { check, watch } = healthHandlers(crippled.signal);
  const call = { header: () => undefined, signal: ended.signal };
  const request = create(HealthCheckRequestSchema, {});
  const statusOf = async (): Promise<unknown> => ((await check(request, call)) as { status: unknown }).status;
  const watched = watch(request, call)[Symbol.asyncIterator]() as AsyncIterator<{ status?: ServingStatus }>;

  assert.equal(await statusOf(), ServingStatus.SERVING);
  assert.deepEqual(await watched.next(), { done: false, value: { status: ServingStatus.SERVING } });
  const next = watched.next();
  crippled.abort();
  assert.deepEqual(await next, { done: false, value: { status: ServingStatus.NOT_SERVING } });
  assert.equal(await statusOf(), ServingStatus.NOT_SERVING);
  const last = watched.next();
  ended.abort();
  assert.equal((await last).done, true);
});
