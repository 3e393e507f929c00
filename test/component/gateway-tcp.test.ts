import assert from "node:assert/strict";
import { copyFile, readFile } from "node:fs/promises";
import net from "node:net";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorKind } from "#base/errors.ts";
import { pluginUri } from "#config/manifest.ts";
import { PluginSettings } from "#config/settings.ts";
import { openLog } from "#fleet/log.ts";
import { serveRpc } from "#wire/server.ts";
import { Relay } from "../../services/gateway/relay/relay.ts";
import { tcpPlugin } from "../../services/gateway/sockets/plugins.ts";
import { TcpListener } from "../../services/gateway/sockets/tcp-listener.ts";
import { type Certificate, makeCertificate, makeSignedCertificate } from "../kit/certificates.ts";
import { bindEcho, echoClient, echoRoutes, plainEcho } from "../kit/echo-service.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

const mebibyte = 1024 * 1024;
const log = openLog("test", { level: "fatal", format: "text" });

let directory: TemporaryDirectory;
let authority: Certificate;
let server: Certificate;
let client: Certificate;
let resources: AsyncDisposableStack;

before(async () => {
  directory = await makeTemporaryDirectory("tcp");
  authority = await makeCertificate(directory.path, "authority");
  server = await makeCertificate(directory.path, "server");
  client = await makeSignedCertificate(directory.path, "client", authority);
  resources = new AsyncDisposableStack();
});

afterEach(async () => {
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
});

after(() => directory[Symbol.asyncDispose]());

function settingsOf(table: Readonly<Record<string, unknown>>): PluginSettings {
  const defaults = Object.fromEntries(
    Object.entries(tcpPlugin.settings).map(([key, setting]) => [key, setting.default]),
  );
  return new PluginSettings({ ...defaults, address: "127.0.0.1:0", ...table }, ["plugins", pluginUri(tcpPlugin)], []);
}

/** Serves the echo service on TCP. @returns the port */
async function serve(table: Readonly<Record<string, unknown>>): Promise<number> {
  const servicePath = `${directory.path}/echo.sock`;
  const service = await serveRpc({ socketPath: servicePath, services: [bindEcho(plainEcho)] });
  resources.defer(() => service.close(0));
  const listener = new TcpListener(settingsOf(table), log);
  const relay = new Relay({
    routes: echoRoutes("echo"),
    messageLimits: listener.limits,
    connectUpstream: () => net.connect({ path: servicePath, allowHalfOpen: true }),
    onWarning: () => undefined,
  });
  const listening = await listener.listen((socket) => relay.handleConnection(socket));
  resources.defer(async () => {
    listening.close();
    await relay.close(0);
  });
  return (listening.address() as net.AddressInfo).port;
}

function mutualTls(table: Readonly<Record<string, unknown>> = {}): Promise<number> {
  return serve({
    tls_cert: server.certificatePath,
    tls_key: server.keyPath,
    tls_ca: authority.certificatePath,
    ...table,
  });
}

async function tlsOptions(own: Certificate | undefined, trusted = server): Promise<tls.ConnectionOptions> {
  return {
    ca: await readFile(trusted.certificatePath),
    ...(own === undefined ? {} : { cert: await readFile(own.certificatePath), key: await readFile(own.keyPath) }),
  };
}

/** Clients of both protocols. */
async function transportsTo(port: number, own?: Certificate, trusted = server): Promise<Transport[]> {
  const baseUrl = `https://localhost:${port}`;
  const nodeOptions = await tlsOptions(own, trusted);
  const limits = { readMaxBytes: 64 * mebibyte, writeMaxBytes: 64 * mebibyte };
  const idle = { idleConnectionTimeoutMs: 100 };
  return [
    createGrpcTransport({ baseUrl, nodeOptions, ...limits, ...idle }),
    createConnectTransport({ baseUrl, httpVersion: "1.1", nodeOptions: { ...nodeOptions, agent: false }, ...limits }),
  ];
}

const hello = { value: Buffer.from("hello") };

async function assertServes(port: number, own?: Certificate, trusted = server): Promise<void> {
  for (const transport of await transportsTo(port, own, trusted)) {
    assert.deepEqual((await echoClient(transport).unary(hello)).value, new Uint8Array(hello.value));
  }
}

async function assertRefuses(port: number, own?: Certificate): Promise<void> {
  for (const transport of await transportsTo(port, own)) {
    await assert.rejects(echoClient(transport).unary(hello), ConnectError);
  }
}

test("a client with a certificate of the authority calls by gRPC over HTTP/2 and by Connect over HTTP/1.1", async () => {
  const port = await mutualTls();
  await assertServes(port, client);
  const protocol = await new Promise<string | false | null>((resolve, reject) => {
    tlsOptions(client).then((options) => {
      const socket = tls.connect({ port, servername: "localhost", ALPNProtocols: ["h2"], ...options }, () => {
        resolve(socket.alpnProtocol);
        socket.destroy();
      });
      socket.once("error", reject);
    }, reject);
  });
  assert.equal(protocol, "h2", "Go's clients ask for it");
});

