import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import test, { type TestContext } from "node:test";
import { execa } from "execa";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { type Mount, mountAll } from "#linux/mount.ts";
import { mountPointsBelow, unmountAll } from "#linux/unmount.ts";
import type { CallId } from "#wire/call-id.ts";
import type { ActivationOrder } from "../../services/snapshots/mounts/activation.ts";
import { ActivationFiles } from "../../services/snapshots/mounts/activation-files.ts";
import { erofsHandler } from "../../services/snapshots/mounts/handlers/erofs.ts";
import { loopHandler } from "../../services/snapshots/mounts/handlers/loop.ts";
import { MountManager } from "../../services/snapshots/mounts/mount-manager.ts";
import type { MountIndex } from "../../services/snapshots/mounts/ports.ts";
import { format } from "../../services/snapshots/mounts/transformers/format.ts";
import { makeDirectories } from "../../services/snapshots/mounts/transformers/mkdir.ts";
import { makeFileSystem } from "../../services/snapshots/mounts/transformers/mkfs.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const withoutRoot = process.geteuid?.() === 0 ? false : "mounts need root";

/** Records in memory. */
class MemoryIndex implements MountIndex {
  readonly ids = new Map<string, bigint>();
  #last = 0n;

  async add({ namespace, name }: { readonly namespace: string; readonly name: string }): Promise<bigint> {
    if (this.ids.has(`${namespace}/${name}`)) {
      throw failure(ErrorKind.AlreadyExists, `mount "${name}"`);
    }
    this.#last += 1n;
    this.ids.set(`${namespace}/${name}`, this.#last);
    return this.#last;
  }

  /** What calls have removed. */
  readonly #removed = new Map<string, bigint>();

  async remove(namespace: string, name: string, call?: CallId): Promise<bigint> {
    const kept = call?.repeatedAfterMs === undefined ? undefined : this.#removed.get(call.id);
    if (kept !== undefined) {
      return kept;
    }
    const id = this.ids.get(`${namespace}/${name}`);
    if (id === undefined) {
      throw failure(ErrorKind.NotFound, `missing mount "${name}" bucket`);
    }
    this.ids.delete(`${namespace}/${name}`);
    this.#removed.set(call?.id ?? "", id);
    return id;
  }

  async reconcile(ids: readonly bigint[]): Promise<bigint[]> {
    for (const [key, id] of this.ids) {
      if (!ids.includes(id)) {
        this.ids.delete(key);
      }
    }
    return ids.filter((id) => ![...this.ids.values()].includes(id));
  }
}

interface Stand {
  readonly path: string;
  readonly index: MemoryIndex;
  readonly troubles: string[];
  open(): Promise<MountManager>;
  /** Activates under a name in the namespace `n`. */
  order(name: string, mounts: readonly Mount[], rest?: Partial<ActivationOrder>): ActivationOrder;
}

async function makeStand(context: TestContext): Promise<Stand> {
  const directory = await makeTemporaryDirectory("mm");
  context.after(() => directory[Symbol.asyncDispose]());
  const { path } = directory;
  const index = new MemoryIndex();
  const troubles: string[] = [];
  await mkdir(`${path}/allowed`);
  return {
    path,
    index,
    troubles,
    open: async () => {
      const files = await ActivationFiles.open(`${path}/state`);
      const roots = [files.targets, `${path}/allowed`];
      const manager = new MountManager({
        index,
        files,
        handlers: [erofsHandler, loopHandler],
        transformers: new Map([
          ["format", format],
          ["mkfs", makeFileSystem(roots)],
          ["mkdir", makeDirectories(roots)],
        ]),
        onLeft: (place, error) => troubles.push(`${place}: ${String(error)}`),
      });
      await manager.takeUp();
      return manager;
    },
    order: (name, mounts, rest = {}) => ({
      namespace: "n",
      name,
      lease: "",
      mounts,
      labels: {},
      temporary: false,
      allowedTypes: [],
      ...rest,
    }),
  };
}

const bind = (source: string, ...options: string[]): Mount => ({
  type: "bind",
  source,
  options: ["rbind", ...options],
});

/** A file with a file system in it that holds the directories given. */
async function makeImage(path: string, type: "ext4" | "xfs", ...directories: string[]): Promise<void> {
  await execa("truncate", ["--size=320M", path]);
  await execa(`mkfs.${type}`, ["-q", path]);
  const root = `${path}.mnt`;
  await mkdir(root);
  await mountAll([{ type, source: path, options: ["loop"] }], root);
  try {
    for (const name of directories) {
      await mkdir(`${root}/${name}`);
    }
  } finally {
    await unmountAll(root);
  }
}

const loopsOf = async (path: string): Promise<string[]> =>
  (await execa("losetup", ["--noheadings", "--output=NAME", "--associated", path])).stdout
    .split("\n")
    .filter((l) => l !== "");

test("what mount(2) can do alone is left to the caller", { skip: withoutRoot }, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  for (const mounts of [[], [bind("/tmp", "ro")]]) {
    await assert.rejects(manager.activate(stand.order("a", mounts)), { message: "not implemented" });
  }
  assert.deepEqual(manager.list("n"), []);
  assert.equal(stand.index.ids.size, 0);
});

