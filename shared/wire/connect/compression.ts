import { promisify } from "node:util";
import { brotliCompress, brotliDecompress, gunzip, gzip } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { systemErrorCode } from "#base/errors.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** What clients may compress their messages with, and ask for. */
export const acceptedCompression: Compression[] = [
  makeCompression("gzip", promisify(gzip), promisify(gunzip)),
  makeCompression("br", promisify(brotliCompress), promisify(brotliDecompress)),
];

function makeCompression(
  name: string,
  compress: (bytes: Uint8Array) => Promise<Bytes>,
  decompress: (bytes: Uint8Array, options: { readonly maxOutputLength: number }) => Promise<Bytes>,
): Compression {
  return {
    name,
    compress,
    decompress: async (bytes, readMaxBytes) => {
      if (bytes.length === 0) {
        return new Uint8Array(0);
      }
      try {
        return await decompress(bytes, { maxOutputLength: readMaxBytes });
      } catch (error) {
        const isTooLarge = systemErrorCode(error) === "ERR_BUFFER_TOO_LARGE";
        throw new ConnectError(
          isTooLarge ? `message is larger than ${readMaxBytes} bytes after decompression` : "decompression failed",
          isTooLarge ? Code.ResourceExhausted : Code.InvalidArgument,
          undefined,
          undefined,
          error,
        );
      }
    },
  };
}
