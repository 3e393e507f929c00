import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { test } from "node:test";
import { startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, snapshotLeaks } from "../kit/leaks.ts";
import { packLayout, writeLayout } from "../kit/oci-layout.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const name = "docker.io/library/shim:test";
/** A shim of its own name that notes where it looks for libraries, and is runc's otherwise. */
const shim = `#!/bin/sh
echo "$LD_LIBRARY_PATH" > "\${0%/bin/*}/noted"
exec containerd-shim-runc-v2 "$@"
`;

test("ctr install puts programs and libraries where shims are looked for, and a container runs by one", async () => {
  const leaks = await snapshotLeaks();
  {
    await using directory = await makeTemporaryDirectory("install");
    const layout = `${directory.path}/layout`;
    await mkdir(layout);
    const file = (path: string, content: string, mode: number) =>
      ({ path, type: "file", mode, content: Buffer.from(content) }) as const;
    const layer = () => [
      file("bin/containerd-shim-installed-v2", shim, 0o755),
      file("lib/libinstalled.so", "library", 0o644),
      file("etc/other", "stays in the image", 0o644),
    ];
    const facts = await writeLayout(layout, { name, layers: [layer], config: {} });
    const index = JSON.parse(await readFile(`${layout}/index.json`, "utf8")) as { manifests: { digest: string }[] };
    const manifest = JSON.parse(
      await readFile(`${layout}/blobs/${facts.manifest.digest.replace(":", "/")}`, "utf8"),
    ) as { config: { digest: string } };
    const blobs = [...index.manifests, manifest.config, ...facts.layers].map(({ digest }) => digest);
    await packLayout(layout, `${directory.path}/shim.tar`, [...new Set(blobs)]);
    await using daemon = await startFlotilla();
    const optional = `${dirname(daemon.root)}/opt`;
    const ctr = async (...args: string[]): Promise<string> => {
      const { stdout, stderr, exitCode } = await daemon.ctr(...args);
      assert.equal(exitCode, 0, `ctr ${args.join(" ")}: ${stderr}`);
      return stdout;
    };
    const busybox = await busyboxImage();
    await ctr("images", "import", busybox.tar);
    await ctr("images", "import", `${directory.path}/shim.tar`);
    await ctr("install", "--libs", name);
    assert.equal(await readFile(`${optional}/lib/libinstalled.so`, "utf8"), "library");
    await assert.rejects(readFile(`${optional}/etc/other`));
    const again = await daemon.ctr("install", "--libs", name);
    assert.match(again.stderr, /cannot replace bin\/containerd-shim-installed-v2/);
    await ctr("install", "--libs", "--replace", name);
    const run = [
      "run",
      "--rm",
      "--runtime",
      "io.containerd.installed.v2",
      busybox.name,
      "by-installed",
      "echo",
      "hello",
    ];
    assert.equal(await ctr(...run), "hello\n");
    assert.equal((await readFile(`${optional}/noted`, "utf8")).split(":")[0]?.trim(), `${optional}/lib`);
  }
  await assertNoLeaks(leaks);
});
