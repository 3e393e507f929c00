import assert from "node:assert/strict";
import { chmod, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { execa } from "execa";
import { parse } from "smol-toml";
import { ErrorKind, failure } from "#base/errors.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { Events, type PublishRequest } from "#gen/containerd/services/events/v1/events_pb.ts";
import { Transfers } from "#gen/flotilla/transfers/v1/transfers_pb.ts";
import { bindService } from "#wire/handler.ts";
import { namespaceHeader, requireNamespace } from "#wire/headers.ts";
import { serveRpc } from "#wire/server.ts";
import { compiledCode } from "../kit/compiled-code.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const cliModule = new URL("../../services/gateway/cli/cli.ts", import.meta.url).href;
/** The program with a daemon that only tells its flags. */
const program = `
import { runCli } from ${JSON.stringify(cliModule)};
const runDaemon = async (flags) => {
  if (flags.root === "/fails") throw new Error("no luck");
  process.stdout.write("daemon " + JSON.stringify(flags));
};
await runCli(process.argv.slice(1), { runDaemon });
`;

interface Outcome {
  readonly status: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Record<string, string>;
}

async function flotilla(args: readonly string[], { input = "", env = {} }: RunOptions = {}): Promise<Outcome> {
  const result = await execa(process.execPath, ["--input-type=module", "--eval", program, "--", ...args], {
    input,
    env: { ...compiledCode, ...env },
    reject: false,
    timeout: 60_000,
  });
  return { status: result.exitCode, signal: result.signal, stdout: result.stdout, stderr: result.stderr };
}

test("without a command the daemon runs, with its flags", async () => {
  assert.deepEqual(await flotilla(["-l", "debug", "--root=/r"]), {
    status: 0,
    signal: undefined,
    stdout: 'daemon {"logLevel":"debug","root":"/r"}',
    stderr: "",
  });
});

test("a daemon that fails ends the program with status 1 and its reason", async () => {
  assert.deepEqual(await flotilla(["--root", "/fails"]), {
    status: 1,
    signal: undefined,
    stdout: "",
    stderr: "flotilla: no luck",
  });
});

test("the version has the four words that scripts read from containerd's", async () => {
  for (const args of [["-v"], ["--version", "extra"], ["--root", "/fails", "--version"]]) {
    const { status, stdout } = await flotilla(args);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /^containerd github\.com\/containerd\/containerd\/v2 v\d+\.\d+\.\d+\+flotilla\.\S+ [0-9a-f]{0,40}$/,
    );
  }
});

test("help lays out the program, a group of commands and a command", async () => {
  const help = await flotilla(["--help"]);
  assert.equal(help.status, 0);
  assert.match(
    help.stdout,
    /^NAME:\n {3}flotilla - .+\n\nUSAGE:\n {3}flotilla \[global options\] command \[command options\]\n\nVERSION:\n/,
  );
  assert.match(help.stdout, /\n {3}--config value, -c value {5}.+\(default: "\/etc\/containerd\/config\.toml"\)\n/);
  assert.match(
    help.stdout,
    /\nCOMMANDS:\n {3}status {5}.+\n {3}config {5}.+\n(?: {3}[a-z-]+ {2,}.+\n)* {3}transfers {2}.+\n {3}du {9}.+\n(?: {3}[a-z-]+ {2,}.+\n)* {3}help, h {4}.+\n\nGLOBAL OPTIONS:\n/,
  );
  for (const args of [["help"], ["h"], ["-h"], ["help", ""], ["--root", "/fails", "-help"]]) {
    assert.equal((await flotilla(args)).stdout, help.stdout, args.join(" "));
  }

  const config = await flotilla(["config"]);
  assert.equal(config.status, 0);
  assert.match(
    config.stdout,
    /^NAME:\n {3}flotilla config - .+\n\nUSAGE:\n {3}flotilla config command \[command options\]\n\nCOMMANDS:\n {3}default {2}/,
  );
  for (const args of [
    ["help", "config"],
    ["config", "--help"],
    ["config", "help"],
  ]) {
    assert.equal((await flotilla(args)).stdout, config.stdout, args.join(" "));
  }

  const dump = await flotilla(["config", "dump", "--help"]);
  assert.match(
    dump.stdout,
    /^NAME:\n {3}flotilla config dump - .+\n\nUSAGE:\n {3}flotilla config dump \[command options\]\n\nOPTIONS:\n {3}--help, -h {2}Show help$/,
  );
  assert.equal((await flotilla(["config", "help", "dump"])).stdout, dump.stdout);
});

