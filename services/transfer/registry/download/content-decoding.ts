import { type Duplex, Readable } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib";
import { ErrorKind } from "#base/errors.ts";
import { type HttpResponse, headersOf } from "../http/http-message.ts";
import { RegistryError } from "../http/registry-error.ts";
import type { ByteStream } from "../ports.ts";

const decoders: Readonly<Record<string, () => Duplex>> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => createInflate(),
  zstd: () => createZstdDecompress(),
  br: () => createBrotliDecompress(),
};

/** The encodings of an answer's body, outermost last; nothing is asked for, but there are servers that encode all the same. */
export function encodingsOf(response: HttpResponse): readonly string[] {
  return headersOf(response, "content-encoding")
    .flatMap((value) => value.split(","))
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "" && name !== "identity");
}

/**
 * The body of an answer without what servers wrap it in.
 *
 * @throws {@link RegistryError} for an encoding that is not known.
 * @source containerd v2.3.4 core/remotes/docker/fetcher.go `dockerFetcher.open`
 */
export function decodeBody(response: HttpResponse): ByteStream {
  return encodingsOf(response).reduceRight<ByteStream>((body, name) => {
    const open = Object.hasOwn(decoders, name) ? decoders[name] : undefined;
    if (open === undefined) {
      throw new RegistryError(ErrorKind.Unknown, `unsupported Content-Encoding algorithm: ${name}`);
    }
    return decode(body, open());
  }, response.body);
}

async function* decode(body: ByteStream, decoder: Duplex): AsyncGenerator<Uint8Array> {
  const source = Readable.from(copied(body), { objectMode: false });
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => undefined);
  source.on("error", (error) => failed.reject(error));
  const pieces = (source.pipe(decoder) as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await Promise.race([pieces.next(), failed.promise]);
      if (done === true) {
        return;
      }
      yield value;
    }
  } finally {
    source.destroy();
    await pieces.return?.();
  }
}

/** The pieces as ones that may wait for the decoder. */
async function* copied(body: ByteStream): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    yield Buffer.from(piece);
  }
}
