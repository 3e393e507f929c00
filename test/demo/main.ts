import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { connect, type NatsConnection } from "nats";
import { pluginRoot } from "#config/config.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { startRegistry } from "../kit/registry.ts";

/**
 * A tour of the daemon on temporary directories: makes a small image, serves it from a local registry, pulls it, runs a container,
 * executes in it, asks with curl's protocol, kills a process of the fleet, and shows the events as they came over NATS. Removes everything in the
 * end.
 */

const namespace = "demo";
const settleMs = 500;
/** On the loopback device, as those who only try it have it. */
const metricsAddress = "127.0.0.1:21338";

function say(text: string): void {
  process.stdout.write(`\n\u001b[1m${text}\u001b[0m\n`);
}

async function show(daemon: Daemon, ...args: string[]): Promise<void> {
  process.stdout.write(`$ ctr -n ${namespace} ${args.join(" ")}\n`);
  const { stdout, stderr, exitCode } = await daemon.ctr("-n", namespace, ...args);
  const lastScreen = stdout.split("\u001b[").at(-1) ?? "";
  process.stdout.write(args.includes("pull") ? lastScreen.slice(lastScreen.indexOf("\n") + 1) : `${stdout}${stderr}`);
  if (exitCode !== 0) {
    throw new Error(`ctr ended with status ${exitCode}: ${stderr}`);
  }
}

/** Shows how the fleet is. */
async function showStatus(daemon: Daemon): Promise<void> {
  process.stdout.write("$ flotilla status\n");
  const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));
  const { stdout } = await execa(launcher, ["--state", daemon.state, "--address", daemon.address, "status"]);
  process.stdout.write(`${stdout}\n`);
}

/** Shows some of what Prometheus would be told. */
async function showMetrics(): Promise<void> {
  process.stdout.write(`$ curl http://${metricsAddress}/v1/metrics | grep …\n`);
  const text = await (await fetch(`http://${metricsAddress}/v1/metrics`)).text();
  const shown =
    /^(?:flotilla_process_restarts_total|flotilla_relay|flotilla_events_taken|container_pids_current|grpc_server_started_total.*Tasks.* [1-9])/;
  process.stdout.write(
    `${text
      .split("\n")
      .filter((line) => shown.test(line))
      .join("\n")}\n`,
  );
}

/** Reads what any NATS user may read, with the read-only user that the daemon has made. */
async function followNats(daemon: Daemon, lines: string[]): Promise<NatsConnection> {
  const file = join(pluginRoot({ root: daemon.root }, "io.flotilla.events.v1.nats"), "subscriber.url");
  const { protocol, host, username, password } = new URL((await readFile(file, "utf8")).trim());
  const connection = await connect({ servers: `${protocol}//${host}`, user: username, pass: password });
  connection.subscribe("containerd.>", {
    callback: (error, message) => {
      lines.push(error === null ? `${message.subject}  ${message.string()}` : error.message);
    },
  });
  await connection.flush();
  return connection;
}

await using resources = new AsyncDisposableStack();
say("1. An image from the busybox of this machine, in a registry on the loopback device");
const image = await busyboxImage();
const registry = resources.use(await startRegistry());
const reference = await registry.pushImage(image, "hello:1");
process.stdout.write(`${reference}\n`);

say("2. The fleet, on directories of its own");
const startedMs = performance.now();
const daemon = resources.use(
  await startFlotilla({ config: `[plugins."io.containerd.server.v1.metrics"]\naddress = "${metricsAddress}"\n` }),
);
process.stdout.write(`serving on ${daemon.address} after ${((performance.now() - startedMs) / 1000).toFixed(2)} s\n`);
const events: string[] = [];
const nats = await followNats(daemon, events);
resources.defer(() => nats.close());

say("3. Pull");
await show(daemon, "images", "pull", "--plain-http", reference);
await show(daemon, "images", "ls");

say("4. Run a container that prints, and one that stays");
await show(daemon, "run", "--rm", reference, "hello", "echo", "hello from a container");
await show(daemon, "run", "-d", reference, "sleeper", "sleep", "1000");

say("5. Execute in it, and look at it");
await show(daemon, "tasks", "exec", "--exec-id", "look", "sleeper", "ps");
await show(daemon, "tasks", "ls");

say("6. Kill the process that watches over it; ask again");
process.stdout.write(`kill -9 ${daemon.pidOf("tasks")}   # tasks\n`);
await daemon.kill9("tasks");
await show(daemon, "tasks", "ls");
await showStatus(daemon);
await showMetrics();
await show(daemon, "tasks", "rm", "--force", "sleeper");
await show(daemon, "containers", "rm", "sleeper");

say("7. The events, as a subscriber of NATS got them");
await delay(settleMs);
process.stdout.write(`${events.map((line) => line.slice(0, 160)).join("\n")}\n`);

say("8. Stop, and remove everything");