test("without a certificate, with an expired one or one of somebody else, nobody gets in", async () => {
  const port = await mutualTls();
  const stranger = await makeCertificate(directory.path, "stranger");
  const forged = await makeSignedCertificate(directory.path, "client-of-stranger", stranger);
  const expired = await makeSignedCertificate(directory.path, "expired", authority, { days: -1 });
  await assertRefuses(port);
  await assertRefuses(port, forged);
  await assertRefuses(port, stranger);
  await assertRefuses(port, expired);
  await assertServes(port, client);
});

test("a client must have the common name, if one is set", async () => {
  const port = await mutualTls({ tls_common_name: "client" });
  await assertServes(port, client);
  await assertRefuses(port, await makeSignedCertificate(directory.path, "other", authority));
});

test("without tls_ca everybody gets in who trusts the server; without tls_cert nothing is encrypted", async () => {
  await assertServes(await serve({ tls_cert: server.certificatePath, tls_key: server.keyPath }));
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
  const port = await serve({});
  const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}`, idleConnectionTimeoutMs: 100 });
  assert.equal((await echoClient(transport).unary(hello)).value.length, 5);
});

test("certificates that are replaced are used without a restart, and only as a pair", async () => {
  const path = `${directory.path}/renewed.pem`;
  const keyPath = `${directory.path}/renewed-key.pem`;
  await copyFile(server.certificatePath, path);
  await copyFile(server.keyPath, keyPath);
  const port = await mutualTls({ tls_cert: path, tls_key: keyPath });
  await assertServes(port, client);

  const renewed = await makeCertificate(directory.path, "server-renewed");
  await copyFile(renewed.certificatePath, path);
  await delay(1_100);
  await assertServes(port, client, server);
  await copyFile(renewed.keyPath, keyPath);
  await delay(1_100);
  await assertServes(port, client, renewed);
});

test("an authority that is replaced lets nobody in whom the former one had signed", async () => {
  const path = `${directory.path}/authorities.pem`;
  await copyFile(authority.certificatePath, path);
  const port = await mutualTls({ tls_ca: path });
  await assertServes(port, client);
  const successor = await makeCertificate(directory.path, "successor");
  await copyFile(successor.certificatePath, path);
  await delay(1_100);
  await assertRefuses(port, client);
  await assertServes(port, await makeSignedCertificate(directory.path, "newcomer", successor));
});

test("the sizes of messages are those of the socket, either way and by each protocol", async () => {
  const port = await mutualTls({ max_recv_message_size: 1_000, max_send_message_size: 5_000 });
  for (const transport of await transportsTo(port, client)) {
    const echo = echoClient(transport);
    assert.equal((await echo.unary({ value: new Uint8Array(900) })).value.length, 900);
    await assert.rejects(echo.unary({ value: new Uint8Array(1_001) }), { code: Code.ResourceExhausted });
    await assert.rejects(Array.fromAsync(echo.download({ value: 10_000n })), { code: Code.ResourceExhausted });
  }
});

test("messages may be larger than usual where the socket allows it", async () => {
  const port = await mutualTls({ max_recv_message_size: 40 * mebibyte, max_send_message_size: 0 });
  for (const transport of await transportsTo(port, client)) {
    const { value } = await echoClient(transport).unary({ value: new Uint8Array(33 * mebibyte) });
    assert.equal(value.length, 33 * mebibyte);
  }
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
  const [grpc] = await transportsTo(await mutualTls({ max_recv_message_size: 0 }), client);
  await assert.rejects(echoClient(grpc as Transport).unary({ value: new Uint8Array(5 * mebibyte) }), {
    code: Code.ResourceExhausted,
    rawMessage: /\(\d+ vs\. 4194304\)/,
  });
});

test("settings that make no sense are refused, and an address that is taken is told of as containerd does", async () => {
  const { certificatePath, keyPath } = server;
  const refused = { kind: ErrorKind.InvalidArgument };
  for (const table of [
    { tls_ca: certificatePath },
    { tls_key: keyPath },
    { tls_cert: certificatePath, tls_key: keyPath, tls_common_name: "client" },
    { address: "nowhere" },
  ]) {
    assert.throws(() => new TcpListener(settingsOf(table), log), refused);
  }
  assert.throws(() => new TcpListener(settingsOf({ tls_cert: certificatePath, tls_key: client.keyPath }), log));
  const port = await serve({});
  await assert.rejects(
    new TcpListener(settingsOf({ address: `127.0.0.1:${port}` }), log).listen(() => undefined),
    {
      message: /^failed to get listener for TCP grpc endpoint: /,
    },
  );
});
