import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { type FleetConfig, timeoutMs } from "./config.ts";
import { pluginTable } from "./defaults.ts";
import { loadConfig } from "./load.ts";
import type { ConfigurablePlugin } from "./manifest.ts";
import { planReload, type ReloadReport } from "./reload.ts";

const plugins: readonly ConfigurablePlugin[] = [
  {
    type: "io.containerd.z.v1",
    id: "z",
    reloads: ["soft", "within.soft"],
    settings: {
      soft: { type: "integer", default: 1, about: "Changes." },
      hard: { type: "integer", default: 1, about: "Stays." },
      within: {
        type: "table",
        settings: {
          soft: { type: "strings", default: [], about: "Changes." },
          hard: { type: "string", default: "", about: "Stays." },
        },
        about: "More.",
      },
    },
  },
];

function reloadConfig(config: FleetConfig, fresh: FleetConfig): ReloadReport {
  const { report, takeOver } = planReload(config, fresh, plugins);
  takeOver();
  return report;
}

test("level, timeouts and stream processors change in place; what else is different is told", async () => {
  await using directory = await mkdtempDisposable(`${tmpdir()}/flotilla-reload-`);
  const path = `${directory.path}/config.toml`;
  const read = async (text: string): Promise<FleetConfig> => {
    await writeFile(path, `version = 4\nimports = []\n${text}`);
    return (await loadConfig({ config: path }, plugins)).config;
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
  soft = 2
  hard = 2
  [plugins."io.containerd.z.v1.z".within]
    soft = ["a"]
    hard = "b"
`);
  assert.deepEqual(reloadConfig(live, fresh), {
    changed: [
      "debug.level",
      'timeouts."io.containerd.timeout.task.state"',
      'timeouts."own"',
      'stream_processors."x"',
      'plugins."io.containerd.z.v1.z".soft',
      'plugins."io.containerd.z.v1.z".within.soft',
    ],
    frozen: [
      "disabled_plugins",
      "oom_score",
      'proxy_plugins."y"',
      'plugins."io.containerd.z.v1.z".hard',
      'plugins."io.containerd.z.v1.z".within.hard',
    ],
  });
  const table = pluginTable(live, "io.containerd.z.v1.z");
  const within = table.table("within");
  assert.deepEqual([table.integer("soft"), table.integer("hard")], [2, 1]);
  assert.deepEqual([within.strings("soft"), within.string("hard")], [["a"], ""]);
  assert.equal(live.log.level, "debug");
  assert.equal(live.timeoutsMs, timeoutsMs);
  assert.equal(timeoutMs(live, "own"), 9_000);
  assert.equal(timeoutMs(live, "io.containerd.timeout.task.state"), 2_000);
  assert.equal(streamProcessors.get("x")?.returns, "b");
  assert.equal(live.oomScore, 1);
  const wrong = await read(`[debug]\nlevel = "error"\n[plugins."io.containerd.z.v1.z"]\nsoft = "much"\n`);
  assert.throws(() => reloadConfig(live, wrong), /soft: expected an integer, got a string/);
  assert.equal(live.log.level, "debug", "what is wrong changes nothing");
});
