import assert from "node:assert/strict";
import { chmod, chown, link, mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import { ErrorKind, isFailure, systemErrorCode } from "#base/errors.ts";
import { PluginSettings } from "#config/settings.ts";
import { mountAll } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import type {
  SnapshotDriver,
  SnapshotDriverDefinition,
  SnapshotLocation,
} from "../../services/snapshots/drivers/driver.ts";
import { ActivationFiles } from "../../services/snapshots/mounts/activation-files.ts";
import { erofsHandler } from "../../services/snapshots/mounts/handlers/erofs.ts";
import { MountManager } from "../../services/snapshots/mounts/mount-manager.ts";
import { format } from "../../services/snapshots/mounts/transformers/format.ts";
import { makeDirectories } from "../../services/snapshots/mounts/transformers/mkdir.ts";
import { makeFileSystem } from "../../services/snapshots/mounts/transformers/mkfs.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { holdMounts } from "../kit/held-mounts.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree } from "../kit/tree.ts";

/** Deeper than what fits into the page of mount options that mount(2) takes. */
const deepLayers = 64;
/** How long a container that is being started holds what it does not need. */
const heldMs = 1_000;

/** What sets a driver apart in the suite. */
export interface DriverTraits {
  /** Names the driver in the tests, with what is special about this run of the suite. */
  readonly title?: string;
  /** Why it cannot be tried on this machine. */
  readonly skip?: string | false;
  /** Whether usage counts a file system as one file. */
  readonly measuresImages?: boolean;
  /** Whether usage tells of inodes at all. */
  readonly countsInodes?: boolean;
  /** Whether a committed snapshot has blocks for the holes of its files. */
  readonly fillsHoles?: boolean;
  /**
   * Makes ready what the driver needs in the directory in which its `root` will be.
   *
   * @param resources - Disposed of when the driver is not used any more.
   * @returns further settings.
   */
  readonly prepare?: (directory: string, resources: AsyncDisposableStack) => Promise<Readonly<Record<string, unknown>>>;
}

/**
 * What every snapshot driver does, tried on real mounts. Needs root.
 *
 * @param settings - The driver's table of the configuration, complete.
 */
