import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";

/** Our program on containerd's Go client, built, or why this machine cannot build it. */
export type BuiltClient = { readonly path: string } | { readonly lacks: string };

/** How a run of the program ended. */
export interface GoOutcome {
  readonly exitCode: number | undefined;
  readonly stdout: Buffer;
  /** What it says besides progress. */
  readonly stderr: string;
  /** The events that it was told of, as `transfer.Progress` of containerd. */
  readonly progress: readonly GoProgress[];
}

/** @source containerd v2.3.4 core/transfer/transfer.go `Progress` */
export interface GoProgress {
  readonly Event: string;
  readonly Name: string;
  readonly Progress: number;
  readonly Total: number;
}

const source = fileURLToPath(new URL("../e2e/containerd-client", import.meta.url));
const cache = fileURLToPath(new URL("../../node_modules/.cache/containerd-client", import.meta.url));
/** From nothing it takes about a minute of a processor; then what the build cache has is quick. */
const buildMsMax = 200_000;
const runMsMax = 90_000;
const outputBytesMax = 64 * 1024 * 1024;
/** What Go says when it cannot get modules. @source Go cmd/go/internal/web/api.go `HTTPError`, net/dial.go, net/http/transport.go */
const unreachable =
  /dial tcp|lookup .+: |no such host|connection refused|i\/o timeout|TLS handshake|module lookup disabled|reading https?:\S+: (?:403|407|5\d\d) /;

/** Builds the program, of the versions that its `go.sum` pins. What cannot be built for any other reason is a failure. */
export async function buildContainerdClient(): Promise<BuiltClient> {
  await mkdir(cache, { recursive: true });
  const path = `${cache}/containerd-client`;
  // What is built once and runs for seconds is built faster than it is made fast.
  const flags = ["-trimpath", "-gcflags=all=-N -l", "-o", path];
  const { failed, timedOut, code, stderr, message } = await execa("go", ["build", ...flags, "."], {
    cwd: source,
    env: {
      GOFLAGS: "-mod=readonly -buildvcs=false",
      GOTOOLCHAIN: "local",
      CGO_ENABLED: "0",
      GOCACHE: `${cache}/build`,
    },
    timeout: buildMsMax,
    reject: false,
  });
  if (!failed) {
    return { path };
  }
  if (code === "ENOENT") {
    return { lacks: "Go is not installed" };
  }
  if (timedOut) {
    return { lacks: `the program is not built within ${buildMsMax / 1000} s` };
  }
  if (/go\.mod requires go >= /.test(stderr)) {
    return { lacks: "Go is older than containerd's client wants" };
  }
  if (unreachable.test(stderr)) {
    return { lacks: "module proxy not reachable" };
  }
  throw new Error(message);
}

/** Runs the program. @param input - Its standard input. */
export async function runContainerdClient(
  path: string,
  args: readonly string[],
  input: Uint8Array = new Uint8Array(),
): Promise<GoOutcome> {
  const { exitCode, stdout, stderr } = await execa(path, args, {
    input,
    encoding: "buffer",
    maxBuffer: outputBytesMax,
    stripFinalNewline: false,
    timeout: runMsMax,
    killSignal: "SIGKILL",
    reject: false,
  });
  const lines = Buffer.from(stderr).toString().split("\n");
  const mark = "progress: ";
  return {
    exitCode,
    stdout: Buffer.from(stdout),
    stderr: lines.filter((line) => !line.startsWith(mark)).join("\n"),
    progress: lines
      .filter((line) => line.startsWith(mark))
      .map((line) => JSON.parse(line.slice(mark.length)) as GoProgress),
  };
}
