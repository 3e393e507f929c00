import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { ContainerConfigSchema, ContainerState, LinuxContainerResourcesSchema } from "#gen/runtime/v1/api_pb.ts";
import {
  Container,
  type ContainerStatusRecord,
  readStatus,
  removeStatus,
  stateOf,
  unknownStatus,
  writeStatus,
} from "./container.ts";

const created: ContainerStatusRecord = {
  ...unknownStatus,
  unknown: false,
  exitCode: 0,
  reason: "",
  createdAtNs: 1764290000123456789n,
};

async function inDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(`${tmpdir()}/flotilla-status-`);
  try {
    await run(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function containerIn(directory: string): Container {
  const config = create(ContainerConfigSchema, {});
  const metadata = {
    id: "c",
    name: "n",
    podId: "p",
    config,
    imageRef: "",
    logPath: "",
    stopSignal: "",
    processLabel: "",
  };
  const facts = {
    metadata,
    directory,
    stateDirectory: directory,
    runtime: { name: "", options: undefined },
    snapshotter: "",
    user: undefined,
    rootMounts: [],
  };
  return new Container(facts, created);
}

test("a status is written as containerd writes it, and read back whole", () =>
  inDirectory(async (directory) => {
    const resources = create(LinuxContainerResourcesSchema, { memoryLimitInBytes: 2n ** 62n, cpuShares: 2n });
    const status = { ...created, pid: 7, startedAtNs: 3n, exitCode: 1, reason: "OOMKilled", resources };
    await writeStatus(directory, status);
    assert.equal(
      await readFile(`${directory}/status`, "utf8"),
      '{"Version":"v1","Pid":7,"CreatedAt":1764290000123456789,"StartedAt":3,"FinishedAt":0,"ExitCode":1,"Reason":"OOMKilled","Message":"",' +
        '"Resources":{"linux":{"cpu_shares":2,"memory_limit_in_bytes":4611686018427387904}},"Restore":false}',
    );
    assert.deepEqual(await readStatus(directory), status);
    await removeStatus(directory);
    await assert.rejects(readStatus(directory), /failed to read status/);
    await writeFile(`${directory}/status`, '{"Version":"v2"}');
    await assert.rejects(readStatus(directory), /unsupported version/);
  }));

test("the state of a container follows from its times", () => {
  const states: [Partial<ContainerStatusRecord>, ContainerState][] = [
    [{}, ContainerState.CONTAINER_CREATED],
    [{ startedAtNs: 1n }, ContainerState.CONTAINER_RUNNING],
    [{ startedAtNs: 1n, finishedAtNs: 2n }, ContainerState.CONTAINER_EXITED],
    [{ finishedAtNs: 2n }, ContainerState.CONTAINER_EXITED],
    [{ createdAtNs: 0n }, ContainerState.CONTAINER_UNKNOWN],
    [{ finishedAtNs: 2n, unknown: true }, ContainerState.CONTAINER_UNKNOWN],
  ];
  for (const [change, state] of states) {
    assert.equal(stateOf({ ...created, ...change }), state);
  }
});

test("a status is on disk before it is seen, and changes wait for each other", () =>
  inDirectory(async (directory) => {
    const container = containerIn(directory);
    const first = container.update(async (status) => {
      await new Promise((resolve) => setImmediate(resolve));
      return { ...status, startedAtNs: 1n };
    });
    const second = container.update((status) => ({ ...status, exitCode: Number(status.startedAtNs) }));
    container.mark(() => ({ starting: true }));
    assert.equal(container.state, ContainerState.CONTAINER_CREATED);
    await Promise.all([first, second]);
    assert.equal(container.status.exitCode, 1);
    assert.equal(container.status.starting, true, "what is not kept is not lost");
    await assert.rejects(
      container.update(() => {
        throw new Error("no");
      }),
      { message: "no" },
    );
    await rm(directory, { recursive: true });
    await assert.rejects(
      container.update((status) => ({ ...status, exitCode: 5 })),
      /failed to checkpoint status/,
    );
    assert.equal(container.status.exitCode, 1);
  }));