export function snapshotDriverSuite(
  definition: SnapshotDriverDefinition,
  settings: Readonly<Record<string, unknown>>,
  {
    title = definition.manifest.id,
    skip = false,
    measuresImages = false,
    countsInodes = true,
    fillsHoles = false,
    prepare,
  }: DriverTraits = {},
): void {
  const check = (name: string, run: (tree: SnapshotTree, context: TestContext) => Promise<void>): void => {
    test(`${title}: ${name}`, { skip }, async (context) => {
      await using resources = new AsyncDisposableStack();
      const directory = resources.use(await makeTemporaryDirectory("snap"));
      const own = (await prepare?.(directory.path, resources)) ?? {};
      const trees = resources.use(new TreeThreads());
      const open = (): Promise<SnapshotDriver> =>
        definition.open({
          root: `${directory.path}/root`,
          settings: new PluginSettings({ ...settings, ...own }, [], []),
          trees,
        });
      const mounts = await makeMounts(`${directory.path}/mounts`);
      const driver = await open();
      // Some are protected from being deleted in any other way.
      resources.defer(async () => driver.remove(await driver.listIds()));
      await run(new SnapshotTree(driver, { open, mounts, mountPoints: `${directory.path}/mnt` }), context);
    });
  };

  check("what is written in an active snapshot is in its children once it is committed", async (tree) => {
    const base = await tree.prepare();
    await tree.within(base, async (root) => {
      await mkdir(`${root}/etc`);
      await writeFile(`${root}/etc/motd`, "hello\n", { mode: 0o640 });
      await symlink("motd", `${root}/etc/link`);
    });
    const child = await tree.prepare(await tree.commit(base));
    await tree.within(child, async (root) => {
      assert.equal(await readFile(`${root}/etc/link`, "utf8"), "hello\n");
      assert.equal((await stat(`${root}/etc/motd`)).mode & 0o7777, 0o640);
      await writeFile(`${root}/etc/motd`, "changed\n");
    });
    await tree.within(await tree.view(tree.parentOf(child)), async (root) => {
      assert.equal(await readFile(`${root}/etc/motd`, "utf8"), "hello\n", "the parent stays as it was");
    });
  });

  check("what a child removes is gone in its children and there in its parent", async (tree) => {
    const base = await tree.prepare();
    await tree.within(base, async (root) => {
      await mkdir(`${root}/directory/nested`, { recursive: true });
      await writeFile(`${root}/directory/nested/old`, "old");
      await writeFile(`${root}/file`, "file");
      await writeFile(`${root}/moved`, "moved");
    });
    const lower = await tree.commit(base);
    const child = await tree.prepare(lower);
    await tree.within(child, async (root) => {
      await rm(`${root}/file`);
      await rm(`${root}/directory`, { recursive: true });
      await mkdir(`${root}/directory`);
      await writeFile(`${root}/directory/new`, "new");
      await rename(`${root}/moved`, `${root}/directory/moved`);
    });
    const upper = await tree.commit(child);
    for (const shown of [await tree.prepare(upper), await tree.view(upper)]) {
      await tree.within(shown, async (root) => {
        assert.deepEqual([...describeTree(root).keys()], [".", "directory", "directory/moved", "directory/new"]);
      });
    }
    await tree.within(await tree.view(lower), async (root) => {
      assert.equal(await readFile(`${root}/directory/nested/old`, "utf8"), "old");
      assert.equal(await readFile(`${root}/file`, "utf8"), "file");
    });
  });

  check("everything about a file survives in a child", async (tree) => {
    const base = await tree.prepare();
    await tree.within(base, async (root) => {
      await mkdir(`${root}/dir`, { mode: 0o1777 });
      await chmod(`${root}/dir`, 0o1777);
      await writeFile(`${root}/dir/tool`, "#!/bin/sh\n");
      await chown(`${root}/dir/tool`, 1234, 2345);
      await chmod(`${root}/dir/tool`, 0o6755);
      await link(`${root}/dir/tool`, `${root}/same`);
      await symlink("/nowhere", `${root}/dangling`);
      await writeFile(Buffer.concat([Buffer.from(`${root}/latin-`), Buffer.from([0xe9])]), "bytes");
      await execa("mknod", [`${root}/null`, "c", "1", "3"]);
      await execa("mkfifo", [`${root}/pipe`]);
      await execa("setfattr", ["-n", "user.note", "-v", "kept", `${root}/same`]);
      await execa("setfattr", [
        "-n",
        "security.capability",
        "-v",
        "0x0100000200040000000000000000000000000000",
        `${root}/same`,
      ]);
      await execa("truncate", ["--size=16M", `${root}/holes`]);
      await execa("touch", [
        "--no-dereference",
        "--date=2001-02-03T04:05:06.123456789Z",
        `${root}/same`,
        `${root}/dangling`,
      ]);
      await execa("touch", ["--date=1999-01-01T00:00:00.5Z", `${root}/dir`]);
    });
    const written = await tree.within(base, (root) => describeTree(root));
    const parent = await tree.commit(base);
    const isTop = ([path]: readonly [string, unknown]): boolean => path === ".";
    for (const shown of [await tree.prepare(parent), await tree.view(parent)]) {
      const seen = await tree.within(shown, (root) => describeTree(root));
      assert.deepEqual(
        [...seen].filter((entry) => !isTop(entry)),
        [...written].filter((entry) => !isTop(entry)),
      );
      const holes = await tree.within(shown, (root) => stat(`${root}/holes`));
      assert.ok(fillsHoles || holes.blocks < 100, "holes stay holes");
    }
  });

  check("a view takes no writes", async (tree) => {
    const base = await tree.prepare();
    await tree.within(base, (root) => writeFile(`${root}/file`, "file"));
    const one = await tree.commit(base);
    const two = await tree.commit(await tree.prepare(one));
    for (const parent of [undefined, one, two]) {
      await tree.within(await tree.view(parent), async (root) => {
        await assert.rejects(writeFile(`${root}/new`, "new"), (error) => systemErrorCode(error) === "EROFS");
        await assert.rejects(rm(root, { recursive: true }), (error) =>
          /EROFS|EBUSY/.test(systemErrorCode(error) ?? ""),
        );
      });
    }
  });

  check("children of one parent do not see each other", async (tree) => {
    const parent = await tree.commit(await tree.prepare());
    const [left, right] = [await tree.prepare(parent), await tree.prepare(parent)];
    await tree.within(left, async (leftRoot) => {
      await writeFile(`${leftRoot}/left`, "left");
      await tree.within(right, async (rightRoot) => {
        await writeFile(`${rightRoot}/right`, "right");
        assert.deepEqual([...describeTree(leftRoot).keys()], [".", "left"]);
        assert.deepEqual([...describeTree(rightRoot).keys()], [".", "right"]);
      });
    });
  });

  check(
    "the top of a new snapshot can be entered by everybody and belongs to the owner of its parent's",
    async (tree) => {
      const mask = process.umask(0o077);
      try {
        const base = await tree.prepare();
        await tree.within(base, async (root) => {
          assert.equal((await stat(root)).mode & 0o7777, 0o755);
          await chown(root, 1000, 2000);
        });
        await tree.within(await tree.prepare(await tree.commit(base)), async (root) => {
          const { uid, gid, mode } = await stat(root);
          assert.deepEqual({ uid, gid, mode: mode & 0o7777 }, { uid: 1000, gid: 2000, mode: 0o755 });
        });
      } finally {
        process.umask(mask);
      }
    },
  );

  check(`${deepLayers} layers can be mounted`, async (tree) => {
    let parent: SnapshotLocation | undefined;
    for (let layer = 1; layer <= deepLayers; layer += 1) {
      const active = await tree.prepare(parent);
      await tree.within(active, async (root) => {
        await writeFile(`${root}/layer-${layer}`, `${layer}`);
        await writeFile(`${root}/latest`, `${layer}`);
      });
      parent = await tree.commit(active);
    }
    for (const shown of [await tree.prepare(parent), await tree.view(parent)]) {
      await tree.within(shown, async (root) => {
        assert.equal(await readFile(`${root}/latest`, "utf8"), `${deepLayers}`);
        assert.equal(describeTree(root).size, deepLayers + 2);
      });
    }
  });

  check(
    "what was written is shown again and committed, though another mount namespace has not let go of it",
    async (tree) => {
      await using resources = new AsyncDisposableStack();
      const active = await tree.prepare();
      await tree.within(active, async (root) => {
        resources.use(await holdMounts());
        await writeFile(`${root}/written`, "first");
      });
      await tree.within(active, async (root) => {
        assert.equal(await readFile(`${root}/written`, "utf8"), "first");
        await writeFile(`${root}/written`, "last");
      });
      const child = await tree.prepare(await tree.commit(active));
      await tree.within(child, async (root) => {
        assert.equal(await readFile(`${root}/written`, "utf8"), "last");
      });
    },
  );

  check(
    "what another mount namespace lets go of only after the commit is whole in children and views",
    async (tree) => {
      const active = await tree.prepare();
      await using resources = new AsyncDisposableStack();
      await tree.within(active, async (root) => {
        resources.use(await holdMounts());
        await writeFile(`${root}/written`, "whole");
      });
      const released = delay(heldMs).then(() => resources.disposeAsync());
      const base = await tree.commit(active);
      const above = await tree.commit(await tree.prepare(base));
      for (const parent of [base, above]) {
        await tree.within(await tree.view(parent), async (root) => {
          assert.equal(await readFile(`${root}/written`, "utf8"), "whole");
        });
      }
      await released;
    },
  );

  check("usage counts blocks and inodes, each file once", async (tree) => {
    const base = await tree.prepare();
    const empty = await tree.driver.measure(base);
    assert.equal(empty.inodes, countsInodes ? 1n : 0n);
    await tree.within(base, async (root) => {
      await writeFile(`${root}/big`, Buffer.alloc(1 << 20, 1));
      await link(`${root}/big`, `${root}/same`);
      await mkdir(`${root}/directory`);
      await execa("sync", ["--file-system", root]);
    });
    const full = await tree.driver.measure(base);
    assert.equal(full.inodes, !countsInodes ? 0n : measuresImages ? 1n : 3n);
    assert.ok(full.sizeBytes - empty.sizeBytes >= 1n << 20n);
    // A file system in a file has a journal, which grows as well.
    const overhead = measuresImages ? 8n << 20n : 64n << 10n;
    assert.ok(full.sizeBytes - empty.sizeBytes < (1n << 20n) + overhead, "what has two names counts once");
    await assert.rejects(tree.driver.measure({ ...base, id: 999n }), (error) => isFailure(error, ErrorKind.NotFound));
  });

  check("creating again changes nothing", async (tree) => {
    const active = await tree.prepare();
    await tree.within(active, (root) => writeFile(`${root}/kept`, "kept"));
    await tree.driver.create(active);
    await tree.within(active, async (root) => assert.equal(await readFile(`${root}/kept`, "utf8"), "kept"));
    assert.deepEqual(await tree.driver.listIds(), [active.id]);
  });

  check("removing may be repeated and leaves the others alone", async (tree) => {
    const parent = await tree.commit(await tree.prepare());
    const [gone, kept] = [await tree.prepare(parent), await tree.prepare(parent)];
    await tree.driver.remove([gone.id]);
    await tree.driver.remove([gone.id, 4711n]);
    assert.deepEqual(new Set(await tree.driver.listIds()), new Set([parent.id, kept.id]));
    await tree.driver.remove([kept.id, parent.id]);
    assert.deepEqual(await tree.driver.listIds(), []);
  });

  check(
    "removing copes with names that are no UTF-8, closed directories and paths longer than paths may be",
    async (tree) => {
      const active = await tree.prepare();
      await tree.within(active, async (root) => {
        await writeFile(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), "bytes");
        await mkdir(`${root}/sealed`, { mode: 0o000 });
        // Two deep trees, one moved to the bottom of the other: its paths are longer than any path may be.
        const deep = "directory-with-a-long-name/".repeat(100);
        await mkdir(`${root}/upper/${deep}`, { recursive: true });
        await mkdir(`${root}/lower/${deep}`, { recursive: true });
        await rename(`${root}/lower`, `${root}/upper/${deep}lower`);
      });
      await tree.driver.remove([active.id]);
      assert.deepEqual(await tree.driver.listIds(), []);
      assert.deepEqual([...describeTree(`${tree.driver.root}/snapshots`).keys()], ["."]);
    },
  );

  check(
    "what a crash left half made or half removed is neither listed nor there after the next start",
    async (tree) => {
      const kept = await tree.prepare();
      const snapshots = `${tree.driver.root}/snapshots`;
      await mkdir(`${snapshots}/new-7-0123456789ab/fs`, { recursive: true });
      await mkdir(`${snapshots}/rm-3-0123456789ab/fs/deep`, { recursive: true });
      assert.deepEqual(await tree.driver.listIds(), [kept.id]);
      const reopened = await tree.reopen();
      assert.deepEqual(await reopened.listIds(), [kept.id]);
      assert.deepEqual(
        [...describeTree(snapshots).keys()].filter((path) => !path.includes("/")),
        [".", String(kept.id)],
      );
    },
  );

  check("a child of a parent without directory is not found and leaves nothing", async (tree) => {
    const parent = await tree.commit(await tree.prepare());
    await tree.driver.remove([parent.id]);
    await assert.rejects(tree.prepare(parent), (error) => isFailure(error, ErrorKind.NotFound));
    assert.deepEqual([...describeTree(`${tree.driver.root}/snapshots`).keys()], ["."]);
  });

  check("the snapshots of another daemon are left alone", async (tree) => {
    await writeFile(`${tree.driver.root}/metadata.db`, "");
    await assert.rejects(tree.reopen(), (error) => isFailure(error, ErrorKind.FailedPrecondition));
  });
}

