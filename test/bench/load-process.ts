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
  const message = Buffer.from(job.messageBase64, "base64");
  const connection = await LoadConnection.open(job.address, { ...job, message });
  try {
    await connection.run({ inFlight: job.inFlight, durationMs: job.warmUpMs });
    const { calls, elapsedMs, latenciesMs, receivedBytes } = await connection.run(job);
    return { calls, elapsedMs, receivedBytes, medianMs: spreadOf([...latenciesMs]).median };
  } finally {
    connection.close();
  }
}