test("an overlay over a bind mount and a loop mount, as two containers one after the other use it", {
  skip: withoutRoot,
}, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const { path } = stand;
  await mkdir(`${path}/base/etc`, { recursive: true });
  await makeImage(`${path}/disk.img`, "xfs", "root1", "root2", "work");
  const shared: Mount[] = [bind(`${path}/base`, "ro"), { type: "xfs", source: `${path}/disk.img`, options: ["loop"] }];
  const overlay = (...options: string[]): Mount => ({ type: "format/overlay", source: "overlay", options });
  await mkdir(`${path}/merged`);

  const first = await manager.activate(
    stand.order(
      "one",
      [
        ...shared,
        overlay("lowerdir={{ mount 0 }}", "upperdir={{ mount 1 }}/root1", "workdir={{ mount 1 }}/work", "index=off"),
      ],
      { labels: { color: "blue" } },
    ),
  );
  assert.equal(first.active.length, 2);
  const target = `${path}/state/t/1`;
  assert.deepEqual(first.system, [
    {
      type: "overlay",
      source: "overlay",
      options: [`lowerdir=${target}/2`, `upperdir=${target}/1/root1`, `workdir=${target}/1/work`, "index=off"],
    },
  ]);
  assert.deepEqual(manager.info("n", "one").labels, { color: "blue" });
  await assert.rejects(manager.activate(stand.order("one", [...shared, overlay()])), {
    message: 'mount "one": already exists',
  });
  await mountAll(first.system, `${path}/merged`);
  writeFileSync(`${path}/merged/etc/name`, "written");
  await unmountAll(`${path}/merged`);
  await manager.deactivate("n", "one");
  await assert.rejects(manager.deactivate("n", "one"), { message: 'missing mount "one" bucket: not found' });
  assert.throws(
    () => manager.info("n", "one"),
    (error) => isFailure(error, ErrorKind.NotFound),
  );
  assert.deepEqual([readdirSync(`${path}/state/t`), readdirSync(`${path}/state/a`)], [[], []]);
  assert.deepEqual(await loopsOf(`${path}/disk.img`), []);

  const second = await manager.activate(
    stand.order("two", [
      ...shared,
      overlay(
        "lowerdir={{ mount 1 }}/root1:{{ mount 0 }}",
        "upperdir={{ mount 1 }}/root2",
        "workdir={{ mount 1 }}/work",
        "index=off",
      ),
    ]),
  );
  await mountAll(second.system, `${path}/merged`);
  assert.equal(readFileSync(`${path}/merged/etc/name`, "utf8"), "written");
  await unmountAll(`${path}/merged`);
  await manager.deactivate("n", "two");
  assert.deepEqual(await mountPointsBelow(path), []);
});

