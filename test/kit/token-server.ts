import { createPrivateKey, randomUUID, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Certificate } from "./certificates.ts";

/** A server that gives tokens for registries, and remembers what it was asked. */
export interface TokenServer extends AsyncDisposable {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  /** Each request as `METHOD scope scope by-whom`. */
  readonly requests: readonly string[];
}

/** Who may come in and how tokens are. */
export interface TokenServerOptions {
  readonly signer: Certificate;
  /** Passwords by name. Without a name anybody may pull. */
  readonly users: Readonly<Record<string, string>>;
  /** Knows GET alone, as older servers do. */
  readonly lacksPost?: boolean;
  readonly lifeSeconds?: number;
}

const service = "test-registry";
const issuer = "test-issuer";

/** Starts a token server on a free port of the loopback device. @source distribution v2.8 docs/spec/auth/{token,jwt,oauth}.md */
export async function startTokenServer(options: TokenServerOptions): Promise<TokenServer> {
  const certificate = new X509Certificate(await readFile(options.signer.certificatePath));
  const key = createPrivateKey(await readFile(options.signer.keyPath));
  const requests: string[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { scopes, username, secret } = await readQuestion(request);
    requests.push(`${request.method} ${scopes.join(" ")} by ${username === "" ? "nobody" : username}`);
    if (request.method === "POST" && options.lacksPost === true) {
      response.writeHead(404).end();
      return;
    }
    if (username !== "" && options.users[username] !== secret) {
      response.writeHead(401).end("{}");
      return;
    }
    const lifeSeconds = options.lifeSeconds ?? 300;
    const nowSeconds = Math.floor(Date.now() / 1000);
    const head = encode({ typ: "JWT", alg: "ES256", x5c: [certificate.raw.toString("base64")] });
    const body = encode({
      iss: issuer,
      sub: username,
      aud: service,
      iat: nowSeconds,
      nbf: nowSeconds - 1,
      exp: nowSeconds + lifeSeconds,
      jti: randomUUID(),
      access: scopes.map((scope) => grant(scope, username)),
    });
    const signature = sign("sha256", Buffer.from(`${head}.${body}`), { key, dsaEncoding: "ieee-p1363" });
    const token = `${head}.${body}.${signature.toString("base64url")}`;
    const name = request.method === "POST" ? "access_token" : "token";
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ [name]: token, expires_in: lifeSeconds }));
  };
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    realm: `http://127.0.0.1:${port}/token`,
    service,
    issuer,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function readQuestion(
  request: IncomingMessage,
): Promise<{ readonly scopes: string[]; readonly username: string; readonly secret: string }> {
  const pieces: Buffer[] = [];
  for await (const piece of request as AsyncIterable<Buffer>) {
    pieces.push(piece);
  }
  const form = new URLSearchParams(Buffer.concat(pieces).toString());
  const query = new URL(request.url ?? "/", "http://localhost").searchParams;
  const basic = /^Basic (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
  const [username = "", secret = ""] = Buffer.from(basic, "base64").toString().split(":");
  const isForm = request.method === "POST";
  return {
    scopes: isForm ? (form.get("scope") ?? "").split(" ").filter((scope) => scope !== "") : query.getAll("scope"),
    username: isForm ? (form.get("username") ?? "") : username,
    secret: isForm ? (form.get("password") ?? "") : secret,
  };
}

function grant(scope: string, username: string): object {
  const [, type = "", name = "", actions = ""] = /^([^:]+):(.+):([^:]+)$/.exec(scope) ?? [];
  const granted = actions.split(",").filter((action) => action === "pull" || username !== "");
  return { type, name, actions: granted };
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
