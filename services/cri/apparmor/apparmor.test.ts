import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind } from "#base/errors.ts";
import { ProgramFailure } from "#linux/program.ts";
import { defaultProfile } from "./default-profile.ts";
import { type ApparmorPort, loadDefaultProfile, requireProfile } from "./load-profile.ts";

const name = "cri-containerd.apparmor.d";

function recorded(parts: Partial<ApparmorPort> = {}): ApparmorPort & { readonly given: string[] } {
  const given: string[] = [];
  return {
    given,
    loaded: () => Promise.resolve(["docker-default"]),
    load: (profile) => {
      given.push(profile);
      return Promise.resolve();
    },
    daemonProfile: () => Promise.resolve("flotilla"),
    hasFile: () => true,
    ...parts,
  };
}

/** Whether a rule that denies writing meets a path; `**` and `[^…]` are all that such rules have. */
function isWriteDenied(profile: string, path: string): boolean {
  return [...profile.matchAll(/^ {2}deny (\S+) (\w+),$/gm)].some(([, pattern = "", access = ""]) => {
    const source = pattern.replace("@{PROC}/", "/proc/").replaceAll("**", ".*");
    return access.includes("w") && new RegExp(`^${source}$`).test(path);
  });
}

test("a container may write what is its own in /proc and /sys, and nothing of the machine", () => {
  const profile = defaultProfile(name, { daemonProfile: "unconfined", has: () => true });
  for (const path of ["/proc/1/attr/exec", "/proc/42/oom_score_adj", "/proc/sys/kernel/shmmax", "/sys/fs/cgroup/a/b"]) {
    assert.equal(isWriteDenied(profile, path), false, path);
  }
  for (const path of [
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/acpi/x",
    "/proc/scsi/scsi",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/sysrq",
    "/sys/kernel/mm/x",
    "/sys/fs/bpf/x",
    "/sys/firmware/x",
    "/sys/class/x",
  ]) {
    assert.equal(isWriteDenied(profile, path), true, path);
  }
  assert.match(profile, /^ {2}deny mount,$/m);
  assert.match(profile, new RegExp(`^ {2}signal \\(send, receive\\) peer=${name},$`, "m"));
});

test("a profile includes what the machine has for profiles, and does without", () => {
  const without = defaultProfile(name, { daemonProfile: "flotilla", has: () => false });
  assert.doesNotMatch(without, /abi <|include/);
  assert.match(without, /^@\{PROC\}=\/proc\/$/m);
  assert.match(without, /^ {2}signal \(receive\) peer=flotilla,$/m);
  const having = defaultProfile(name, { daemonProfile: "flotilla", has: () => true });
  assert.match(having, /^abi <abi\/3\.0>,\n#include <tunables\/global>\nprofile cri-containerd\.apparmor\.d flags=/);
});

test("the profile is given to the kernel once, and what its program says is told", async () => {
  const machine = recorded();
  await loadDefaultProfile(name, machine);
  assert.deepEqual(machine.given, [defaultProfile(name, { daemonProfile: "flotilla", has: () => true })]);
  const loaded = recorded({ loaded: () => Promise.resolve([name]) });
  await loadDefaultProfile(name, loaded);
  assert.deepEqual(loaded.given, []);
  const output = { stdout: Buffer.alloc(0), stderr: Buffer.from("Access denied\n") };
  const refusing = recorded({
    load: () => Promise.reject(new ProgramFailure(ErrorKind.Unknown, "exit status 243", output)),
  });
  await assert.rejects(loadDefaultProfile(name, refusing), {
    kind: ErrorKind.Unknown,
    message: `load apparmor profile ${name}: parser error("Access denied"): exit status 243`,
  });
});

test("a profile of the machine must be there", async () => {
  await requireProfile("docker-default", recorded());
  await assert.rejects(requireProfile("docker", recorded()), {
    message: "failed to generate apparmor spec opts: apparmor profile not found docker",
  });
});
