import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { findInconsistencies } from "../kit/check.ts";
import { type Daemon, type DaemonProcess, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { faultsIn } from "./log-faults.ts";
import { seededRandom } from "./random.ts";

const processes: readonly DaemonProcess[] = ["metadata", "snapshots", "tasks", "content", "events"];
/** Of each process in a row; each death counts against its process. */
const runsOfEach = 5;
/** About how long a run takes that nobody disturbs. */
const runMsMax = 600;

let daemon: Daemon;
let leaks: LeakSnapshot;
let image: TestImage;
const namespace = uniqueNamespace();
const ctr = (...args: string[]) => daemon.ctr("-n", namespace, ...args);

before(async () => {
  leaks = await snapshotLeaks();
  image = await busyboxImage();
  daemon = await startFlotilla();
  assert.equal((await ctr("images", "import", image.tar)).exitCode, 0, daemon.log());
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

for (const name of processes) {
  test(`ctr run notices nothing of kill -9 of ${name} at any moment`, async (t) => {
    const random = seededRandom();
    t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
    for (let run = 0; run < runsOfEach; run += 1) {
      await until(
        () => daemon.pidOf(name) !== undefined,
        () => `${name} is not started again:\n${daemon.log()}`,
        30_000,
      );
      const id = `${name}-${run}`;
      const ran = ctr("run", "--rm", image.name, id, "sh", "-c", "echo ran; exit 7");
      const afterMs = random.below(runMsMax);
      await delay(afterMs);
      await daemon.kill9(name);
      const { exitCode, stdout, stderr } = await ran;
      assert.deepEqual([exitCode, stdout], [7, "ran\n"], `killed after ${afterMs} ms: ${stderr}\n${daemon.log()}`);
    }
  });
}

test("records and files fit, and nothing is left", async () => {
  assert.equal((await ctr("containers", "ls", "-q")).stdout, "");
  assert.deepEqual(await findInconsistencies(daemon, { namespace }), []);
  assert.deepEqual(faultsIn(daemon.log()), []);
});
