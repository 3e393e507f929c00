import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import type { TestImage } from "./image.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

/** A registry of images on this machine, gone with all its images when it is disposed of. */
export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:<port>`. */
  readonly host: string;
  readonly pid: number;
  /**
   * Pushes an image as it is, digests kept. For registries without TLS and passwords.
   *
   * @param name - Repository and tag in the registry, such as `busybox:test`.
   * @returns the whole reference, for `ctr images pull --plain-http`.
   */
  pushImage(image: TestImage, name: string): Promise<string>;
}

/** What the registry wants to see, and how it is spoken to. */
export interface RegistryOptions {
  /** Only these may come in, by Basic. Passwords are kept as bcrypt hashes. */
  readonly passwordHashes?: Readonly<Record<string, string>>;
  /** Only bearers of a token may come in. */
  readonly token?: {
    readonly realm: string;
    readonly service: string;
    readonly issuer: string;
    /** Certificate of who signs tokens. */
    readonly certificatePath: string;
  };
  readonly tls?: {
    readonly certificatePath: string;
    readonly keyPath: string;
    /** Only clients with a certificate of this authority may come in. */
    readonly clientAuthorityPath?: string;
  };
}

const startMsMax = 10_000;
const pushMsMax = 120_000;

/** Starts Debian's docker-registry on a free port of the loopback device. */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  await using resources = new AsyncDisposableStack();
  const directory = resources.use(await makeTemporaryDirectory("reg"));
  const configPath = `${directory.path}/config.yml`;
  // JSON is YAML as well.
  await writeFile(configPath, JSON.stringify(await makeConfig(directory.path, options)));
  const server = execa("docker-registry", ["serve", configPath], { stdin: "ignore", reject: false, buffer: false });
  resources.defer(async () => {
    server.kill("SIGKILL");
    await server;
  });
  if (server.pid === undefined) {
    throw new Error("docker-registry cannot be started");
  }
  const host = await readAddress(server.stderr);
  // What it logs from now on is not read by anybody, and must not fill the pipe.
  server.stderr.resume();
  server.stdout.resume();
  const owned = resources.move();
  return {
    host,
    pid: server.pid,
    async pushImage({ layout }, name) {
      const target = `docker://${host}/${name}`;
      const flags = ["--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"];
      await execa("skopeo", [...flags, `oci:${layout}:test`, target], { timeout: pushMsMax });
      return `${host}/${name}`;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function makeConfig(directory: string, { passwordHashes, token, tls }: RegistryOptions): Promise<object> {
  const passwordPath = `${directory}/htpasswd`;
  if (passwordHashes !== undefined) {
    const lines = Object.entries(passwordHashes).map(([name, hash]) => `${name}:${hash}\n`);
    await writeFile(passwordPath, lines.join(""));
  }
  return {
    version: "0.1",
    log: { level: "info", formatter: "json", accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: `${directory}/images` }, delete: { enabled: true } },
    http: {
      addr: "127.0.0.1:0",
      ...(tls === undefined
        ? {}
        : {
            tls: {
              certificate: tls.certificatePath,
              key: tls.keyPath,
              ...(tls.clientAuthorityPath === undefined ? {} : { clientcas: [tls.clientAuthorityPath] }),
            },
          }),
    },
    auth: {
      ...(passwordHashes === undefined ? {} : { htpasswd: { realm: "test", path: passwordPath } }),
      ...(token === undefined
        ? {}
        : {
            token: {
              realm: token.realm,
              service: token.service,
              issuer: token.issuer,
              rootcertbundle: token.certificatePath,
            },
          }),
    },
  };
}

/** The registry says in its log on which port it listens. */
async function readAddress(log: NodeJS.ReadableStream): Promise<string> {
  const lines = createInterface({ input: log });
  const seen: string[] = [];
  const found = new Promise<string>((resolve) => {
    lines.on("line", (line) => {
      seen.push(line);
      const address = /listening on (127\.0\.0\.1:\d+)(?:, tls)?/.exec(line)?.[1];
      if (address !== undefined) {
        resolve(address);
      }
    });
  });
  const timer = new AbortController();
  try {
    const ended = once(lines, "close").then(() => undefined);
    const late = delay(startMsMax, undefined, { signal: timer.signal });
    const address = await Promise.race([found, ended, late]);
    if (address === undefined) {
      throw new Error(`docker-registry does not listen:\n${seen.join("\n")}`);
    }
    return address;
  } finally {
    timer.abort();
    lines.close();
  }
}
