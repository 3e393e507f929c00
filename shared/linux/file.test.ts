import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { asByteString, fromByteString, toByteString } from "./bytes.ts";
import { listDirectory, removeTreeAt } from "./directory.ts";
import {
  closeFile,
  deviceNumber,
  makeDirectoryAt,
  makeNodeAt,
  OpenFlag,
  openAt,
  openInRoot,
  openResolved,
  Resolve,
  readSymlinkAt,
  succeed,
  workingDirectory,
  writeFully,
} from "./file.ts";
import { changeModeAt, setTimesAt } from "./inode.ts";
import { errnoText, SystemError } from "./libc.ts";
import { FileType, findStatusAt, typeOf } from "./stat.ts";
import { findAttributeAt, listAttributesAt, setAttributeAt } from "./xattr.ts";

interface OpenedDirectory {
  readonly path: string;
  readonly descriptor: number;
}

function temporaryDirectory(context: TestContext): OpenedDirectory {
  const path = mkdtempSync(`${tmpdir()}/flotilla-file-`);
  const descriptor = openAt(workingDirectory, toByteString(path), OpenFlag.ReadOnly | OpenFlag.Directory);
  context.after(() => {
    removeTreeAt(workingDirectory, toByteString(path));
    closeFile(descriptor);
  });
  return { path, descriptor: succeed(descriptor, () => path) };
}

test("error texts are those of Go", () => {
  // Go syscall/zerrors_linux_amd64.go
  assert.equal(errnoText(2), "no such file or directory");
  assert.equal(errnoText(5), "input/output error");
  assert.equal(errnoText(16), "device or resource busy");
  assert.equal(errnoText(18), "invalid cross-device link");
  assert.equal(errnoText(39), "directory not empty");
  assert.equal(errnoText(95), "operation not supported");
  assert.equal(errnoText(68), "advertise error");
  assert.equal(errnoText(81), ".lib section in a.out corrupted");
  assert.equal(errnoText(78), "remote address changed");
  const error = new SystemError(95, "setxattr");
  assert.equal(error.message, "setxattr: operation not supported");
  assert.deepEqual([error.code, error.errno, error.kind], ["ENOTSUP", 95, "unknown"]);
});

test("bytes that are no UTF-8 survive as names", (context) => {
  const { descriptor } = temporaryDirectory(context);
  const name = asByteString("caf\xe9");
  succeed(makeDirectoryAt(descriptor, name, 0o700), () => "mkdir");
  assert.deepEqual(listDirectory(descriptor), [name]);
  assert.equal(fromByteString(toByteString("café")), "café");
  assert.equal(toByteString("café"), "caf\xc3\xa9");
});

test("a path in a root cannot leave it", (context) => {
  const { path, descriptor } = temporaryDirectory(context);
  mkdirSync(`${path}/root/etc`, { recursive: true });
  writeFileSync(`${path}/root/etc/passwd`, "inside");
  symlinkSync("/etc", `${path}/root/absolute`);
  symlinkSync("../../../../etc", `${path}/root/relative`);
  for (const way of ["etc/passwd", "/etc/passwd", "../../etc/passwd", "absolute/passwd", "relative/passwd"]) {
    const opened = openInRoot(toByteString(`${path}/root`), toByteString(way));
    assert.equal(readFileSync(`/proc/self/fd/${opened}`, "utf8"), "inside", way);
    closeFile(opened);
  }
  assert.throws(() => openInRoot(toByteString(`${path}/root`), toByteString("missing")), { code: "ENOENT" });
  const beneath = openResolved(descriptor, toByteString("root/../.."), OpenFlag.Path, Resolve.Beneath);
  assert.equal(beneath, -18);
  const symlink = openResolved(descriptor, toByteString("root/absolute"), OpenFlag.Path, Resolve.NoSymlinks);
  assert.equal(symlink, -40);
});

test("names that are too long are told, not cut", (context) => {
  const { descriptor } = temporaryDirectory(context);
  const long = toByteString("x/".repeat(4096));
  assert.equal(openAt(descriptor, long, OpenFlag.Path), -36);
  assert.equal(makeDirectoryAt(descriptor, long, 0o700), -36);
  assert.throws(() => findStatusAt(descriptor, long), { code: "ENAMETOOLONG" });
  assert.throws(() => findAttributeAt(descriptor, long, toByteString("user.a")), { code: "ENAMETOOLONG" });
});

