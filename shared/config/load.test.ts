import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import { timeoutMs } from "./config.ts";
import { pluginTable } from "./defaults.ts";
import type { DaemonFlags } from "./flags.ts";
import { type LoadedConfig, loadConfig } from "./load.ts";
import { testPlugins } from "./test-plugins.ts";

const grpc = "io.containerd.server.v1.grpc";
const scheduler = "io.containerd.gc.v1.scheduler";

/** Writes files to a directory of the test's own and loads `config.toml` among them. */
async function load(
  context: TestContext,
  files: Record<string, string>,
  flags: DaemonFlags = {},
): Promise<LoadedConfig> {
  const directory = await writeFiles(context, files);
  return loadConfig({ config: join(directory, "config.toml"), ...flags }, testPlugins);
}

async function writeFiles(context: TestContext, files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-config-"));
  context.after(() => rm(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}

/** The error of a load, with the directory of the test taken out. */
async function loadError(context: TestContext, files: Record<string, string>, flags?: DaemonFlags): Promise<string> {
  const directory = await writeFiles(context, files);
  try {
    await loadConfig({ config: join(directory, "config.toml"), ...flags }, testPlugins);
  } catch (error) {
    assert.ok(error instanceof Error);
    return error.message.replaceAll(directory, "DIR");
  }
  return assert.fail("the configuration was accepted");
}

test("an empty file gives the defaults", async (context) => {
  const { config, warnings } = await load(context, { "config.toml": "version = 4\n" });
  assert.deepEqual(warnings, []);
  assert.equal(config.root, "/var/lib/containerd");
  assert.equal(config.state, "/run/containerd");
  assert.deepEqual(config.grpc, { address: "/run/containerd/containerd.sock", uid: 0, gid: 0 });
  assert.deepEqual(config.ttrpc, { address: "/run/containerd/containerd.sock.ttrpc", uid: 0, gid: 0 });
  assert.deepEqual(config.log, { level: "info", format: "text", hasTraceId: false });
  assert.equal(timeoutMs(config, "io.containerd.timeout.shim.load"), 5_000);
  assert.equal(timeoutMs(config, "io.containerd.timeout.bolt.open"), 0);
  assert.equal(timeoutMs(config, "of.nobody"), 1_000);
  assert.equal(pluginTable(config, scheduler).number("pause_threshold"), 0.02);
  assert.deepEqual([...config.streamProcessors.keys()].toSorted(), [
    "io.containerd.ocicrypt.decoder.v1.tar",
    "io.containerd.ocicrypt.decoder.v1.tar.gzip",
  ]);
});

test("flags win over the file, and their paths become absolute", async (context) => {
  const files = {
    "config.toml": 'version = 4\nroot = "/file/root"\nstate = "/file/state"\n[debug]\nlevel = "error"\n',
  };
  const { config } = await load(context, files, { root: "flag/root", logLevel: "WARNING" });
  assert.equal(config.root, join(process.cwd(), "flag/root"));
  assert.equal(config.state, "/file/state");
  assert.equal(config.log.level, "warn");
});

test("the ttrpc address follows the address of the flag unless a file gives one", async (context) => {
  const owned = `version = 4\n[plugins."${grpc}"]\nuid = 7\n`;
  const follows = await load(context, { "config.toml": owned }, { address: "/a.sock" });
  assert.deepEqual(follows.config.grpc, { address: "/a.sock", uid: 7, gid: 0 });
  assert.deepEqual(follows.config.ttrpc, { address: "/a.sock.ttrpc", uid: 7, gid: 0 });

  const given = `${owned}[plugins."io.containerd.server.v1.ttrpc"]\naddress = "/t.sock"\n`;
  const stays = await load(context, { "config.toml": given }, { address: "/a.sock" });
  assert.equal(stays.config.ttrpc.address, "/t.sock");

  const file = `version = 4\n[plugins."${grpc}"]\naddress = "/file.sock"\n`;
  const independent = await load(context, { "config.toml": file });
  assert.equal(independent.config.grpc.address, "/file.sock");
  assert.equal(independent.config.ttrpc.address, "/run/containerd/containerd.sock.ttrpc");
});

test("a file of version 2 as dockerd writes it", async (context) => {
  const { config, warnings } = await load(context, {
    "config.toml": `version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
oom_score = 0
root = "/var/lib/docker/containerd/daemon"
state = "/var/run/docker/containerd/daemon"
[grpc]
  address = "/var/run/docker/containerd/containerd.sock"
  gid = 5
  max_recv_message_size = 1048576
[debug]
  address = "/var/run/docker/containerd/containerd-debug.sock"
  level = "debug"
[metrics]
  address = "127.0.0.1:1338"
`,
  });
  const socket = "/var/run/docker/containerd/containerd.sock";
  assert.deepEqual(config.grpc, { address: socket, uid: 0, gid: 5 });
  assert.deepEqual(config.ttrpc, { address: `${socket}.ttrpc`, uid: 0, gid: 5 });
  assert.equal(pluginTable(config, grpc).integer("max_recv_message_size"), 1_048_576);
  assert.equal(pluginTable(config, grpc).integer("max_send_message_size"), 16_777_216);
  assert.equal(
    pluginTable(config, "io.containerd.server.v1.debug").string("address"),
    "/var/run/docker/containerd/containerd-debug.sock",
  );
  assert.equal(pluginTable(config, "io.containerd.server.v1.metrics").string("address"), "127.0.0.1:1338");
  assert.equal(config.log.level, "debug");
  assert.deepEqual(config.disabledPlugins, ["io.containerd.grpc.v1.cri"]);
  assert.match(warnings.join("\n"), /Configuration migrated from version 2, use `flotilla config migrate` to avoid/);
});

test("imports: relative, patterns, breadth first, each file once, cycles end", async (context) => {
  const order = (name: string, imports: string[]): string =>
    `version = 4\nimports = ${JSON.stringify(imports)}\nroot = "/${name}"\ndisabled_plugins = ["p.${name}"]\n`;
  const { config } = await load(context, {
    "config.toml": order("config", ["conf.d/*.toml", "./last.toml", "none.d/*.toml"]),
    "conf.d/b.toml": order("b", ["../config.toml", "deep/*.toml"]),
    "conf.d/a.toml": order("a", ["b.toml"]),
    "conf.d/.hidden.toml": order("hidden", []),
    "conf.d/not.tom": "nonsense",
    "conf.d/deep/d.toml": order("d", []),
    "last.toml": order("last", []),
  });
  assert.deepEqual(config.disabledPlugins, ["p.config", "p.hidden", "p.a", "p.b", "p.last", "p.d"]);
  assert.equal(config.root, "/d");
  assert.equal(config.sources.length, 6);
});

test("drop-ins merge by the rules of their kinds", async (context) => {
  const { config } = await load(context, {
    "config.toml": `version = 3
imports = ["more.toml"]
oom_score = -5
required_plugins = ["a.b"]
[grpc]
address = "/root.sock"
max_send_message_size = 100
[timeouts]
"io.containerd.timeout.shim.load" = "9s"
own = "1h"
[proxy_plugins.stargz]
type = "snapshot"
address = "/stargz.sock"
platform = "linux/arm64"
[plugins."${scheduler}"]
deletion_threshold = 4
mutation_threshold = 50
[plugins."io.containerd.service.v1.diff-service"]
default = ["erofs", "walking"]
`,
    "more.toml": `oom_score = 0
required_plugins = ["a.b", "c.d"]
[grpc]
max_recv_message_size = 200
[timeouts]
own = "2h"
[proxy_plugins.stargz]
address = "/other.sock"
[plugins.scheduler]
deletion_threshold = 0
[plugins.diff-service]
default = ["walking"]
`,
  });
  assert.equal(config.oomScore, -5);
  assert.deepEqual(config.requiredPlugins, ["a.b", "c.d"]);
  assert.equal(config.grpc.address, "/root.sock");
  assert.equal(pluginTable(config, grpc).integer("max_send_message_size"), 100);
  assert.equal(pluginTable(config, grpc).integer("max_recv_message_size"), 200);
  assert.equal(timeoutMs(config, "own"), 7_200_000);
  assert.equal(timeoutMs(config, "io.containerd.timeout.shim.load"), 9_000);
  assert.deepEqual(config.proxyPlugins.get("stargz"), {
    type: "",
    address: "/other.sock",
    platform: "",
    exports: {},
    capabilities: [],
  });
  assert.equal(pluginTable(config, scheduler).integer("deletion_threshold"), 0);
  assert.equal(pluginTable(config, scheduler).integer("mutation_threshold"), 50);
  assert.deepEqual(pluginTable(config, "io.containerd.service.v1.diff-service").strings("default"), ["walking"]);
});

test("keys that nobody knows are warned of, in the file and in plugins", async (context) => {
  const { config, warnings } = await load(context, {
    "config.toml": `version = 4
bogus = 1
[debug]
levle = "info"
[grpc]
address = "/ignored.sock"
[plugins."${scheduler}"]
pause_treshold = 0.1
[plugins."io.containerd.internal.v1.tracing"]
service_name = "known though it has no default"
[plugins."of.somebody.else.v1.x"]
anything = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
[plugins."io.containerd.cri.v1.runtime".cni]
bindir = "/typo"
`,
  });
  assert.deepEqual(
    warnings.map((warning) => warning.replace(/\/\S*config\.toml/, "FILE")),
    [
      "Ignoring unknown key in TOML: FILE: bogus",
      "Ignoring unknown key in TOML: FILE: debug.levle",
      'Ignoring [grpc] in TOML: FILE: from version 4 on it is [plugins."io.containerd.server.v1.grpc"]',
      `Ignoring unknown key in TOML for plugin: ${scheduler}: pause_treshold`,
      "Ignoring unknown key in TOML for plugin: io.containerd.cri.v1.runtime: cni.bindir",
    ],
  );
  assert.equal(config.grpc.address, "/run/containerd/containerd.sock");
  const runtimes = pluginTable(config, "io.containerd.cri.v1.runtime").table("containerd").table("runtimes");
  assert.deepEqual(runtimes.keys(), ["kata", "runc"]);
  assert.equal(runtimes.table("kata").string("runtime_type"), "io.containerd.kata.v2");
});

test("what cannot be understood is refused with its place", async (context) => {
  const refusals: [files: Record<string, string>, message: RegExp | string, flags?: DaemonFlags][] = [
    [
      { "config.toml": 'version = 4\nroot = "/r"\nstate = = "/s"\n' },
      /^failed to unmarshal TOML at row 3 column \d+: DIR\/config\.toml: [^\n]+$/,
    ],
    [
      { "config.toml": "version = 4\nversion = 4\n" },
      /^failed to unmarshal TOML at row 2 column \d+: DIR\/config\.toml: /,
    ],
    [{ "config.toml": "[__proto__]\npolluted = true\n" }, /^failed to unmarshal TOML at row 1 /],
    [
      { "config.toml": "root = 5\n" },
      "failed to unmarshal TOML: DIR/config.toml: root: expected a string, got an integer",
    ],
    [
      { "config.toml": 'version = "4"\n' },
      "failed to unmarshal TOML: DIR/config.toml: version: expected an integer, got a string",
    ],
    [
      { "config.toml": 'disabled_plugins = "a.b"\n' },
      "failed to unmarshal TOML: DIR/config.toml: disabled_plugins: expected an array of strings, got a string",
    ],
    [
      { "config.toml": '[plugins]\n"io.containerd.grpc.v1.cri" = true\n' },
      'failed to unmarshal TOML: DIR/config.toml: plugins."io.containerd.grpc.v1.cri": expected a table, got a boolean',
    ],
    [
      { "config.toml": "[timeouts]\na = 5\n" },
      "failed to unmarshal TOML: DIR/config.toml: timeouts.a: expected a string, got an integer",
    ],
    [
      { "config.toml": '[timeouts]\na = "5"\n' },
      'unable to parse 5 into a time duration: time: missing unit in duration "5"',
    ],
    [
      { "config.toml": "version = 5\n" },
      "failed to load TOML from DIR/config.toml: expected containerd config version equal to or less than `4`, got `5`",
    ],
    [{ "config.toml": "version = -1\n" }, "failed to load TOML from DIR/config.toml: invalid config version `-1`"],
    [{}, "open DIR/config.toml: no such file or directory"],
    [{ "config.toml/file": "" }, "open DIR/config.toml: is a directory"],
    [{ "config.toml": 'version = 4\nimports = ["none.toml"]\n' }, "open DIR/none.toml: no such file or directory"],
    [
      {
        "config.toml": `version = 4\nimports = ["b.toml"]\n[plugins."x.y".b]\n`,
        "b.toml": `version = 4\n[plugins."x.y"]\nb = ""\n`,
      },
      'failed to merge TOML from DIR/b.toml: plugins."x.y".b: expected a table as in the files before, got a string',
    ],
    [
      { "config.toml": 'version = 2\nimports = ["b.toml"]\n', "b.toml": "version = 3\n" },
      "DIR/b.toml: drop-in config version 3 higher than root config version 2",
    ],
    [
      { "config.toml": 'version = 2\ndisabled_plugins = ["cri"]\n' },
      'failed to load TOML from DIR/config.toml: invalid disabled plugin URI "cri" expect io.containerd.x.vx',
    ],
    [
      { "config.toml": 'version = 4\nrequired_plugins = ["cri"]\n' },
      'failed to load TOML from DIR/config.toml: invalid required plugin URI "cri" expect io.containerd.x.vx',
    ],
    [{ "config.toml": 'version = 4\nroot = "/x"\nstate = "/x/../x/"\n' }, "root and state must be different paths"],
    [{ "config.toml": "version = 4\n" }, "root and state must be different paths", { root: "/x", state: "/x" }],
    [{ "config.toml": 'version = 4\n[debug]\nlevel = "loud"\n' }, 'not a valid logrus Level: "loud"'],
    [{ "config.toml": "version = 4\n" }, 'not a valid logrus Level: "loud"', { logLevel: "loud" }],
    [{ "config.toml": 'version = 4\n[debug]\nformat = "xml"\n' }, "unknown log format: xml"],
    [
      { "config.toml": `version = 4\n[plugins."${grpc}"]\naddress = ""\n` },
      "grpc address cannot be empty: invalid argument",
    ],
    [
      { "config.toml": `version = 4\n[plugins."${grpc}"]\nuid = "root"\n` },
      `DIR/config.toml: plugins."${grpc}".uid: expected an integer, got a string: invalid argument`,
    ],
  ];
  for (const [files, expected, flags] of refusals) {
    const message = await loadError(context, files, flags);
    if (typeof expected === "string") {
      assert.equal(message, expected);
    } else {
      assert.match(message, expected);
    }
  }
});

test("an error of a plugin's setting names the file that set it last", async (context) => {
  const { config } = await load(context, {
    "config.toml": `version = 4\nimports = ["*.d/*"]\n[plugins."${scheduler}"]\nstartup_delay = "5"\nschedule_delay = 1\n`,
    "x.d/x.toml": `version = 4\n[plugins."${scheduler}"]\nschedule_delay = true\npause_threshold = "a"\n`,
  });
  const settings = pluginTable(config, scheduler);
  const at = (file: string, key: string, reason: string): RegExp =>
    new RegExp(`${file}: plugins\\."${scheduler}"\\.${key}: ${reason}: invalid argument$`);
  assert.throws(
    () => settings.durationMs("schedule_delay"),
    at("x.d/x.toml", "schedule_delay", "expected a string, got a boolean"),
  );
  assert.throws(
    () => settings.durationMs("startup_delay"),
    at("config.toml", "startup_delay", 'time: missing unit in duration "5"'),
  );
  assert.throws(
    () => settings.number("pause_threshold"),
    at("x.toml", "pause_threshold", "expected a number, got a string"),
  );
  assert.throws(
    () => settings.string("nothing"),
    /: plugins.*\.nothing: expected a string, got nothing|^FlotillaError: plugins/,
  );
});
