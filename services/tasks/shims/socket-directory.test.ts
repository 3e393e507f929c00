import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, stat, symlink } from "node:fs/promises";
import test from "node:test";
import { openSocketDirectory, shimSocketAddress } from "./socket-directory.ts";

const user = { uid: process.geteuid?.() ?? 0, runtimeDirectory: "" };

test("a configured directory is made for its user alone, and must be one that can hold sockets", async (t) => {
  const base = await mkdtemp("/tmp/fs-");
  t.after(() => rm(base, { recursive: true }));
  assert.equal(await openSocketDirectory(`${base}/x/../s`, user), `${base}/s`);
  assert.equal((await stat(`${base}/s`)).mode & 0o777, 0o700);
  await mkdir(`${base}/wide`, { mode: 0o777 });
  await openSocketDirectory(`${base}/wide`, user);
  assert.equal((await stat(`${base}/wide`)).mode & 0o777, 0o700);
  await symlink(`${base}/s`, `${base}/link`);
  await assert.rejects(openSocketDirectory(`${base}/link`, user), /does not belong to user/);
  await assert.rejects(openSocketDirectory(`${base}/s`, { ...user, uid: user.uid + 1 }), /does not belong to user/);
  await assert.rejects(openSocketDirectory("relative", user), /socket_dir must be an absolute path: "relative"/);
  await assert.rejects(
    openSocketDirectory(`/${"x".repeat(42)}`, user),
    /socket_dir length must be no longer than 42 characters/,
  );
});

test("a shim's socket is named by the digest of address, namespace and id", () => {
  assert.equal(
    shimSocketAddress("/run/containerd/s", { grpcAddress: "/run/containerd/containerd.sock", namespace: "n", id: "i" }),
    // printf '/run/containerd/containerd.sock/n/i' | sha256sum
    "unix:///run/containerd/s/e3dbfacc54ba6144b645855dd666be45263907dd4adf5945d1a8efcd3bf5f0f8",
  );
});
