/** Where bytes go, in order. */
export interface ByteSink {
  /**
   * Resolves when there is room for more; until then nobody should write again, and the bytes may not be changed.
   *
   * @throws When the other side takes no more. What is written after that fails too.
   */
  write(bytes: Uint8Array): Promise<void>;
  /** Says that no more comes. Never rejects; further calls do nothing. */
  end(): Promise<void>;
}

/** Where bytes come from. They end when the other side has said so or has gone. To be iterated once. */
export type ByteSource = AsyncIterable<Uint8Array>;

/** A sink that forgets. */
export const nowhere: ByteSink = {
  write: () => Promise.resolve(),
  end: () => Promise.resolve(),
};
