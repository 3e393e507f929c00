import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type SELinuxOption, SELinuxOptionSchema } from "#gen/runtime/v1/api_pb.ts";
import { asByteString } from "#linux/bytes.ts";
import { findAttributeAt } from "#linux/xattr.ts";
import { levelOf } from "./security-context.ts";
import { Selinux, type SelinuxPort } from "./selinux.ts";
import { parseContexts, relabel } from "./selinux-machine.ts";

/** As container-selinux has them. */
const contexts = parseContexts(`
# for containers
process = "system_u:system_r:container_t:s0"
file = "system_u:object_r:container_file_t:s0"
kvm_process = "system_u:system_r:container_kvm_t:s0"
; and for nobody
`);

function record(categoryRange = 0): { readonly selinux: Selinux; readonly relabelled: string[] } {
  const relabelled: string[] = [];
  const port: SelinuxPort = {
    contexts,
    relabel: (path, label) => {
      relabelled.push(`${path} ${label}`);
      return Promise.resolve();
    },
  };
  return { selinux: new Selinux(port, categoryRange), relabelled };
}

function options(wanted: MessageInitShape<typeof SELinuxOptionSchema>): SELinuxOption {
  return create(SELinuxOptionSchema, wanted);
}

test("each pod has a level of its own, which its containers share and which is given back with the last of them", () => {
  // Three levels, so that the fourth pod would wait for ever.
  const { selinux } = record(3);
  const pods = [selinux.make(undefined), selinux.make(undefined), selinux.make(undefined)];
  assert.equal(new Set(pods.map(({ process }) => levelOf(process))).size, 3);
  const [pod] = pods;
  assert.match(pod?.process ?? "", /^system_u:system_r:container_t:s0:c[01],c[12]$/);
  assert.equal(pod?.mount, `system_u:object_r:container_file_t:${levelOf(pod?.process ?? "")}`);
  const container = selinux.make(undefined, pod?.process);
  assert.deepEqual(container, pod);
  selinux.release(pod?.process ?? "");
  selinux.release(container.process);
  assert.deepEqual(selinux.make(undefined), pod, "the only level that is free");
});

test("levels of pods that were there before are not given again", () => {
  const { selinux } = record(3);
  selinux.reserve("system_u:system_r:container_t:s0:c0,c1");
  selinux.reserve("system_u:system_r:container_t:s0:c1,c2");
  assert.equal(levelOf(selinux.make(undefined).process), "s0:c0,c2");
});

test("what the kubelet wants stands in the labels, and a level that is none is refused", () => {
  const { selinux } = record();
  const wanted = options({ user: "staff_u", role: "staff_r", type: "spc_t", level: "s0:c7,c9" });
  assert.deepEqual(selinux.make(wanted, "system_u:system_r:container_t:s0:c1,c2"), {
    process: "staff_u:staff_r:spc_t:s0:c7,c9",
    mount: "staff_u:object_r:container_file_t:s0:c7,c9",
  });
  for (const refusing of [selinux, new Selinux(undefined, 0)]) {
    assert.throws(() => refusing.make(options({ level: "c7" })), {
      message: `the format of 'level' "c7" is not correct`,
    });
  }
});

test("what is privileged has no label, and a virtual machine that of one", () => {
  const { selinux } = record();
  const label = "system_u:system_r:container_t:s0:c1,c2";
  const effective = (privileged: boolean, runtime: string): string => selinux.effective(label, { privileged, runtime });
  assert.equal(effective(true, "io.containerd.runc.v2"), "");
  assert.equal(effective(false, "io.containerd.runc.v2"), label);
  assert.equal(effective(false, "io.containerd.kata.v2"), "system_u:system_r:container_kvm_t:s0:c1,c2");
});

test("without SELinux there are no labels, and files keep what they have", async () => {
  const selinux = new Selinux(undefined, 1024);
  assert.deepEqual(selinux.make(options({ type: "spc_t" }), ""), { process: "", mount: "" });
  await selinux.relabel("/nowhere", "system_u:object_r:container_file_t:s0");
  const { selinux: recorded, relabelled } = record();
  await recorded.relabel("/one", "");
  await recorded.relabel("/two", "label");
  assert.deepEqual(relabelled, ["/two label"]);
});

test("a directory is labelled with all below it, links and not what they lead to", async (t) => {
  const path = await mkdtemp(join(tmpdir(), "flotilla-selinux-"));
  t.after(() => rm(path, { recursive: true }));
  await mkdir(`${path}/volume/deep`, { recursive: true });
  await mkdir(`${path}/outside`);
  await writeFile(`${path}/outside/file`, "");
  await writeFile(`${path}/volume/deep/file`, "");
  await symlink(`${path}/outside`, `${path}/volume/link`);
  await symlink("..", `${path}/volume/deep/up`);
  const label = "system_u:object_r:container_file_t:s0:c1,c2";
  await relabel(`${path}/volume`, label);
  const root = openSync(path, "r");
  try {
    const labelOf = (name: string): string | undefined =>
      findAttributeAt(root, asByteString(name), asByteString("security.selinux"))?.toString();
    for (const name of ["volume", "volume/deep", "volume/deep/file", "volume/deep/up", "volume/link"]) {
      assert.equal(labelOf(name), label, name);
    }
    assert.equal(labelOf("outside"), undefined);
    assert.equal(labelOf("outside/file"), undefined);
  } finally {
    closeSync(root);
  }
  await assert.rejects(relabel("/etc/", label), /^FlotillaError: relabel "\/etc\/" with .* is not allowed$/);
});
