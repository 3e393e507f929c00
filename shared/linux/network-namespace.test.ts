import assert from "node:assert/strict";
import { existsSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import test from "node:test";
import { execa } from "execa";
import {
  isNamespace,
  keepNamespace,
  makeNetworkNamespace,
  releaseNamespace,
  switchLoopbackOn,
} from "./network-namespace.ts";

const skip = { skip: process.getuid?.() === 0 ? false : "making namespaces takes root" };

test("a network namespace is made, kept and released, and this process stays in its own", skip, async () => {
  const directory = await mkdtemp("/tmp/netns-");
  const [path, second] = [`${directory}/a`, `${directory}/b`];
  try {
    const home = readlinkSync("/proc/thread-self/ns/net");
    await makeNetworkNamespace(path);
    assert.equal(readlinkSync("/proc/thread-self/ns/net"), home);
    assert.equal(isNamespace(path), true);
    assert.notEqual(`net:[${statSync(path).ino}]`, home);
    await assert.rejects(makeNetworkNamespace(path), { code: "EEXIST" });

    const { stdout: down } = await execa("nsenter", [`--net=${path}`, "cat", "/proc/net/if_inet6"]);
    assert.equal(down, "");
    switchLoopbackOn(path);
    assert.equal(readlinkSync("/proc/thread-self/ns/net"), home);
    const { stdout: up } = await execa("nsenter", [`--net=${path}`, "cat", "/proc/net/if_inet6"]);
    assert.match(up, /\blo$/);

    await keepNamespace(path, second);
    assert.equal(statSync(second).ino, statSync(path).ino);
    await releaseNamespace(path);
    await releaseNamespace(path);
    assert.equal(existsSync(path), false);
    assert.equal(isNamespace(path), false);
    assert.equal(isNamespace(second), true);
    await assert.rejects(keepNamespace(`${directory}/none`, `${directory}/c`), /no such file or directory/);
    assert.equal(existsSync(`${directory}/c`), false);
  } finally {
    await releaseNamespace(path);
    await releaseNamespace(second);
    await rm(directory, { recursive: true });
  }
  assert.doesNotMatch(readFileSync("/proc/self/mounts", "utf8"), new RegExp(directory));
});
