import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { type FleetConfig, timeoutMs } from "./config.ts";
import { loadConfig } from "./load.ts";
import { reloadConfig } from "./reload.ts";

test("level, timeouts and stream processors change in place; what else is different is told", async () => {
  await using directory = await mkdtempDisposable(`${tmpdir()}/flotilla-reload-`);
  const path = `${directory.path}/config.toml`;
  const read = async (text: string): Promise<FleetConfig> => {
    await writeFile(path, `version = 4\nimports = []\n${text}`);
    return (await loadConfig({ config: path }, [])).config;
  };
  const live = await read(`oom_score = 1\n[timeouts]\n"io.containerd.timeout.task.state" = "7s"\n`);
  const { timeoutsMs, streamProcessors } = live;
  assert.deepEqual(
    reloadConfig(live, await read(`oom_score = 1\n[timeouts]\n"io.containerd.timeout.task.state" = "7s"\n`)),
    {
      changed: [],
      frozen: [],
    },
  );
  const fresh = await read(`
oom_score = 2
disabled_plugins = ["a.b"]
[debug]
  level = "debug"
[timeouts]
  "own" = "9s"
[stream_processors."x"]
  accepts = ["a"]
  returns = "b"
  path = "/bin/true"
[proxy_plugins.y]
  type = "diff"
  address = "/y"
[plugins."io.containerd.z.v1.z"]
  key = 1
`);
  assert.deepEqual(reloadConfig(live, fresh), {
    changed: ["debug.level", 'timeouts."io.containerd.timeout.task.state"', 'timeouts."own"', 'stream_processors."x"'],
    frozen: ["disabled_plugins", "oom_score", 'proxy_plugins."y"', 'plugins."io.containerd.z.v1.z"'],
  });
  assert.equal(live.log.level, "debug");
  assert.equal(live.timeoutsMs, timeoutsMs);
  assert.equal(timeoutMs(live, "own"), 9_000);
  assert.equal(timeoutMs(live, "io.containerd.timeout.task.state"), 2_000);
  assert.equal(streamProcessors.get("x")?.returns, "b");
  assert.equal(live.oomScore, 1);
});
