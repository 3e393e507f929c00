import assert from "node:assert/strict";
import test from "node:test";
import { type Mount, MountFlag, parseMountOptions, readOnlyMounts, withoutVolatile } from "./mount-options.ts";

const nothing = { flags: 0, data: [], loop: false, directIo: false, uidmap: "", gidmap: "" };

test("options become flags, and the last one wins", () => {
  assert.deepEqual(parseMountOptions([]), nothing);
  assert.deepEqual(parseMountOptions(["rbind", "ro"]), {
    ...nothing,
    flags: MountFlag.Bind | MountFlag.Recursive | MountFlag.ReadOnly,
  });
  assert.equal(parseMountOptions(["ro", "rw"]).flags, 0);
  assert.equal(parseMountOptions(["rw", "ro"]).flags, MountFlag.ReadOnly);
  assert.equal(
    parseMountOptions(["nosuid", "nodev", "noexec", "suid"]).flags,
    MountFlag.NoDevices | MountFlag.NoExecute,
  );
  assert.equal(parseMountOptions(["rprivate"]).flags, MountFlag.Private | MountFlag.Recursive);
});

test("what is no flag is for the file system, in its order", () => {
  const options = ["workdir=/w", "upperdir=/u", "lowerdir=/a:/b", "index=off", "volatile"];
  assert.deepEqual(parseMountOptions(["defaults", ...options]), { ...nothing, data: options });
});

test("loop and id maps are told apart from data", () => {
  assert.deepEqual(parseMountOptions(["loop", "uidmap=0:1000:10", "gidmap=0:2000:10", "ro"]), {
    flags: MountFlag.ReadOnly,
    data: [],
    loop: true,
    directIo: false,
    uidmap: "0:1000:10",
    gidmap: "0:2000:10",
  });
  assert.deepEqual(parseMountOptions(["loop", "direct-io", "x"]), {
    ...nothing,
    loop: true,
    directIo: true,
    data: ["x"],
  });
  assert.deepEqual(parseMountOptions(["direct-io"]).data, ["direct-io"]);
});

test("an option for the mount manager is refused", () => {
  assert.throws(() => parseMountOptions(["X-containerd.mkdir.path=/x"]), {
    message: 'internal mount option "X-containerd.mkdir.path=/x" was not consumed by the mount manager',
  });
});

test("an overlay is made read-only by turning its upper directory into a lower one", () => {
  const overlay: Mount = {
    type: "overlay",
    source: "overlay",
    options: ["uidmap=0:1:1", "workdir=/w", "upperdir=/u", "lowerdir=/b:/a", "index=off"],
  };
  assert.deepEqual(readOnlyMounts([overlay]), [{ ...overlay, options: ["lowerdir=/u:/b:/a", "index=off"] }]);
  const view: Mount = { type: "overlay", source: "overlay", options: ["lowerdir=/b:/a"] };
  assert.deepEqual(readOnlyMounts([view]), [view]);
});

test("other mounts are made read-only by an option, once", () => {
  const bind: Mount = { type: "bind", source: "/x", options: ["rw", "rbind"] };
  assert.deepEqual(readOnlyMounts([bind, { ...bind, options: ["ro", "rbind"] }]), [
    { ...bind, options: ["rbind", "ro"] },
    { ...bind, options: ["rbind", "ro"] },
  ]);
});

test("only an overlay loses the option volatile", () => {
  const overlay: Mount = {
    type: "overlay",
    source: "overlay",
    options: ["volatile", "lowerdir=/a:/b", "fsync=volatile"],
  };
  const other: Mount = { type: "tmpfs", source: "tmpfs", options: ["volatile"] };
  assert.deepEqual(withoutVolatile([overlay, other]), [{ ...overlay, options: ["lowerdir=/a:/b"] }, other]);
});
