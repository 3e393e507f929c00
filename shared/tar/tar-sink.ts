import type { TarMember } from "./tar-format.ts";

/** What is done with the members of an archive. Calls come in the order of the archive; what one throws ends the reading. */
export interface TarSink {
  /** A member begins. Regular files have content after it, and then {@link TarSink.finish}. */
  begin(member: TarMember): void;
  /** A part of the content of a regular file. The bytes are good during the call only. */
  content(data: Buffer): void;
  /** A part of the content that is zeros and not stored. */
  hole(sizeBytes: number): void;
  /** The content of a regular file, which may be empty, is complete. */
  finish(): void;
}