/** Mount managers that record nothing. @param directory - For their mount points. */
export async function makeMounts(directory: string): Promise<(roots: readonly string[]) => MountManager> {
  await mkdir(directory, { recursive: true });
  const files = await ActivationFiles.open(directory);
  const unused = (): never => assert.fail("nothing is recorded");
  return (roots) =>
    new MountManager({
      index: { add: unused, remove: unused, reconcile: unused },
      files,
      handlers: [erofsHandler],
      transformers: new Map([
        ["format", format],
        ["mkfs", makeFileSystem(roots)],
        ["mkdir", makeDirectories([files.targets])],
      ]),
      onLeft: unused,
    });
}

/** Stands in for the records: gives ids, knows parents. */
class SnapshotTree {
  readonly driver: SnapshotDriver;
  readonly reopen: () => Promise<SnapshotDriver>;
  readonly #mounts: MountManager;
  readonly #mountPoints: string;
  #lastId = 0n;
  #lastMount = 0;

  constructor(
    driver: SnapshotDriver,
    options: {
      readonly open: () => Promise<SnapshotDriver>;
      readonly mounts: (roots: readonly string[]) => MountManager;
      readonly mountPoints: string;
    },
  ) {
    this.driver = driver;
    this.reopen = options.open;
    this.#mounts = options.mounts([driver.root]);
    this.#mountPoints = options.mountPoints;
  }

