import { readFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { execa } from "execa";

const bytesPerGib = 1024 ** 3;

/** What the figures were measured on and with, in one line. */
export async function describeMachine(): Promise<string> {
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const memoryGib = Math.round(totalmem() / bytesPerGib);
  const system = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux";
  const [containerd, runc] = await Promise.all([
    firstLine("containerd", ["--version"], /(\d+\.\d+\.\d+\S*)/),
    firstLine("runc", ["--version"], /(\d+\.\d+\.\d+\S*)/),
  ]);
  return [
    `${availableParallelism()} × ${model}`,
    `${memoryGib} GiB`,
    `${system}, Linux ${release()}`,
    `Node.js ${process.versions.node}`,
    `containerd ${containerd}`,
    `runc ${runc}`,
  ].join("; ");
}

async function firstLine(program: string, args: readonly string[], pattern: RegExp): Promise<string> {
  const { stdout } = await execa(program, args);
  return pattern.exec(stdout)?.[1] ?? "unknown";
}
