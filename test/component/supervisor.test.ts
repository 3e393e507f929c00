import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { systemErrorCode } from "#base/errors.ts";
import { type Member, Supervisor, type SupervisorOptions } from "#fleet/supervisor.ts";

let directory: string;
let supervisor: Supervisor;
const failed: string[] = [];

const options: SupervisorOptions = {
  policy: { delayMsMin: 1, delayMsMax: 5, healthyRunMs: 60_000, deathsMax: 3 },
  log: pino({ level: "silent" }),
  interrupted: new AbortController().signal,
  onFailed: (name) => failed.push(name),
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "flotilla-supervisor-"));
  supervisor = new Supervisor(options);
  failed.length = 0;
});

afterEach(async () => {
  await supervisor.stop();
  await rm(directory, { recursive: true });
});

/** A member that notes its start and its orderly stop in a file, and is ready once it has noted the start. */
function shellMember(name: string, body = "while :; do sleep 0.05; done"): Member {
  const journal = join(directory, "journal");
  return {
    name,
    command: "/bin/sh",
    args: ["-c", `trap 'echo stop ${name} >>${journal}; exit 0' TERM; echo start ${name} >>${journal}; ${body}`],
    awaitReady: () => until(async () => (await readJournal()).includes(`start ${name}`)),
  };
}

async function readJournal(): Promise<string[]> {
  try {
    return (await readFile(join(directory, "journal"), "utf8")).trim().split("\n");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return [];
    }
    throw error;
  }
}

async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, "waited in vain");
    await delay(5);
  }
}

test("members stop in the reverse of the order in which they were started", async () => {
  await supervisor.start(shellMember("first"));
  await supervisor.start(shellMember("second"));
  await supervisor.stop();
  assert.deepEqual(await readJournal(), ["start first", "start second", "stop second", "stop first"]);
});

test("a killed member is started again", async () => {
  await supervisor.start(shellMember("one"));
  const before = supervisor.pidOf("one");
  assert.ok(before !== undefined);
  process.kill(before, "SIGKILL");
  await until(async () => (await readJournal()).filter((line) => line === "start one").length === 2);
  assert.notEqual(supervisor.pidOf("one"), before);
  assert.deepEqual(failed, []);
});

test("a member that keeps dying is given up, and told once", async () => {
  await supervisor.start(shellMember("short", "sleep 0.05; exit 3"));
  await until(() => failed.length > 0);
  await delay(50);
  assert.deepEqual(failed, ["short"]);
  assert.equal((await readJournal()).length, 1 + options.policy.deathsMax);
});

test("a member that ends before it is ready fails the start with its status", async () => {
  const member = { ...shellMember("never", "exit 7"), awaitReady: () => delay(60_000, undefined, { ref: false }) };
  await assert.rejects(supervisor.start(member), /never ended during its start \(exit status 7\): unavailable/);
});

test("a restarted member that does not get ready is killed, which uses the budget up", async () => {
  let isFirst = true;
  const member = shellMember("mute");
  await supervisor.start({
    ...member,
    awaitReady: async (signal, told) => {
      await member.awaitReady(signal, told);
      if (!isFirst) {
        throw new Error("not ready");
      }
      isFirst = false;
    },
  });
  process.kill(supervisor.pidOf("mute") ?? 0, "SIGKILL");
  await until(() => failed.length > 0);
  assert.deepEqual(failed, ["mute"]);
});

test("an interrupted start ends, and what comes after the stop is not started", async () => {
  const interrupt = new AbortController();
  supervisor = new Supervisor({ ...options, interrupted: interrupt.signal });
  const waiting = supervisor.start({
    ...shellMember("slow"),
    awaitReady: (signal) => delay(60_000, undefined, { signal }),
  });
  interrupt.abort();
  await assert.rejects(waiting, { name: "AbortError" });
  await supervisor.stop();
  assert.equal(supervisor.pidOf("slow"), undefined);
  await assert.rejects(supervisor.start(shellMember("late")), /late is not started, since the fleet is stopping/);
  assert.deepEqual(
    (await readJournal()).filter((line) => line.includes("late")),
    [],
  );
});

function startsOf(name: string, journal: readonly string[]): number {
  return journal.filter((line) => line === `start ${name}`).length;
}

test("a member on demand is started by the first who wants it, and once", async () => {
  supervisor.keepReady(shellMember("demanded"));
  await delay(50);
  assert.equal(supervisor.pidOf("demanded"), undefined);
  for (let caller = 0; caller < 5; caller += 1) {
    supervisor.wake("demanded");
  }
  await until(async () => startsOf("demanded", await readJournal()) > 0);
  supervisor.wake("demanded");
  await delay(50);
  assert.deepEqual(await readJournal(), ["start demanded"]);
  await supervisor.stop();
  assert.deepEqual(await readJournal(), ["start demanded", "stop demanded"]);
  supervisor.wake("demanded");
  await delay(50);
  assert.equal(supervisor.pidOf("demanded"), undefined);
});

test("a member on demand may end by itself as often as it likes, and is started when it is wanted again", async () => {
  supervisor.keepReady(shellMember("brief", "exit 0"));
  const lives = options.policy.deathsMax + 3;
  for (let life = 1; life <= lives; life += 1) {
    await until(async () => {
      supervisor.wake("brief");
      return startsOf("brief", await readJournal()) >= life;
    });
  }
  await until(() => supervisor.pidOf("brief") === undefined);
  assert.deepEqual(failed, []);
});

test("a member on demand that dies is not started until it is wanted, and is given up when it keeps dying", async () => {
  supervisor.keepReady(shellMember("frail", "exit 9"));
  supervisor.wake("frail");
  await until(async () => startsOf("frail", await readJournal()) === 1 && supervisor.pidOf("frail") === undefined);
  await delay(10 * options.policy.delayMsMax);
  assert.equal(startsOf("frail", await readJournal()), 1);
  await until(() => {
    supervisor.wake("frail");
    return failed.length > 0;
  });
  supervisor.wake("frail");
  await delay(50);
  assert.deepEqual(failed, ["frail"]);
  assert.equal(startsOf("frail", await readJournal()), 1 + options.policy.deathsMax);
});

test("a program that is not there is a death that says so", async () => {
  const member = { ...shellMember("absent"), awaitReady: () => delay(60_000, undefined, { ref: false }) };
  await assert.rejects(
    supervisor.start({ ...member, command: "/not/there" }),
    /absent ended during its start \(exit status 1(?:26|27)?\): unavailable/,
  );
});

test("what a member tells its owner arrives, and one that ends without a word has told nothing", async () => {
  const heard: string[] = [];
  const listening = (name: string, body: string): Member => ({
    ...shellMember(name, body),
    tells: true,
    awaitReady: async (_signal, told) => {
      heard.push((await told).toString());
    },
  });
  await supervisor.start(
    listening("talker", 'printf "ready %s" "$FLOTILLA_TELL_DESCRIPTOR" >&3; exec 3>&-; while :; do sleep 0.05; done'),
  );
  assert.deepEqual(heard, ["ready 3"]);
  supervisor.keepReady(listening("silent", "exit 1"));
  supervisor.wake("silent");
  await until(() => heard.length > 1);
  assert.deepEqual(heard, ["ready 3", ""]);
});