  prepare(parent?: SnapshotLocation): Promise<SnapshotLocation> {
    return this.#create("active", parent);
  }

  view(parent?: SnapshotLocation): Promise<SnapshotLocation> {
    return this.#create("view", parent);
  }

  async commit(active: SnapshotLocation): Promise<SnapshotLocation> {
    await this.driver.seal?.(active);
    return { ...active, kind: "committed" };
  }

  parentOf({ parentIds: [id = 0n, ...parentIds] }: SnapshotLocation): SnapshotLocation {
    return { id, parentIds, kind: "committed", labels: {} };
  }

  /** Mounts a snapshot for as long as a function runs. */
  async within<T>(location: SnapshotLocation, use: (root: string) => Promise<T> | T): Promise<T> {
    this.#lastMount += 1;
    const root = `${this.#mountPoints}/${this.#lastMount}`;
    await mkdir(root, { recursive: true });
    return await this.#mounts.withActivated(await this.driver.mounts(location), async (system) => {
      try {
        await mountAll(system, root);
        return await use(root);
      } finally {
        await unmountAll(root);
      }
    });
  }

  async #create(kind: "active" | "view", parent: SnapshotLocation | undefined): Promise<SnapshotLocation> {
    this.#lastId += 1n;
    const parentIds = parent === undefined ? [] : [parent.id, ...parent.parentIds];
    const location: SnapshotLocation = { id: this.#lastId, parentIds, kind, labels: {} };
    await this.driver.create(location);
    return location;
  }
}