test("an argument that is no command starts nothing", async () => {
  for (const args of [["foo"], ["--root", "/fails", "foo"], ["help", "foo"], ["config", "foo"], ["foo", "--help"]]) {
    assert.deepEqual(await flotilla(args), {
      status: 3,
      signal: undefined,
      stdout: "",
      stderr: "No help topic for 'foo'",
    });
  }
});

test("a bad flag gives the help and the reason", async () => {
  const unknown = await flotilla(["--bogus"]);
  assert.equal(unknown.status, 1);
  assert.equal(unknown.stderr, "flotilla: flag provided but not defined: -bogus");
  assert.match(unknown.stdout, /^Incorrect Usage: flag provided but not defined: -bogus\n\nNAME:\n {3}flotilla - /);
  const ofCommand = await flotilla(["publish", "--topic"]);
  assert.equal(ofCommand.stderr, "flotilla: flag needs an argument: -topic");
  assert.match(ofCommand.stdout, /^Incorrect Usage: .+\n\nNAME:\n {3}flotilla publish - /);
});

test("the default configuration has every setting that the containerd here has, and is read back as it is", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  const { stdout, status } = await flotilla(["config", "default"]);
  assert.equal(status, 0);
  const own = parse(stdout);
  assert.equal(own["version"], 4);
  const file = join(directory.path, "config.toml");
  await writeFile(file, stdout);
  assert.deepEqual(await flotilla(["-c", file, "config", "dump"]), {
    status: 0,
    signal: undefined,
    stdout,
    stderr: "",
  });

  // Gone since the older release that distributions carry, or a section that is a plugin now.
  const gone = new Set(["plugin_dir", "grpc", "ttrpc", "metrics", "proxy_plugins"]);
  const theirs = parse((await execa("containerd", ["config", "default"])).stdout);
  assert.deepEqual(
    Object.keys(theirs).filter((key) => !gone.has(key) && !Object.hasOwn(own, key)),
    [],
  );
  const plugins = own["plugins"] as Record<string, Record<string, unknown>>;
  for (const plugin of [
    "io.containerd.gc.v1.scheduler",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.runtime.v2.task",
  ]) {
    const { sched_core: _moved, ...settings } =
      (theirs["plugins"] as Record<string, Record<string, unknown>>)[plugin] ?? {};
    assert.ok(Object.keys(settings).length > 0, plugin);
    assert.deepEqual({ ...plugins[plugin], ...settings }, { ...plugins[plugin] }, plugin);
  }
  const timeouts = own["timeouts"] as object;
  assert.deepEqual({ ...timeouts, ...(theirs["timeouts"] as object) }, { ...timeouts });
});

test("the configuration is printed as containerd 2.3.4 prints it, but for what only the fleet has", async () => {
  const { stdout } = await flotilla(["config", "default"]);
  assert.equal(withoutOwnSettings(stdout), await recorded("default.toml"));
  const older = await flotilla(["-c", recordedPath("older.toml"), "config", "migrate"]);
  assert.equal(withoutOwnSettings(older.stdout), await recorded("older-dump.toml"));
});

test("settings that no plugin knows any more are warned of and left out", async () => {
  const { stdout, stderr } = await flotilla(["-c", recordedPath("older.toml"), "config", "dump"]);
  const warned = Array.from(
    stderr.matchAll(/^Ignoring unknown key in TOML for plugin: (\S+): (.+)$/gm),
    (match) => match[2],
  );
  assert.deepEqual(warned, [
    'registry.configs."other.example".tls',
    "disable_cgroup",
    "systemd_cgroup",
    "containerd.no_pivot",
    "containerd.default_runtime",
    "containerd.untrusted_workload_runtime",
    "containerd.runtimes.kata.runtime_engine",
    "containerd.runtimes.kata.runtime_root",
  ]);
  assert.doesNotMatch(
    stdout,
    /disable_cgroup|systemd_cgroup|no_pivot|default_runtime\b|untrusted|runtime_engine|runtime_root/,
  );
});

