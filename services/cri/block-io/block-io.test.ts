import assert from "node:assert/strict";
import test from "node:test";
import { type FindBlockDevices, readBlockIoClasses } from "./block-io.ts";
import { findBlockDevices } from "./open-block-io.ts";

const disks: FindBlockDevices = (patterns) =>
  Promise.resolve({
    devices: patterns.flatMap((pattern) =>
      pattern === "/dev/sd*"
        ? [
            { major: 8, minor: 0 },
            { major: 8, minor: 16 },
          ]
        : pattern === "/dev/sdb"
          ? [{ major: 8, minor: 16 }]
          : [],
    ),
    complaints: patterns.includes("/dev/none") ? ['device wildcard "/dev/none" does not match any device nodes'] : [],
  });

test("a class is what a specification says of devices, and the later word counts", async () => {
  const text = `
Classes:
  slow:
    - Weight: "80"
    - Devices: [/dev/sd*]
      ThrottleReadBps: 60M
      ThrottleWriteIOPS: "1k"
      Weight: "30"
    - Devices: [/dev/sdb]
      ThrottleReadBps: 1Gi
  empty: []
`;
  const { classes, complaints } = await readBlockIoClasses(text, disks);
  assert.deepEqual(complaints, []);
  assert.deepEqual(classes.get("empty"), {});
  assert.deepEqual(classes.get("slow"), {
    weight: 80,
    weightDevice: [
      { major: 8, minor: 0, weight: 30 },
      { major: 8, minor: 16, weight: 30 },
    ],
    throttleReadBpsDevice: [
      { major: 8, minor: 0, rate: 60_000_000 },
      { major: 8, minor: 16, rate: 1_073_741_824 },
    ],
    throttleWriteIOPSDevice: [
      { major: 8, minor: 0, rate: 1000 },
      { major: 8, minor: 16, rate: 1000 },
    ],
  });
});

test("what is wrong in a class is told of and left out, and what is no such file is refused", async () => {
  const text = `
Classes:
  odd:
    - Weight: "5"
      ThrottleReadBps: "1M"
    - Devices: [/dev/none]
      ThrottleReadBps: fast
`;
  const { classes, complaints } = await readBlockIoClasses(text, disks);
  assert.deepEqual(classes.get("odd"), {});
  assert.deepEqual(complaints, [
    'blockio class "odd": value of "Weight" (5) smaller than minimum (10)',
    'blockio class "odd": ignoring throttling (ThrottleReadBps): Devices not listed',
    'blockio class "odd": syntax error in "ThrottleReadBps" ("fast")',
    'blockio class "odd": device wildcard "/dev/none" does not match any device nodes',
  ]);
  assert.equal((await readBlockIoClasses("", disks)).classes.size, 0);
  await assert.rejects(readBlockIoClasses("Classes: {a: [{Speed: '1'}]}", disks), /unknown field "Speed"/);
});

test("devices are found by their names, and what is none is told of", async () => {
  const { devices, complaints } = await findBlockDevices(["/dev/null", "/nowhere/*"]);
  assert.deepEqual(devices, []);
  assert.deepEqual(complaints, [
    'device wildcard "/nowhere/*" does not match any device nodes',
    'file "/dev/null" is not a block device',
  ]);
});