test("EROFS images and file systems that are made for the purpose become one tree", {
  skip: withoutRoot || ((await execa("which", ["mkfs.erofs"], { reject: false })).failed && "no mkfs.erofs"),
}, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const { path } = stand;
  for (const layer of ["lower", "upper"]) {
    await mkdir(`${path}/${layer}`);
    await writeFile(`${path}/${layer}/${layer}`, layer);
    await execa("mkfs.erofs", ["--quiet", `${path}/${layer}.erofs`, `${path}/${layer}`]);
  }
  const erofs = (name: string): Mount => ({ type: "erofs", source: `${path}/${name}.erofs`, options: ["ro", "loop"] });
  const image = `${path}/allowed/rwlayer.img`;
  const mounts: Mount[] = [
    {
      type: "mkfs/ext4",
      source: image,
      options: ["X-containerd.mkfs.fs=ext4", "X-containerd.mkfs.size=16MiB", "rw", "loop"],
    },
    erofs("upper"),
    erofs("lower"),
    {
      type: "format/mkdir/overlay",
      source: "overlay",
      options: [
        "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
        "X-containerd.mkdir.path={{ mount 0 }}/work",
        "workdir={{ mount 0 }}/work",
        "upperdir={{ mount 0 }}/upper",
        "lowerdir={{ overlay 1 2 }}",
      ],
    },
  ];
  const { system, active } = await manager.activate(stand.order("a", mounts, { temporary: true }));
  assert.equal(active.length, 4);
  assert.deepEqual(system, [bind(active[3]?.mountPoint ?? "")]);
  await mkdir(`${path}/shown`);
  await mountAll(system, `${path}/shown`);
  assert.deepEqual(readdirSync(`${path}/shown`), ["lower", "upper"]);
  writeFileSync(`${path}/shown/new`, "new");
  await unmountAll(`${path}/shown`);
  await manager.deactivate("n", "a");
  assert.deepEqual(await mountPointsBelow(path), []);
  assert.equal(statSync(image).size, 16 << 20);

  const again = await manager.activate(stand.order("b", mounts));
  assert.deepEqual([again.active.length, again.system[0]?.type], [3, "overlay"]);
  await mountAll(again.system, `${path}/shown`);
  assert.equal(readFileSync(`${path}/shown/new`, "utf8"), "new", "what is there is not formatted again");
  await unmountAll(`${path}/shown`);
  await manager.deactivate("n", "b");
  for (const file of [image, `${path}/lower.erofs`]) {
    assert.deepEqual(await loopsOf(file), []);
  }
});

test("a loop mount is a link to a device, which goes with it", { skip: withoutRoot }, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const file = `${stand.path}/file`;
  await execa("truncate", ["--size=1M", file]);
  const { active } = await manager.activate(stand.order("a", [{ type: "loop", source: file, options: [] }]));
  const device = readlinkSync(active[0]?.mountPoint ?? "");
  assert.deepEqual(await loopsOf(file), [device]);
  await manager.deactivate("n", "a");
  assert.deepEqual(await loopsOf(file), []);
});

