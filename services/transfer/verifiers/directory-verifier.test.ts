import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { digestOf } from "#containerd/digest.ts";
import { DirectoryVerifier } from "./directory-verifier.ts";

const descriptor = { mediaType: "application/vnd.oci.image.index.v1+json", digest: digestOf("x"), size: 1 };

/** A directory with the given programs for the shell, and a verifier that asks them. */
async function verifierOf(
  context: TestContext,
  programs: Readonly<Record<string, string>>,
  options: { readonly verifiersMax?: number; readonly timeoutMs?: number } = {},
) {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-verifiers-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(programs)) {
    await writeFile(`${directory}/${name}`, `#!/bin/sh\n${text}\n`);
    await chmod(`${directory}/${name}`, 0o755);
  }
  const told: string[] = [];
  const verifier = new DirectoryVerifier({
    directory,
    verifiersMax: 10,
    timeoutMs: 20_000,
    onOutput: ({ verifier }, text) => told.push(`${verifier}: ${text}`),
    ...options,
  });
  const verify = () => verifier.verify({ name: "a:b", descriptor, signal: AbortSignal.timeout(30_000) });
  return { verify, told, directory };
}

test("without programs every image is accepted", async (context) => {
  const { verify, directory } = await verifierOf(context, {});
  assert.deepEqual(await verify(), { isAccepted: true, reason: `no image verifier binaries found in ${directory}` });
  await rm(directory, { recursive: true });
  assert.equal((await verify()).isAccepted, true);
});

test("every program is told what it is about, and each has to agree", async (context) => {
  const { verify, told } = await verifierOf(context, {
    a: 'echo "$@"; cat >&2',
    b: "echo '  fine  '",
  });
  const json = JSON.stringify(descriptor);
  assert.deepEqual(await verify(), {
    isAccepted: true,
    reason:
      `a => -name a:b -digest ${descriptor.digest} -stdin-media-type application/vnd.oci.descriptor.v1+json` +
      ", b => fine",
  });
  assert.deepEqual(told, [`a: ${json}`]);
  const refusing = await verifierOf(context, { a: "exit 0", b: "echo bad; exit 3", c: "exit 0" });
  assert.deepEqual(await refusing.verify(), {
    isAccepted: false,
    reason: "verifier b rejected image (exit code 3): bad",
  });
});

test("only so many programs are asked, and of what they print only so much is kept", async (context) => {
  const { verify, told } = await verifierOf(context, { a: "yes | head -c 100000", b: "exit 1" }, { verifiersMax: 1 });
  const { isAccepted, reason } = await verify();
  assert.equal(isAccepted, true);
  assert.ok(reason.endsWith("(stdout truncated)") && reason.length < 33_000);
  assert.match(told.join(), /b: is passed over/);
});

test("a program that does not end, or cannot be run, is no judgement", async (context) => {
  const slow = await verifierOf(context, { slow: "sleep 1000 & sleep 1000" }, { timeoutMs: 200 });
  await assert.rejects(slow.verify(), { message: /^failed to call verifier slow: waiting on command to exit/ });
  const broken = await verifierOf(context, { broken: "" });
  await chmod(`${broken.directory}/broken`, 0o644);
  await assert.rejects(broken.verify(), { message: /^failed to call verifier broken/ });
});
