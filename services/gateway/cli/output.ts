/**
 * Writes a text and a line end to standard output.
 *
 * @throws Error when nobody reads any more.
 */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      reject(new Error("write to standard output", { cause: error }));
    };
    process.stdout.once("error", fail);
    process.stdout.write(text.endsWith("\n") ? text : `${text}\n`, (error) => {
      if (error) {
        fail(error);
        return;
      }
      process.stdout.off("error", fail);
      resolve();
    });
  });
}

/** Reads standard input to its end. */
export async function readInput(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > inputBytesMax) {
      throw new Error(`standard input is longer than ${inputBytesMax} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** More than any event or any state of a container holds. */
const inputBytesMax = 16 * 1024 * 1024;
