import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  CapabilitySchema,
  SecurityProfile_ProfileType as ProfileType,
  SecurityProfileSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { applyCapabilities } from "./capabilities.ts";
import { defaultSeccompProfile } from "./seccomp-profile.ts";
import { allowedSyscalls } from "./seccomp-syscalls.ts";
import { chooseApparmor, chooseSeccomp } from "./security-profile.ts";

const all = ["CAP_A", "CAP_B", "CAP_C"];

function capabilities(add: string[], drop: string[], start = ["CAP_A"]) {
  const sets = { bounding: start, effective: start, permitted: start, inheritable: start, ambient: start };
  return applyCapabilities(sets, create(CapabilitySchema, { addCapabilities: add, dropCapabilities: drop }), all);
}

test("capabilities are added and dropped by name, in any case, and ALL goes first", () => {
  assert.deepEqual(capabilities(["b"], ["A"]).bounding, ["CAP_B"]);
  assert.deepEqual(capabilities(["all"], ["b"]).effective, ["CAP_A", "CAP_C"]);
  assert.deepEqual(capabilities(["C"], ["ALL"]).permitted, ["CAP_C"]);
  assert.deepEqual(capabilities(["ALL"], ["ALL"]).permitted, []);
  assert.deepEqual(capabilities([], []).permitted, ["CAP_A"]);
  assert.deepEqual(capabilities(["A", "A"], []).bounding, ["CAP_A"], "none twice");
});

test("what is inherited loses what is dropped, and nothing stays over a change of the user", () => {
  assert.deepEqual(capabilities([], ["A"]).inheritable, []);
  assert.deepEqual(capabilities([], ["ALL"]).inheritable, undefined);
  assert.equal("ambient" in capabilities([], []), false);
  assert.equal("ambient" in applyCapabilities({ ambient: all }, undefined, all), false);
});

function allowedBy(bounding: string[], machine = "x64"): Map<string, string> {
  const { syscalls = [] } = defaultSeccompProfile({ machine, bounding, hasOwnPtrace: true });
  return new Map(syscalls.flatMap(({ names, action }) => names.map((name) => [name, action] as const)));
}

test("the default filter refuses what it does not list, and its list grows with the capabilities", () => {
  const profile = defaultSeccompProfile({ machine: "x64", bounding: [], hasOwnPtrace: false });
  assert.equal(profile.defaultAction, "SCMP_ACT_ERRNO");
  assert.deepEqual(profile.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
  assert.equal(allowedSyscalls.length, new Set(allowedSyscalls).size);
  assert.ok(allowedSyscalls.length > 350);
  const none = allowedBy([]);
  assert.equal(none.get("mount"), undefined);
  assert.equal(none.get("clone3"), "SCMP_ACT_ERRNO");
  assert.equal(none.get("ptrace"), "SCMP_ACT_ALLOW");
  assert.equal(none.get("arch_prctl"), "SCMP_ACT_ALLOW");
  assert.equal(none.get("io_uring_setup"), undefined);
  const admin = allowedBy(["CAP_SYS_ADMIN"]);
  assert.equal(admin.get("mount"), "SCMP_ACT_ALLOW");
  assert.equal(admin.get("clone3"), "SCMP_ACT_ALLOW");
  assert.equal(allowedBy(["CAP_SYS_BOOT"]).get("reboot"), "SCMP_ACT_ALLOW");
  assert.equal(allowedBy([], "s390x").get("s390_runtime_instr"), "SCMP_ACT_ALLOW");
});

test("new namespaces and sockets that reach out of the container are filtered by argument", () => {
  const { syscalls = [] } = defaultSeccompProfile({ machine: "x64", bounding: [], hasOwnPtrace: true });
  const rulesOf = (name: string) => syscalls.filter(({ names }) => names.includes(name)).map(({ args }) => args);
  assert.deepEqual(rulesOf("clone"), [[{ index: 0, value: 2114060288, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }]]);
  assert.deepEqual(
    rulesOf("socket").map((args) => args?.map(({ op, value }) => `${op} ${value}`)),
    [["SCMP_CMP_LT 38"], ["SCMP_CMP_EQ 39"], ["SCMP_CMP_GT 40"]],
  );
  assert.equal(rulesOf("personality").length, 5);
});

const profileOf = (profileType: ProfileType, localhostRef = "") =>
  create(SecurityProfileSchema, { profileType, localhostRef });
const plain = { profile: undefined, path: "", privileged: false, isSupported: true };

test("seccomp is chosen by the profile, then by the older path, then by what counts where nothing is said", () => {
  const choose = (more: Partial<Parameters<typeof chooseSeccomp>[0]>) =>
    chooseSeccomp({ ...plain, unset: "", ...more });
  assert.deepEqual(choose({}), { kind: "none" });
  assert.deepEqual(choose({ unset: "runtime/default" }), { kind: "default" });
  assert.deepEqual(choose({ unset: "runtime/default", path: "unconfined" }), { kind: "none" });
  assert.deepEqual(choose({ profile: profileOf(ProfileType.RuntimeDefault) }), { kind: "default" });
  assert.deepEqual(choose({ profile: profileOf(ProfileType.Localhost, "localhost//p.json") }), {
    kind: "named",
    name: "/p.json",
  });
  assert.deepEqual(choose({ path: "localhost/p.json" }), { kind: "named", name: "p.json" });
  assert.deepEqual(choose({ path: "docker/default", privileged: true }), { kind: "none" });
  assert.deepEqual(choose({ path: "unconfined", isSupported: false }), { kind: "none" });
  assert.throws(() => choose({ path: "docker/default", isSupported: false }), { message: "seccomp is not supported" });
  assert.throws(() => choose({ path: "mine" }), { message: 'invalid profile "mine"' });
  assert.throws(() => choose({ profile: profileOf(ProfileType.RuntimeDefault, "x") }), /LocalhostRef must only be set/);
});

test("AppArmor confines who says nothing, where the kernel has it", () => {
  const choose = (more: Partial<Parameters<typeof chooseApparmor>[0]>) => chooseApparmor({ ...plain, ...more });
  assert.deepEqual(choose({}), { kind: "default" });
  assert.deepEqual(choose({ privileged: true }), { kind: "none" });
  assert.deepEqual(choose({ path: "localhost/mine", privileged: true }), { kind: "named", name: "mine" });
  assert.deepEqual(choose({ isSupported: false }), { kind: "none" });
  assert.deepEqual(choose({ isSupported: false, profile: profileOf(ProfileType.Unconfined) }), { kind: "none" });
  assert.throws(() => choose({ isSupported: false, path: "localhost/mine" }), { message: "apparmor is not supported" });
});
