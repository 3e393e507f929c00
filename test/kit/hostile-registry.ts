import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { digestOf } from "#containerd/digest.ts";
import type { Descriptor } from "../../services/transfer/registry/ports.ts";

/** One request and what would answer it if all were well. */
export interface Encounter {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly registry: HostileRegistry;
  /** Answers as a good registry does. */
  readonly serve: () => Promise<void>;
}

/** What happens instead of a good answer. */
export type Act = (encounter: Encounter) => void | Promise<void>;

interface Stored {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

interface Misdeed {
  readonly pattern: RegExp;
  readonly act: Act;
  timesLeft: number;
}

/**
 * A registry in this process that keeps to the distribution specification until it is told otherwise, and notes down what is
 * asked of it.
 */
export class HostileRegistry implements AsyncDisposable {
  /** `METHOD /path` and the range that is asked for, in order. */
  readonly requests: string[] = [];
  /** The headers of the same requests. */
  readonly headers: IncomingMessage["headers"][] = [];
  /** What has been pushed and added, by digest. */
  readonly stored = new Map<string, Stored>();
  /** Digests by tag. */
  readonly tags = new Map<string, string>();
  /** How fast good answers are: so many bytes, and then a pause. */
  pace = { pieceBytes: 64 * 1024, pauseMs: 0 };
  /** Bytes of bodies handed to the kernel. */
  sentBytes = 0;
  readonly #uploads = new Map<string, Buffer[]>();
  readonly #misdeeds: Misdeed[] = [];
  readonly #server = createServer((request, response) => {
    this.#meet(request, response).catch(() => response.destroy());
  });

  /** Starts one on a free port of the loopback device. */
  static async start(): Promise<HostileRegistry> {
    const registry = new HostileRegistry();
    registry.#server.listen(0, "127.0.0.1");
    await once(registry.#server, "listening");
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Puts bytes in, under their digest. */
  add(bytes: Uint8Array | string, mediaType: string): Descriptor {
    const copy = Buffer.from(bytes);
    const digest = digestOf(copy);
    this.stored.set(digest, { bytes: copy, mediaType });
    return { mediaType, digest, size: copy.length };
  }

  /** What happens to the next requests that match `METHOD /path`. Later words come before earlier ones. */
  misbehave(pattern: RegExp, act: Act, times = Number.POSITIVE_INFINITY): void {
    this.#misdeeds.unshift({ pattern, act, timesLeft: times });
  }

  /** Requests that match. */
  count(pattern: RegExp): number {
    return this.requests.filter((request) => pattern.test(request)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }

  async #meet(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const line = `${request.method} ${request.url}`;
    this.requests.push(request.headers.range === undefined ? line : `${line} ${request.headers.range}`);
    this.headers.push(request.headers);
    const misdeed = this.#misdeeds.find(({ pattern, timesLeft }) => timesLeft > 0 && pattern.test(line));
    const serve = (): Promise<void> => this.#serve(request, response);
    if (misdeed === undefined) {
      await serve();
      return;
    }
    misdeed.timesLeft -= 1;
    await misdeed.act({ request, response, registry: this, serve });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://localhost");
    const [, kind, name = ""] = /^\/v2\/.+\/(manifests|blobs|uploads)\/([^/]*)$/.exec(url.pathname) ?? [];
    const isReading = request.method === "GET" || request.method === "HEAD";
    if (kind === "uploads") {
      await this.#serveUpload(request, response, { url, name });
    } else if (kind !== undefined && isReading) {
      const digest = this.tags.get(name) ?? name;
      await this.#serveContent(request, response, { digest, stored: this.stored.get(digest) });
    } else if (kind === "manifests" && request.method === "PUT") {
      const bytes = await readBody(request);
      const { digest } = this.add(bytes, request.headers["content-type"] ?? "");
      this.tags.set(name, digest);
      response.writeHead(201, { "docker-content-digest": digest }).end();
    } else {
      response.writeHead(404).end();
    }
  }

  async #serveContent(
    request: IncomingMessage,
    response: ServerResponse,
    { digest, stored }: { readonly digest: string; readonly stored: Stored | undefined },
  ): Promise<void> {
    if (stored === undefined) {
      response.writeHead(404).end();
      return;
    }
    const { bytes, mediaType } = stored;
    const [, first, last = ""] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const start = Number(first ?? 0);
    const end = last === "" ? bytes.length : Math.min(bytes.length, Number(last) + 1);
    if (start >= end) {
      response.writeHead(416).end();
      return;
    }
    response.writeHead(first === undefined ? 200 : 206, {
      "content-type": mediaType,
      "content-length": end - start,
      "docker-content-digest": digest,
      ...(first === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` }),
    });
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    await this.send(response, bytes.subarray(start, end));
    response.end();
  }

  /** Sends bytes as they are taken, and no faster than the pace. */
  async send(response: ServerResponse, bytes: Buffer, pace = this.pace): Promise<void> {
    const { pieceBytes, pauseMs } = pace;
    for (let start = 0; start < bytes.length && !response.destroyed; start += pieceBytes) {
      const piece = bytes.subarray(start, start + pieceBytes);
      this.sentBytes += piece.length;
      if (!response.write(piece)) {
        await drained(response);
      }
      if (pauseMs > 0) {
        await delay(pauseMs);
      }
    }
  }

  async #serveUpload(
    request: IncomingMessage,
    response: ServerResponse,
    { url, name }: { readonly url: URL; readonly name: string },
  ): Promise<void> {
    if (request.method === "POST") {
      const id = randomUUID();
      this.#uploads.set(id, []);
      response.writeHead(202, { location: `${url.pathname}${id}?state=x` }).end();
      return;
    }
    const pieces = this.#uploads.get(name);
    if (pieces === undefined) {
      response.writeHead(404).end();
      return;
    }
    for await (const piece of request as AsyncIterable<Buffer>) {
      // What has come stays, also when the rest does not.
      pieces.push(piece);
    }
    const bytes = Buffer.concat(pieces);
    if (request.method === "PUT") {
      const digest = url.searchParams.get("digest") ?? "";
      if (digestOf(bytes) !== digest) {
        response.writeHead(400).end('{"errors":[{"code":"DIGEST_INVALID","message":"wrong bytes"}]}');
        return;
      }
      this.#uploads.delete(name);
      this.add(bytes, "application/octet-stream");
      response.writeHead(201, { "docker-content-digest": digest }).end();
      return;
    }
    const status = request.method === "PATCH" ? 202 : 204;
    response.writeHead(status, { range: `0-${Math.max(0, bytes.length - 1)}`, location: url.pathname }).end();
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request as AsyncIterable<Buffer>) {
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** Waits until more may be written, or nobody reads any more. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
}

/** Answers with a status and nothing else. */
export function answer(status: number, headers: Record<string, string> = {}, body = ""): Act {
  return ({ request, response }) => {
    request.resume();
    response.writeHead(status, headers).end(request.method === "HEAD" ? undefined : body);
  };
}

/** Answers well, but cuts the connection after so many bytes of the body. */
export function cutAfter(bytesMax: number): Act {
  return ({ response, serve }) => {
    let leftBytes = bytesMax;
    const write = response.write.bind(response) as (chunk: Buffer) => boolean;
    response.write = ((chunk: Buffer) => {
      const isLast = chunk.length >= leftBytes;
      const written = write(chunk.subarray(0, leftBytes));
      leftBytes -= Math.min(leftBytes, chunk.length);
      if (isLast) {
        // The bytes before the cut shall arrive.
        setTimeout(() => response.destroy(), 20);
        response.write = (() => false) as typeof response.write;
        response.end = (() => response) as typeof response.end;
      }
      return written;
    }) as typeof response.write;
    return serve();
  };
}

/** Takes so many bytes of what is sent, and cuts the connection. */
export function cutUploadAfter(bytesMax: number): Act {
  return ({ request, serve }) => {
    let seenBytes = 0;
    const watch = (piece: Buffer): void => {
      seenBytes += piece.length;
      if (seenBytes >= bytesMax) {
        request.off("data", watch);
        request.destroy();
      }
    };
    const served = serve();
    request.on("data", watch);
    return served;
  };
}

/** Serves as if no range had been asked for. */
export const ignoreRange: Act = ({ request, serve }) => {
  delete request.headers.range;
  return serve();
};

/** Takes the request and never says a word. */
export const fallSilent: Act = ({ request }) => {
  request.resume();
};

/** Sends so many bytes and never another one. */
export function fallSilentAfter(bytesMax: number): Act {
  return async ({ request, response, registry }) => {
    const stored = registry.stored.get(/sha256:[0-9a-f]+/.exec(request.url ?? "")?.[0] ?? "");
    response.writeHead(200, { "content-length": stored?.bytes.length ?? 0 });
    await registry.send(response, (stored?.bytes ?? Buffer.alloc(0)).subarray(0, bytesMax));
  };
}

/** Serves a blob in small pieces with pauses. */
export function dawdle(pieceBytes: number, pauseMs: number): Act {
  return async ({ request, response, registry }) => {
    const stored = registry.stored.get(/sha256:[0-9a-f]+/.exec(request.url ?? "")?.[0] ?? "");
    const bytes = stored?.bytes ?? Buffer.alloc(0);
    response.writeHead(200, { "content-length": bytes.length });
    await registry.send(response, bytes, { pieceBytes, pauseMs });
    response.end();
  };
}

/** Takes what is sent in small pieces with pauses, and then answers well. */
export function takeSlowly(pieceBytes: number, pauseMs: number): Act {
  return ({ request, serve }) => {
    const pieces = request[Symbol.asyncIterator].bind(request);
    request[Symbol.asyncIterator] = async function* (): AsyncGenerator<Buffer, undefined> {
      for await (const piece of pieces() as AsyncIterable<Buffer>) {
        yield piece;
        await delay((piece.length / pieceBytes) * pauseMs);
      }
      return undefined;
    };
    return serve();
  };
}
