import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import test from "node:test";
import { defaultRegistriesSettings, Registries } from "../../services/transfer/registry/registry.ts";
import { makeCertificate } from "../kit/certificates.ts";
import { HostileRegistry } from "../kit/hostile-registry.ts";
import { startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const signal = AbortSignal.timeout(60_000);

/** A proxy that leads every request and tunnel to one place, and notes where it was to lead. */
async function startProxy(target: string): Promise<{ url: string; asked: string[] } & AsyncDisposable> {
  const asked: string[] = [];
  const [host = "", port = ""] = target.split(":");
  const server = createServer(({ method, url, headers }, response) => {
    const { origin, pathname } = new URL(url ?? "");
    asked.push(origin);
    request({ host, port, method, path: pathname, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    }).end();
  });
  server.on("connect", ({ url }, client) => {
    asked.push(url ?? "");
    const upstream = connect(Number(port), host, () => client.write("HTTP/1.1 200 OK\r\n\r\n"));
    upstream.pipe(client).pipe(upstream);
    upstream.on("error", () => client.destroy());
    client.on("error", () => upstream.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port: own } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${own}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

/** Sets variables of the environment for the time of a test. */
function withEnvironment(values: Readonly<Record<string, string>>): Disposable {
  const before = Object.keys(values).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, values);
  return {
    [Symbol.dispose]() {
      for (const [name, value] of before) {
        if (value === undefined) {
          delete process.env[name];
        } else {
          process.env[name] = value;
        }
      }
    },
  };
}

async function resolve(reference: string, defaultScheme: string, hostDirectories: string[] = []): Promise<string> {
  await using registry = await new Registries({ ...defaultRegistriesSettings, retryDelayMs: 1 }, "x").open({
    reference,
    hostDirectories,
    defaultScheme,
    headers: {},
  });
  return await registry.resolve(signal).then(
    ({ digest }) => digest,
    (error: unknown) => String(error),
  );
}

test("registries are asked through the proxy of the environment, this machine is not", async () => {
  await using server = await HostileRegistry.start();
  const manifest = server.add("{}", "application/vnd.oci.image.manifest.v1+json");
  server.tags.set("v1", manifest.digest);
  await using proxy = await startProxy(server.host);
  using resources = new DisposableStack();
  resources.use(withEnvironment({ http_proxy: proxy.url, no_proxy: "direct.invalid" }));
  assert.equal(await resolve("registry.invalid/a/b:v1", "http"), manifest.digest);
  assert.match(await resolve("registry.invalid/a/b:v1", "https"), /lookup registry.invalid: /, "it is none for HTTPS");
  assert.deepEqual(proxy.asked, ["http://registry.invalid"]);
  assert.equal(await resolve(`${server.host}/a/b:v1`, "http"), manifest.digest);
  assert.match(await resolve("direct.invalid/a/b:v1", "http"), /lookup direct.invalid: no such host|Temporary failure/);
  assert.equal(proxy.asked.length, 1);
});

test("TLS goes through the proxy to the registry, with the registry's certificates", async () => {
  await using directory = await makeTemporaryDirectory("proxy");
  const own = await makeCertificate(directory.path, "server");
  const client = await makeCertificate(directory.path, "client");
  await using server = await startRegistry({ tls: { ...own, clientAuthorityPath: client.certificatePath } });
  await using proxy = await startProxy(server.host);
  using resources = new DisposableStack();
  resources.use(withEnvironment({ https_proxy: proxy.url }));
  await mkdir(`${directory.path}/registry.invalid`);
  const path = `${directory.path}/registry.invalid/hosts.toml`;
  const certificates = `client = [["${client.certificatePath}", "${client.keyPath}"]]`;
  await writeFile(path, `server = "https://registry.invalid"\nskip_verify = true\n${certificates}\n`);
  const reference = "registry.invalid/a/b:v1";
  assert.equal(await resolve(reference, "", [directory.path]), `RegistryError: ${reference}: not found`);
  assert.deepEqual(new Set(proxy.asked), new Set(["registry.invalid:443"]));
  await writeFile(path, `server = "https://registry.invalid"\nca = "${own.certificatePath}"\n${certificates}\n`);
  assert.match(await resolve(reference, "", [directory.path]), /tls: failed to verify certificate: x509: .*altnames/);
});
