import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test from "node:test";
import { allCapabilities } from "./host.ts";
import { findRegistryHosts } from "./registry-hosts.ts";

/** A tree of host directories that is gone after the test. */
async function makeTree(files: Readonly<Record<string, string>>): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "flotilla-hosts-"));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true });
    await writeFile(join(path, name), text);
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

const bare = { hostDirectories: [], defaultScheme: "" };

function addressesOf(hosts: Awaited<ReturnType<typeof findRegistryHosts>>): string[] {
  return hosts.map(({ scheme, host, path, fallsBackToHttp }) => {
    return `${scheme}://${host}${path}${fallsBackToHttp ? " or http" : ""}`;
  });
}

test("a registry that nothing is said about", async () => {
  for (const [registry, address] of Object.entries({
    "docker.io": "https://registry-1.docker.io/v2",
    "ghcr.io": "https://ghcr.io/v2",
    "ghcr.io:5000": "https://ghcr.io:5000/v2",
    localhost: "https://localhost/v2",
    "localhost:443": "https://localhost:443/v2",
    "localhost:80": "http://localhost:80/v2",
    "localhost:5000": "https://localhost:5000/v2 or http",
    "127.0.0.2:5000": "https://127.0.0.2:5000/v2 or http",
    "[::1]:5000": "https://[::1]:5000/v2 or http",
  })) {
    assert.deepEqual(addressesOf(await findRegistryHosts(registry, bare)), [address], registry);
  }
  const [local] = await findRegistryHosts("localhost:5000", bare);
  assert.equal(local?.tls?.skipVerify, true);
  assert.deepEqual(addressesOf(await findRegistryHosts("localhost:5000", { ...bare, defaultScheme: "http" })), [
    "http://localhost:5000/v2",
  ]);
});

test("hosts.toml: mirrors in the order of the file, the registry last", async () => {
  await using tree = await makeTree({
    "docker.io/hosts.toml": `
server = "https://registry-1.docker.io"
ca = "root.pem"
[host."https://z.example:8443/cache"]
  capabilities = ["pull", "Resolve"]
  client = [["a.cert", "/keys/a.key"], ["b.pem", "b.key"]]
  dial_timeout = "1.5s"
  [host."https://z.example:8443/cache".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."http://a.example/api/v2"]
  capabilities = ["pull"]
  skip_verify = true
[host."m.example/root"]
  override_path = true
  ca = ["/ca/1.pem", "2.pem"]
  client = "both.pem"
`,
  });
  const hosts = await findRegistryHosts("docker.io", { ...bare, hostDirectories: [tree.path] });
  assert.deepEqual(addressesOf(hosts), [
    "https://z.example:8443/cache/v2",
    "https://a.example/api/v2 or http",
    "https://m.example/root",
    "https://registry-1.docker.io/v2",
  ]);
  const [z, a, m, own] = hosts;
  const at = (name: string): string => join(tree.path, "docker.io", name);
  assert.deepEqual(z?.capabilities, ["pull", "resolve"]);
  assert.deepEqual(z?.headers, [
    ["x-one", "1"],
    ["x-two", "2"],
    ["x-two", "3"],
  ]);
  assert.equal(z?.dialTimeoutMs, 1500);
  assert.deepEqual(z?.tls?.clientFiles, [
    [at("a.cert"), "/keys/a.key"],
    [at("b.pem"), at("b.key")],
  ]);
  assert.equal(a?.tls?.skipVerify, true);
  assert.deepEqual(m?.tls, {
    caFiles: ["/ca/1.pem", at("2.pem")],
    clientFiles: [[at("both.pem"), undefined]],
    skipVerify: false,
  });
  assert.deepEqual(own?.tls?.caFiles, [at("root.pem")]);
});

test("a file without server leaves the registry itself, with all capabilities and its certificates", async () => {
  await using tree = await makeTree({ "r.example_5000_/hosts.toml": 'capabilities = ["pull"]\nca = "ca.pem"\n' });
  const hosts = await findRegistryHosts("r.example:5000", { ...bare, hostDirectories: [tree.path] });
  assert.deepEqual(addressesOf(hosts), ["https://r.example:5000/v2"]);
  assert.deepEqual(hosts[0]?.capabilities, allCapabilities);
  assert.deepEqual(hosts[0]?.tls?.caFiles, [join(tree.path, "r.example_5000_", "ca.pem")]);
});

test("the most particular folder of the first directory counts", async () => {
  await using first = await makeTree({ "_default/hosts.toml": 'server = "https://default.example"\n' });
  await using second = await makeTree({
    "r.example_5000_/hosts.toml": 'server = "https://port.example"\n',
    "r.example:5000/hosts.toml": 'server = "https://colon.example"\n',
    "r.example/hosts.toml": 'server = "https://plain.example"\n',
    "_default/hosts.toml": 'server = "https://second-default.example"\n',
  });
  const ask = async (registry: string, ...hostDirectories: string[]): Promise<string[]> =>
    addressesOf(await findRegistryHosts(registry, { ...bare, hostDirectories }));
  assert.deepEqual(await ask("r.example:5000", second.path), ["https://port.example/v2"]);
  assert.deepEqual(await ask("r.example", second.path), ["https://plain.example/v2"]);
  assert.deepEqual(await ask("other.example", second.path), ["https://second-default.example/v2"]);
  assert.deepEqual(await ask("r.example", "/nonexistent", first.path, second.path), ["https://default.example/v2"]);
});

test("certificates as docker lays them out", async () => {
  await using tree = await makeTree({
    "r.example/ca.crt": "",
    "r.example/one.cert": "",
    "r.example/one.key": "",
    "r.example/two.cert": "",
  });
  const [host] = await findRegistryHosts("r.example", { ...bare, hostDirectories: [tree.path] });
  const at = (name: string): string => join(tree.path, "r.example", name);
  assert.deepEqual(host?.tls, {
    caFiles: [at("ca.crt")],
    clientFiles: [
      [at("one.cert"), at("one.key")],
      [at("two.cert"), undefined],
    ],
    skipVerify: false,
  });
});

test("a hosts.toml that makes no sense is told, and its certificates count", async () => {
  for (const [text, reason] of [
    ["server = [", "hosts.toml: "],
    ['capabilities = ["fly"]', "unknown capability fly"],
    ["ca = 3", 'invalid type for "ca"'],
    ['server = "https://"', "unable to parse server https://"],
    ['[host."https://m.example"]\nclient = [["a"]]', 'invalid pair for "client"'],
    ['[host."https://m.example"]\ndial_timeout = "soon"', "invalid duration"],
  ] as const) {
    await using tree = await makeTree({ "r.example/hosts.toml": text, "r.example/ca.crt": "" });
    const warnings: string[] = [];
    const onWarning = (warning: string): void => void warnings.push(warning);
    const hosts = await findRegistryHosts("r.example", { ...bare, hostDirectories: [tree.path], onWarning });
    assert.deepEqual(addressesOf(hosts), ["https://r.example/v2"], text);
    assert.equal(hosts[0]?.tls?.caFiles.length, 1);
    assert.equal(warnings.length, 1, text);
    assert.ok(warnings.join().includes(reason), warnings.join());
  }
});
