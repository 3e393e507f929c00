/** How many bytes are to come on streams whose requests said so by content-length. */
export class AnnouncedBodies {
  readonly #leftBytes = new Map<number, number>();

  expect(streamId: number, sizeBytes: number): void {
    this.#leftBytes.set(streamId, sizeBytes);
  }

  /** Counts bytes off; false when they are more than announced, or the last and less. */
  fits(streamId: number, sizeBytes: number, isLast: boolean): boolean {
    // Hardly any call announces its length.
    if (this.#leftBytes.size === 0) {
      return true;
    }
    const announcedBytes = this.#leftBytes.get(streamId);
    if (announcedBytes === undefined) {
      return true;
    }
    const leftBytes = announcedBytes - sizeBytes;
    this.#leftBytes.set(streamId, leftBytes);
    return isLast ? leftBytes === 0 : leftBytes >= 0;
  }

  forget(streamId: number): void {
    if (this.#leftBytes.size > 0) {
      this.#leftBytes.delete(streamId);
    }
  }
}
