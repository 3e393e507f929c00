import assert from "node:assert/strict";
import test from "node:test";
import { parseMountInfo } from "./mount-info.ts";

test("a line is taken apart into its fields", () => {
  const line =
    "36 35 98:0 /mnt1 /mnt2 rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue\n" +
    "37 36 0:5 / /plain ro - tmpfs tmpfs rw\n";
  assert.deepEqual(parseMountInfo(line), [
    {
      id: 36,
      parentId: 35,
      device: "98:0",
      root: "/mnt1",
      mountPoint: "/mnt2",
      options: "rw,noatime",
      propagation: ["shared:7", "master:1"],
      type: "ext3",
      source: "/dev/root",
      superOptions: "rw,errors=continue",
    },
    {
      id: 37,
      parentId: 36,
      device: "0:5",
      root: "/",
      mountPoint: "/plain",
      options: "ro",
      propagation: [],
      type: "tmpfs",
      source: "tmpfs",
      superOptions: "rw",
    },
  ]);
});

test("octal escapes are undone, also of the backslash itself", () => {
  const [mount] = parseMountInfo("1 2 0:1 / /a\\040b\\134040\\011c\\012 rw - tmpfs - rw\n");
  assert.equal(mount?.mountPoint, "/a b\\040\tc\n");
});

test("a line that is cut short is left out", () => {
  assert.deepEqual(parseMountInfo("36 35 98:0 /mnt1 /mnt2 rw\n\n36 35 98:0 /mnt1 /mnt2 rw shared:1 -\n"), []);
});
