import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { TarMember } from "#tar/tar-format.ts";
import { TarReader } from "#tar/tar-reader.ts";

/** What is done with the members of an archive, one thing after the other. Regular files have content, and are finished. */
export interface MemberHandler {
  begin(member: TarMember): Promise<void>;
  /** The bytes are good until it resolves. */
  content(data: Uint8Array): Promise<void>;
  finish(): Promise<void>;
}

/**
 * Takes an archive apart as its bytes arrive. More are asked for when those before have been dealt with.
 *
 * @throws {@link FlotillaError} `unknown`, in the words of Go's library, for what is no archive, and for sparse files, which no
 *   archive of images has.
 */
export async function readMembers(bytes: AsyncIterable<Uint8Array>, handler: MemberHandler): Promise<void> {
  let steps: (() => Promise<void>)[] = [];
  const reader = new TarReader({
    begin: (member) => steps.push(() => handler.begin(member)),
    content: (data) => steps.push(() => handler.content(data)),
    hole: () => {
      throw new FlotillaError(ErrorKind.Unknown, "sparse files are not supported in archives of images");
    },
    finish: () => steps.push(() => handler.finish()),
  });
  for await (const chunk of bytes) {
    steps = [];
    reader.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    for (const step of steps) {
      await step();
    }
  }
  reader.end();
}
