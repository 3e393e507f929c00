import { mkdirSync } from "node:fs";
import { execa } from "execa";

const filesPerDirectory = 1000;

/** Makes a tree with so many empty files, a thousand in each directory. */
export async function makeManyFiles(tree: string, count: number): Promise<void> {
  mkdirSync(tree, { recursive: true });
  // A million calls of Node.js take minutes.
  const script = `for d in $(seq ${Math.ceil(count / filesPerDirectory)}); do mkdir $d && (cd $d && touch $(seq ${filesPerDirectory})); done`;
  await execa("sh", ["-euc", script], { cwd: tree });
  await execa("sync");
}