test("a failure takes back what was mounted, and the name is free", { skip: withoutRoot }, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const tmpfs: Mount = { type: "tmpfs", source: "tmpfs", options: ["size=1m"] };
  const wrong: [Mount, RegExp][] = [
    [{ type: "erofs", source: `${stand.path}/absent`, options: [] }, /mount handler failed \{erofs /],
    [{ type: "format/bind", source: "{{ mount 1 }}", options: [] }, /index out of bounds: 1/],
    [
      { type: "mkfs/ext4", source: "/elsewhere/x", options: [] },
      /no root "\/elsewhere\/x" configured for mkfs: not implemented/,
    ],
    [{ type: "mkfs/ext4", source: `${stand.path}/allowed-not/x`, options: [] }, /no root .* configured for mkfs/],
    [
      { type: "mkfs/ext4", source: `${stand.path}/allowed/x`, options: ["rw"] },
      /mkfs requires mkfs.size option: invalid argument/,
    ],
    [
      {
        type: "mkfs/ext4",
        source: `${stand.path}/allowed/x`,
        options: ["X-containerd.mkfs.size=1M", "X-containerd.mkfs.fs=vfat"],
      },
      /unsupported filesystem "vfat"/,
    ],
    [
      { type: "mkfs/ext4", source: `${stand.path}/allowed/x`, options: ["X-containerd.mkfs.size=1"] },
      /mkfs.ext4 failed: /,
    ],
    [
      {
        type: "mkfs/ext4",
        source: `${stand.path}/allowed/x`,
        options: ["X-containerd.mkfs.size=1M", "X-containerd.mkfs.colour=1"],
      },
      /unknown mount option colour: invalid argument/,
    ],
    [{ type: "mkdir/bind", source: "x", options: ["X-containerd.mkdir.name=/x"] }, /invalid mkdir option/],
    [{ type: "mkdir/bind", source: "x", options: [`X-containerd.mkdir.path=${stand.path}/allowed/../x`] }, /./],
  ];
  for (const [mount, message] of wrong) {
    await assert.rejects(manager.activate(stand.order("a", [tmpfs, mount])), message);
    assert.deepEqual(await mountPointsBelow(stand.path), [], String(message));
    assert.equal(stand.index.ids.size, 0);
    assert.deepEqual(readdirSync(`${stand.path}/state/t`), []);
    assert.deepEqual(readdirSync(`${stand.path}/allowed`), []);
  }
  assert.deepEqual(stand.troubles, []);
  assert.ok(!existsSync(`${stand.path}/x`));
});

test("nothing is made outside the allowed directories through a link", { skip: withoutRoot }, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const { path } = stand;
  await mkdir(`${path}/outside`);
  symlinkSync(`${path}/outside`, `${path}/allowed/link`);
  const orders: Mount[] = [
    { type: "mkdir/bind", source: "x", options: [`X-containerd.mkdir.path=${path}/allowed/link/made`] },
    { type: "mkfs/ext4", source: `${path}/allowed/link/made`, options: ["X-containerd.mkfs.size=4M"] },
  ];
  for (const mount of orders) {
    await assert.rejects(manager.activate(stand.order("a", [mount])), /cross-device link|too many levels/i);
  }
  assert.deepEqual(readdirSync(`${path}/outside`), []);
});

test("directories are made with mode and owner, and what is there has to fit", {
  skip: withoutRoot,
}, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const made = `${stand.path}/allowed/made`;
  const order = (name: string, rest: string): ActivationOrder =>
    stand.order(name, [
      { type: "mkdir/bind", source: stand.path, options: [`X-containerd.mkdir.path=${made}${rest}`, "ro"] },
    ]);
  const { system } = await manager.activate(order("a", ":0710:12:34"));
  assert.deepEqual(system[0]?.options, ["ro"]);
  const { uid, gid, mode } = statSync(made);
  assert.deepEqual([uid, gid, mode & 0o7777], [12, 34, 0o710]);
  await manager.activate(order("b", ":0710"));
  await assert.rejects(
    manager.activate(order("c", ":0755")),
    /chmod not supported yet for mkdir handler: not implemented/,
  );
  await assert.rejects(manager.activate(order("d", ":4755")), /invalid mode 4755/);
});

test("a process that comes later takes up what is whole, and takes off what is not", {
  skip: withoutRoot,
}, async (context) => {
  const stand = await makeStand(context);
  const { path } = stand;
  const tmpfs: Mount = { type: "tmpfs", source: "tmpfs", options: ["size=1m"] };
  const toTmpfs = [tmpfs, { type: "format/bind", source: "{{ mount 0 }}", options: ["rbind"] }];
  const first = await stand.open();
  const kept = await first.activate(stand.order("kept", toTmpfs));
  await first.activate(stand.order("forgotten", toTmpfs));
  stand.index.ids.delete("n/forgotten");
  // What a crash in the middle leaves: a record, a directory, a mount, and nothing that says that it is whole.
  const half = await stand.index.add({ namespace: "n", name: "half" });
  await mkdir(`${path}/state/t/${half}/1`, { recursive: true });
  await writeFile(`${path}/state/t/${half}/1-type`, "tmpfs");
  await mountAll([tmpfs], `${path}/state/t/${half}/1`);

  const second = await stand.open();
  assert.deepEqual(
    second.list("n").map(({ name, id }) => [name, id]),
    [["kept", kept.id]],
  );
  assert.deepEqual(second.info("n", "kept"), kept);
  assert.deepEqual(await mountPointsBelow(path), [kept.active[0]?.mountPoint]);
  assert.deepEqual([...stand.index.ids.keys()], ["n/kept"]);
  const again = await second.activate(stand.order("half", toTmpfs));
  assert.ok(again.id > half);
  assert.deepEqual(await second.removeMounts([kept.id, again.id, 999n]), [kept.id, again.id, 999n]);
  assert.deepEqual([second.list("n"), await mountPointsBelow(path)], [[], []]);
});