test("status, times and modes are those that were set", (context) => {
  const { path, descriptor } = temporaryDirectory(context);
  const name = toByteString("file");
  const file = succeed(openAt(descriptor, name, OpenFlag.WriteOnly | OpenFlag.Create, 0o600), () => "open");
  assert.equal(writeFully(file, Buffer.from("12345")), 5);
  closeFile(file);
  const accessed = { seconds: -1, nanoseconds: 5 };
  const modified = { seconds: 2 ** 32 + 7, nanoseconds: 999_999_999 };
  assert.equal(setTimesAt(descriptor, name, accessed, modified), 0);
  assert.equal(changeModeAt(descriptor, name, 0o4711), 0);
  const status = findStatusAt(descriptor, name);
  assert.deepEqual(status?.accessed, accessed);
  assert.deepEqual(status?.modified, modified);
  assert.equal(status?.mode, FileType.Regular | 0o4711);
  assert.equal(status?.sizeBytes, 5);
  assert.equal(status?.inode, lstatSync(`${path}/file`, { bigint: true }).ino);
  assert.equal(findStatusAt(descriptor, toByteString("missing")), undefined);
  symlinkSync("target", `${path}/link`);
  assert.equal(changeModeAt(descriptor, toByteString("link"), 0o600), -95);
  assert.equal(readSymlinkAt(descriptor, toByteString("link")), "target");
});

test("device numbers are those of the C library", (context) => {
  assert.equal(deviceNumber(1, 3), 0x103n);
  assert.equal(deviceNumber(0xfffff123, 0xfff4_5678), 0xffff_ffff_4561_2378n);
  const { path, descriptor } = temporaryDirectory(context);
  assert.equal(makeNodeAt(descriptor, toByteString("null"), FileType.Character | 0o600, deviceNumber(1, 3)), 0);
  assert.equal(lstatSync(`${path}/null`).rdev, 0x103);
  const status = findStatusAt(descriptor, toByteString("null"));
  assert.deepEqual([status?.nodeMajor, status?.nodeMinor], [1, 3]);
});

test("extended attributes of files and links", (context) => {
  const { path, descriptor } = temporaryDirectory(context);
  writeFileSync(`${path}/file`, "");
  symlinkSync("file", `${path}/link`);
  const [file, link, key] = [toByteString("file"), toByteString("link"), toByteString("trusted.test")];
  const value = Buffer.from([0, 255, 10]);
  assert.equal(findAttributeAt(descriptor, file, key), undefined);
  assert.equal(setAttributeAt(descriptor, file, key, value), 0);
  assert.equal(setAttributeAt(descriptor, file, key, value, { create: true }), -17);
  assert.deepEqual(findAttributeAt(descriptor, file, key), value);
  assert.deepEqual(listAttributesAt(descriptor, file), [key]);
  assert.deepEqual(listAttributesAt(descriptor, link), []);
  assert.equal(setAttributeAt(descriptor, link, toByteString("user.test"), value), -1);
});

test("a tree is removed without following links, however deep it is", { timeout: 60_000 }, (context) => {
  const { path, descriptor } = temporaryDirectory(context);
  mkdirSync(`${path}/outside`);
  writeFileSync(`${path}/outside/keep`, "");
  mkdirSync(`${path}/tree`);
  symlinkSync("../outside", `${path}/tree/link`);
  let below = succeed(openAt(descriptor, toByteString("tree"), OpenFlag.ReadOnly | OpenFlag.Directory), () => "open");
  const name = asByteString("d\xff");
  for (let depth = 0; depth < 3000; depth += 1) {
    succeed(makeDirectoryAt(below, name, 0o700), () => "mkdir");
    const next = succeed(openAt(below, name, OpenFlag.ReadOnly | OpenFlag.Directory), () => "open");
    closeFile(below);
    below = next;
  }
  closeFile(below);
  removeTreeAt(descriptor, toByteString("tree"));
  removeTreeAt(descriptor, toByteString("tree"));
  assert.deepEqual(readdirSync(path), ["outside"]);
  assert.ok(existsSync(`${path}/outside/keep`));
  assert.equal(typeOf(findStatusAt(descriptor, toByteString("outside")) ?? assert.fail()), FileType.Directory);
});

test("a single file and a file without permission are removed too", (context) => {
  const { path, descriptor } = temporaryDirectory(context);
  writeFileSync(`${path}/file`, "");
  chmodSync(`${path}/file`, 0);
  removeTreeAt(descriptor, toByteString("file"));
  assert.deepEqual(readdirSync(path), []);
});
