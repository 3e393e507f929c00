import { execa } from "execa";

export interface TerminalRun {
  /** What appeared on the terminal, carriage returns taken out. */
  readonly output: string;
  readonly exitCode: number | undefined;
}

const runMsMax = 30_000;

/**
 * Runs a command on a pseudo terminal of its own, of the given size, by the `script` program of util-linux.
 */
export async function runInTerminal(
  command: readonly string[],
  { columns, rows }: { readonly columns: number; readonly rows: number },
): Promise<TerminalRun> {
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const { stdout, exitCode } = await execa(
    "script",
    [
      "--quiet",
      "--return",
      "--echo",
      "never",
      "--command",
      `stty cols ${columns} rows ${rows}; exec ${quoted}`,
      "/dev/null",
    ],
    { stdin: "pipe", reject: false, timeout: runMsMax },
  );
  return { output: stdout.replaceAll("\r", ""), exitCode };
}
