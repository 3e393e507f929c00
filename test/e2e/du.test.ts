import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";

const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));
const image = "docker.io/library/busybox:test";

let daemon: Daemon;
let leaks: LeakSnapshot;
const namespace = uniqueNamespace();

before(async () => {
  leaks = await snapshotLeaks();
  daemon = await startFlotilla();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("du tells what images and snapshots take, what keeps them, and comes to what du says", async () => {
  const { tar } = await busyboxImage();
  assert.equal((await daemon.ctr("-n", namespace, "images", "import", tar)).exitCode, 0);
  assert.equal((await daemon.ctr("-n", namespace, "images", "tag", image, "example.com/copy:1")).exitCode, 0);
  assert.equal((await daemon.ctr("-n", namespace, "run", "--rm", image, "once", "true")).exitCode, 0);
  const paths = ["--root", daemon.root, "--state", daemon.state, "--address", daemon.address];
  const { stdout } = await execa(launcher, [...paths, "du", "--json"]);
  const report = JSON.parse(stdout) as {
    readonly diskBytes: number;
    readonly areas: readonly { readonly area: string; readonly diskBytes: number; readonly recordedBytes: number }[];
    readonly holders: readonly {
      readonly kind: string;
      readonly name: string;
      readonly totalBytes: number;
      readonly exclusiveBytes: number;
    }[];
    readonly snapshots: readonly { readonly keptBy: readonly string[]; readonly bytes: number }[];
    readonly content: { readonly bytes: number };
  };
  const { stdout: du } = await execa("du", ["--summarize", "--block-size=1", "--one-file-system", daemon.root]);
  const said = Number(du.split("\t")[0]);
  // The logs of the database and of the stream grow while we look.
  assert.ok(Math.abs(report.diskBytes - said) < 1 << 20, `${report.diskBytes} and ${said}`);
  assert.equal(
    report.areas.reduce((total, area) => total + area.diskBytes, 0),
    report.diskBytes,
  );
  const images = report.holders.filter(({ kind }) => kind === "image");
  assert.deepEqual(images.map(({ name }) => name).sort(), ["docker.io/library/busybox:test", "example.com/copy:1"]);
  assert.ok(images.every(({ totalBytes, exclusiveBytes }) => totalBytes > 1 << 20 && exclusiveBytes === 0));
  const overlayfs = report.areas.find(({ area }) => area === "io.containerd.snapshotter.v1.overlayfs");
  const recorded = report.snapshots.reduce((total, { bytes }) => total + bytes, 0);
  assert.equal(overlayfs?.recordedBytes, recorded);
  assert.ok(overlayfs !== undefined && overlayfs.diskBytes - recorded < 1 << 20, "little is not on record");
  assert.deepEqual(report.snapshots[0]?.keptBy.toSorted(), [
    "image docker.io/library/busybox:test",
    "image example.com/copy:1",
  ]);
  const { stdout: text } = await execa(launcher, [...paths, "du"]);
  assert.match(text, /^DIRECTORY +ON DISK +ON RECORD$/m);
});