test("a call that is made again because its process died is carried out once", {
  skip: withoutRoot,
}, async (context) => {
  const stand = await makeStand(context);
  const tmpfs: Mount = { type: "tmpfs", source: "tmpfs", options: ["size=1m"] };
  const order = (call: CallId): ActivationOrder => stand.order("a", [tmpfs], { temporary: true, call });
  const first = { id: "c-1", repeatedAfterMs: undefined };
  const again = { id: "c-1", repeatedAfterMs: 20 };
  const made = await (await stand.open()).activate(order(first));
  const second = await stand.open();
  assert.deepEqual(await second.activate(order(again)), made);
  assert.equal((await mountPointsBelow(stand.path)).length, 1);
  await assert.rejects(second.activate(order({ id: "c-3", repeatedAfterMs: 20 })), (error) =>
    isFailure(error, ErrorKind.AlreadyExists),
  );

  await second.deactivate("n", "a", { ...first, id: "c-5" });
  const third = await stand.open();
  const other = await third.activate(order({ ...first, id: "c-7" }));
  // What is found under the name now is another's.
  await third.deactivate("n", "a", { ...again, id: "c-5" });
  assert.deepEqual(third.info("n", "a"), other);
  await third.deactivate("n", "a");
  assert.deepEqual(await mountPointsBelow(stand.path), []);
});

test("a record without mounts gives way to a new activation", { skip: withoutRoot }, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  await stand.index.add({ namespace: "n", name: "a" });
  const { id } = await manager.activate(
    stand.order("a", [{ type: "tmpfs", source: "tmpfs", options: [] }], { temporary: true }),
  );
  assert.equal(id, 2n);
  await manager.deactivate("n", "a");
});

test("mounts that are in use stay until they are not", { skip: withoutRoot }, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const { active, id } = await manager.activate(
    stand.order("a", [{ type: "tmpfs", source: "tmpfs", options: [] }], { temporary: true }),
  );
  const user = execa("sleep", ["100"], { cwd: active[0]?.mountPoint ?? "", reject: false });
  await assert.rejects(manager.deactivate("n", "a"), /device or resource busy/);
  assert.throws(() => manager.info("n", "a"), /not found/);
  user.kill("SIGKILL");
  await user;
  assert.deepEqual(await manager.removeMounts([id]), [id]);
  assert.deepEqual(await mountPointsBelow(stand.path), []);
});

test("mounts for a moment are seen by nobody and are gone afterwards", { skip: withoutRoot }, async (context) => {
  const stand = await makeStand(context);
  const manager = await stand.open();
  const mounts: Mount[] = [
    { type: "tmpfs", source: "tmpfs", options: [] },
    { type: "format/bind", source: "{{ mount 0 }}", options: ["rbind"] },
  ];
  const seen = await manager.withActivated(mounts, async (system) => {
    assert.equal(stand.index.ids.size, 0);
    assert.deepEqual(manager.list("n"), []);
    return system[0]?.source;
  });
  assert.match(seen ?? "", /\/state\/t\/use-/);
  assert.deepEqual(await mountPointsBelow(stand.path), []);
  assert.equal(await manager.withActivated([bind("/tmp")], async (system) => system.length), 1);
});