/** Files for the real program, and what it printed. */
function recordedPath(name: string): string {
  return fileURLToPath(new URL(`config/${name}`, import.meta.url));
}

async function recorded(name: string): Promise<string> {
  return (await readFile(recordedPath(name), "utf8")).trimEnd();
}

function withoutOwnSettings(printed: string): string {
  return (
    printed
      // aufs was containerd's until 1.7.
      .replaceAll(/^ {2}\[plugins\.'io\.(?:flotilla\.|containerd\.snapshotter\.v1\.aufs).*\n(?: {4}.*\n)*\n?/gm, "")
      .replaceAll(/^ {2}'io\.flotilla\.timeout\..*\n/gm, "")
  );
}

test("dump and migrate show what a file of an older version and its imports come to", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  const file = join(directory.path, "config.toml");
  await writeFile(file, `imports = ["more.toml"]\n${await recorded("older.toml")}`);
  await writeFile(join(directory.path, "more.toml"), 'version = 2\noom_score = -999\n[grpc]\naddress = "/x.sock"\n');
  const dumped = await flotilla(["--config", file, "config", "dump"]);
  assert.equal(dumped.status, 0);
  assert.match(
    dumped.stderr,
    /config\.toml: Configuration migrated from version 2, use `flotilla config migrate` to avoid/,
  );
  const merged = parse(dumped.stdout, { integersAsBigInt: "asNeeded" });
  assert.equal(merged["version"], 4);
  assert.equal(merged["oom_score"], -999);
  assert.equal(merged["grpc"], undefined);
  const plugins = merged["plugins"] as Record<string, Record<string, unknown>>;
  assert.equal(plugins["io.containerd.server.v1.grpc"]?.["address"], "/x.sock");
  assert.equal(plugins["io.containerd.server.v1.ttrpc"]?.["address"], "/x.sock.ttrpc");
  assert.equal((await flotilla(["--config", file, "config", "migrate"])).stdout, dumped.stdout);
});

test("dump takes a missing file for an empty one and refuses a bad one", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  const file = join(directory.path, "config.toml");
  assert.equal((await flotilla(["-c", file, "config", "dump"])).stdout, (await flotilla(["config", "default"])).stdout);
  await writeFile(file, "version = 4\nroot = \n");
  const { status, stdout, stderr } = await flotilla(["-c", file, "config", "dump"]);
  assert.equal(status, 1);
  assert.equal(stdout, "");
  assert.match(stderr, /^flotilla: failed to unmarshal TOML at row 2 column \d+: \S+config\.toml: /);
  await writeFile(file, 'version = 4\n[plugins."io.containerd.nri.v1.nri"]\ndisable = "yes"\n');
  const wrong = await flotilla(["-c", file, "config", "dump"]);
  assert.equal(wrong.status, 1);
  assert.equal(
    wrong.stderr,
    `flotilla: ${file}: plugins."io.containerd.nri.v1.nri".disable: expected a boolean, got a string: invalid argument`,
  );
});

test("publish sends one event and gives the daemon's error", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  const socketPath = join(directory.path, "events.sock");
  const published: (PublishRequest & { namespace: string | undefined })[] = [];
  const server = await serveRpc({
    socketPath,
    services: [
      bindService(Events, {
        publish: (request, call) => {
          requireNamespace(call);
          if (request.topic === "/refused") {
            throw failure(ErrorKind.InvalidArgument, "envelope topic");
          }
          published.push({ ...request, namespace: call.header(namespaceHeader) });
          return {};
        },
      }),
    ],
  });
  try {
    const event = create(AnySchema, { typeUrl: "containerd.events.TaskExit", value: new Uint8Array([10, 1, 99]) });
    const input = toBinary(AnySchema, event);
    const publish = (...args: string[]): Promise<Outcome> =>
      flotilla(["--address", socketPath, "publish", ...args], { input });
    const done = { status: 0, signal: undefined, stdout: "", stderr: "" };
    assert.deepEqual(await publish("--topic", "/tasks/exit", "-namespace=testing"), done);
    assert.equal(published.length, 1);
    assert.equal(published[0]?.topic, "/tasks/exit");
    assert.equal(published[0]?.namespace, "testing");
    assert.equal(published[0]?.event?.typeUrl, event.typeUrl);
    assert.deepEqual([...(published[0]?.event?.value ?? [])], [...event.value]);

    const failed = { ...done, status: 1 };
    assert.deepEqual(await publish("--topic", "/tasks/exit"), {
      ...failed,
      stderr: "flotilla: namespace is required: failed precondition",
    });
    assert.deepEqual(await publish("--namespace", "testing"), {
      ...failed,
      stderr: "flotilla: topic required to publish event: invalid argument",
    });
    assert.deepEqual(await publish("--namespace", "testing", "--topic", "/refused"), {
      ...failed,
      stderr: "flotilla: envelope topic: invalid argument",
    });
    const garbage = await flotilla(["-a", socketPath, "publish", "--topic", "/a"], {
      input: new Uint8Array([255, 255]),
    });
    assert.equal(garbage.status, 1);
    assert.match(garbage.stderr, /^flotilla: the event on standard input: /);
    assert.equal(published.length, 1);
  } finally {
    await server.close(0);
  }
});

