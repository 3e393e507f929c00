/**
 * What is to be told to a caller, in order. News that is overtaken before it is told is left out, so that a caller who does not listen
 * costs a few lines for each subject.
 */
export class NewsQueue<T> implements AsyncIterable<T> {
  readonly #waiting: { readonly subject: string | undefined; news: T }[] = [];
  #isOver = false;
  #wake: () => void = () => undefined;

  /** @param subject - News of the same subject that still waits is replaced. Undefined for what must be told. */
  push(news: T, subject?: string): void {
    const overtaken = subject === undefined ? undefined : this.#waiting.find((other) => other.subject === subject);
    if (overtaken === undefined) {
      this.#waiting.push({ subject, news });
    } else {
      overtaken.news = news;
    }
    this.#wake();
  }

  /** No more news comes. What waits is still told. */
  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const next = this.#waiting.shift();
      if (next !== undefined) {
        yield next.news;
      } else if (this.#isOver) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
