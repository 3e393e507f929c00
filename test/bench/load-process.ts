import type { LoadJob, LoadReport } from "./load.ts";
import { LoadConnection } from "./load-connection.ts";
import { spreadOf } from "./measurement.ts";

/** Makes the calls that the bench asks for, in a process of its own, so that nothing else runs on its event loop. */
process.on("message", (job: LoadJob) => {
  runJob(job).then(
    (report) => process.send?.(report),
    (error: unknown) => process.send?.({ failure: String(error) }),
  );
});

async function runJob(job: LoadJob): Promise<LoadReport> {
  const requests = job.calls.map(({ path, messageBase64 }) => ({
    path,
    message: Buffer.from(messageBase64, "base64"),
  }));
  const open = (): Promise<LoadConnection> => LoadConnection.open(job.address, { namespace: job.namespace, requests });
  if (job.connectsEachTime === true) {
    return await runFreshly(open, job);
  }
  const connection = await open();
  try {
    await connection.run({ inFlight: job.inFlight, durationMs: job.warmUpMs });
    const { turns, elapsedMs, latenciesMs, receivedBytes } = await connection.run(job);
    return { turns, elapsedMs, receivedBytes, medianMs: spreadOf([...latenciesMs]).median };
  } finally {
    connection.close();
  }
}

/** One turn on each of many connections. */
async function runFreshly(open: () => Promise<LoadConnection>, job: LoadJob): Promise<LoadReport> {
  const latenciesMs: number[] = [];
  let receivedBytes = 0;
  const startedMs = performance.now();
  const countsFromMs = startedMs + job.warmUpMs;
  const endMs = countsFromMs + job.durationMs;
  for (let beganMs = startedMs; beganMs < endMs; beganMs = performance.now()) {
    const connection = await open();
    try {
      const result = await connection.run({ inFlight: 1, durationMs: 0 });
      if (beganMs >= countsFromMs) {
        latenciesMs.push(performance.now() - beganMs);
        receivedBytes += result.receivedBytes;
      }
    } finally {
      connection.close();
    }
  }
  const elapsedMs = performance.now() - countsFromMs;
  return { turns: latenciesMs.length, elapsedMs, receivedBytes, medianMs: spreadOf(latenciesMs).median };
}