test("oci-hook becomes the program that it is given, with values of the container filled in", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  await writeFile(
    join(directory.path, "config.json"),
    JSON.stringify({ ociVersion: "1.2.0", root: { path: "rootfs" } }),
  );
  const state = {
    ociVersion: "1.2.0",
    id: "c1",
    status: "created",
    pid: 42,
    bundle: directory.path,
    annotations: { "a/b": "it's" },
  };
  const hook = (args: string[], env: Record<string, string> = {}): Promise<Outcome> =>
    flotilla(["oci-hook", ...args], { input: JSON.stringify(state), env });
  const script = 'printf "%s|" "$@" "$FILLED"; exit 7';
  const filled = await hook(
    [
      "--",
      "/bin/sh",
      "-c",
      script,
      "sh",
      "{{id}}",
      "{{pid}} {{status}}",
      "{{rootfs}}/etc",
      "{{bundle}}",
      '{{annotation "a/b"}}',
      '{{annotation "none"}}',
    ],
    { FILLED: "x{{id}}" },
  );
  assert.deepEqual(filled, {
    status: 7,
    signal: undefined,
    stdout: `c1|42 created|${directory.path}/rootfs/etc|${directory.path}|it's||xc1|`,
    stderr: "",
  });
  assert.equal((await hook(["/bin/sh", "-c", "kill -TERM $$"])).signal, "SIGTERM");
});

test("oci-hook tells why it can't run", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  const bundle = join(directory.path, "bundle");
  await mkdir(bundle);
  const config = join(bundle, "config.json");
  const plain = join(bundle, "plain.txt");
  await writeFile(config, '{"root":{"path":"/abs/rootfs"}}');
  await writeFile(plain, "no program");
  await chmod(plain, 0o755);
  const state = JSON.stringify({ id: "c1", bundle });
  for (const [input, args, stderr] of [
    ["", ["/bin/true"], "flotilla: EOF"],
    ["nonsense", ["/bin/true"], /^flotilla: standard input: .*JSON/],
    ["[]", ["/bin/true"], "flotilla: standard input: not a JSON object"],
    ['{"id":5}', ["/bin/true"], "flotilla: standard input: not the state of a container"],
    ['{"bundle":"/none"}', ["/bin/true"], "flotilla: open /none/config.json: no such file or directory"],
    [state, [], "flotilla: oci-hook needs a program to run"],
    [state, ["/bin/none"], "flotilla: /bin/none: no such file or directory"],
    [state, ["true"], "flotilla: true: no such file or directory"],
    [state, [plain], `flotilla: ${plain}: exec format error`],
    [state, ["/bin/echo", "{{bogus}}"], 'flotilla: template: oci-hook:1: function "bogus" not defined'],
  ] as const) {
    const outcome = await flotilla(["oci-hook", ...args], { input });
    assert.equal(outcome.status, 1);
    assert.equal(outcome.stdout, "");
    if (typeof stderr === "string") {
      assert.equal(outcome.stderr, stderr);
    } else {
      assert.match(outcome.stderr, stderr);
    }
  }
  await writeFile(config, "{}");
  const { stderr } = await flotilla(["oci-hook", "/bin/true"], { input: state });
  assert.equal(stderr, `flotilla: ${config}: no path of the root file system`);
});

