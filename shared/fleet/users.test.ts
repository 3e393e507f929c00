import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { confinementOf, setprivFlags } from "./confinement.ts";
import { accountNames, formatUsers, oneUser, readUsers, separateUsers } from "./users.ts";

const ids = new Map(accountNames().map((name, index) => [name, 64_300 + index]));

test("the users go from a process to those that it starts", () => {
  const users = separateUsers(ids);
  const read = readUsers(formatUsers(users));
  assert.equal(read.areSeparate, true);
  assert.equal(read.gid, ids.get("flotilla"));
  assert.equal(read.uidOf("content"), ids.get("flotilla-content"));
  assert.equal(read.uidOf("snapshots"), 0);
  assert.equal(readUsers(formatUsers(oneUser)).areSeparate, false);
  assert.equal(readUsers("").uidOf("content"), process.geteuid?.());
});

test("a user that is missing is named", () => {
  assert.throws(() => readUsers("flotilla=1,flotilla-content=2"), /there is no id of flotilla-\w+: invalid argument/);
  assert.throws(() => separateUsers(new Map([...ids].slice(1))), /there is no id of flotilla: /);
});

test("a process keeps what its rights say and nothing else", () => {
  const users = separateUsers(ids);
  const flags = (name: "content" | "snapshots" | "tasks"): string[] => {
    const confinement = confinementOf(name, users);
    return confinement === undefined ? [] : setprivFlags(confinement);
  };
  const none = ["--inh-caps=-all", "--ambient-caps=-all"];
  const own = [`--reuid=${ids.get("flotilla-content")}`, `--regid=${ids.get("flotilla")}`, "--clear-groups"];
  assert.deepEqual(flags("content"), [...own, ...none, "--bounding-set=-all", "--no-new-privs"]);
  assert.deepEqual(flags("snapshots").slice(0, 2), none);
  assert.match(flags("snapshots")[2] ?? "", /^--bounding-set=-all,\+chown,.*\+sys_admin/);
  assert.deepEqual(flags("tasks"), []);
  assert.equal(confinementOf("content", oneUser), undefined);
});

test("the file for systemd-sysusers makes the users and the group that there have to be", () => {
  const lines = readFileSync(new URL("../../deploy/flotilla.sysusers", import.meta.url), "utf8").split("\n");
  const made = lines.filter((line) => /^[ug] /.test(line)).map((line) => line.split(" ")[1]);
  assert.deepEqual(new Set(made), new Set(accountNames()));
});