test("the launcher works from anywhere and through a link", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  const link = join(directory.path, "containerd");
  await symlink(new URL("../../deploy/flotilla", import.meta.url).pathname, link);
  const { stdout } = await execa(link, ["--version"], { cwd: "/" });
  assert.match(stdout, /^containerd github\.com\/containerd\/containerd\/v2 v\S+ [0-9a-f]{0,40}$/);
});

test("transfers are listed and cancelled; without a process that makes them there are none", async () => {
  await using directory = await makeTemporaryDirectory("cli");
  const state = join(directory.path, "s");
  await mkdir(state);
  const transfers = (...args: string[]): Promise<Outcome> =>
    flotilla(["--root", join(directory.path, "r"), "--state", state, "transfers", ...args]);
  const said = (stdout: string): Outcome => ({ status: 0, signal: undefined, stdout, stderr: "" });
  const refused = (stderr: string): Outcome => ({ status: 1, signal: undefined, stdout: "", stderr });
  assert.deepEqual(await transfers(), said("none"));
  assert.deepEqual(await transfers("--json"), said("[]"));
  assert.deepEqual(await transfers("cancel", "1"), refused("flotilla: transfer 1: not found"));

  const cancelled: bigint[] = [];
  const record = { namespace: "k8s.io", kind: "pull", subject: "r.example/a:1", waitingClients: 2 };
  const server = await serveRpc({
    socketPath: privateSocketOf(state, "transfer"),
    services: [
      bindService(Transfers, {
        list: () => ({
          transfers: [
            {
              ...record,
              id: 7n,
              startedAt: timestampFromMs(0),
              movedBytes: 1536n,
              knownBytes: 3n * 1024n ** 2n,
              bytesPerSecond: 10n,
            },
            { id: 12n, kind: "import", movedBytes: 1023n },
          ],
        }),
        cancel: ({ id }) => {
          if (id !== 7n) {
            throw failure(ErrorKind.NotFound, `transfer ${id}`);
          }
          cancelled.push(id);
          return {};
        },
      }),
    ],
  });
  try {
    const table = [
      "ID  NAMESPACE  KIND    BYTES               RATE    WAITING  IMAGE",
      "7   k8s.io     pull    1.5 KiB of 3.0 MiB  10 B/s  2        r.example/a:1",
      "12             import  1023 B              0 B/s   0",
    ];
    assert.deepEqual(await transfers(), said(table.join("\n")));
    const [first] = JSON.parse((await transfers("--json")).stdout) as object[];
    const numbers = { id: 7, movedBytes: 1536, knownBytes: 3_145_728, bytesPerSecond: 10 };
    assert.deepEqual(first, { ...record, ...numbers, startedAt: "1970-01-01T00:00:00.000Z" });
    assert.deepEqual(await transfers("cancel", "7"), said(""));
    assert.deepEqual(cancelled, [7n]);
    assert.deepEqual(await transfers("cancel", "8"), refused("flotilla: transfer 8: not found"));
    for (const words of [[], ["x"], ["7", "8"]]) {
      assert.match((await transfers("cancel", ...words)).stderr, /^flotilla: the number of one transfer is wanted/);
    }
  } finally {
    await server.close(0);
  }
});

test("enabled tells a service manager by its status which processes there are to run", async () => {
  await using directory = await makeTemporaryDirectory("enabled");
  const status = async (text: string, name: string): Promise<number | undefined> => {
    const path = join(directory.path, "config.toml");
    await writeFile(path, text);
    return (await flotilla(["--config", path, "enabled", name])).status;
  };
  assert.equal(await status("version = 4\n", "cri"), 0);
  assert.equal(await status('disabled_plugins = ["cri"]\n', "cri"), 1);
  assert.equal(await status('disabled_plugins = ["cri"]\n', "tasks"), 0);
  assert.equal(
    await status('version = 4\n[debug]\nlevel = "loud"\n', "cri"),
    255,
    "what is wrong is no reason to skip",
  );
  assert.equal(await status("version = 4\n", "nobody"), 255);
});
