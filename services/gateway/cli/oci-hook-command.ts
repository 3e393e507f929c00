import { readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { errorMessage } from "#base/errors.ts";
import { goSystemErrorText } from "#config/go-system-error.ts";
import type { Command, CommandInput } from "./command.ts";
import { renderTemplate, type TemplateFunction, type TemplateFunctions } from "./hook-template.ts";
import { readInput } from "./output.ts";

/**
 * Lets a hook of a container be any program: fills in what is known of the container and becomes that program.
 *
 * @source containerd v2.3.4 cmd/containerd/command/oci-hook.go `ociHook`
 */
export const ociHookCommand: Command = {
  names: ["oci-hook"],
  usage: "Run a program as an OCI hook, with values of the container filled into its arguments and environment",
  run: runHook,
};

/**
 * Becomes the program that the arguments name, by its path. The program has SIGPIPE ignored, as everything has that Node.js turns into.
 */
async function runHook({ rest }: CommandInput): Promise<void> {
  const functions = templateFunctions(await readState());
  const args = rest.map((argument) => renderTemplate(argument, functions));
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    const rendered = renderTemplate(`${name}=${value ?? ""}`, functions);
    const split = rendered.indexOf("=");
    environment[rendered.slice(0, split)] = rendered.slice(split + 1);
  }
  const [program] = args;
  if (program === undefined) {
    throw new Error("oci-hook needs a program to run");
  }
  if (process.execve === undefined) {
    throw new Error("this platform can't replace a process");
  }
  // Node.js warns that execve is new, on the standard error of the hook.
  process.removeAllListeners("warning");
  try {
    process.execve(program, args, environment);
  } catch (error) {
    throw new Error(`${program}: ${goSystemErrorText(error)}`, { cause: error });
  }
}

interface HookState {
  readonly id: string;
  readonly bundle: string;
  readonly rootfs: string;
  readonly pid: number;
  readonly status: string;
  readonly annotations: Readonly<Record<string, unknown>>;
}

/** @source OCI runtime-spec v1.2 runtime.md#state, config.md#root */
async function readState(): Promise<HookState> {
  const state = parseObject((await readInput()).toString("utf8"), "standard input");
  const { id = "", bundle = "", pid = 0, status = "", annotations = {} } = state;
  if (
    typeof id !== "string" ||
    typeof bundle !== "string" ||
    typeof pid !== "number" ||
    typeof status !== "string" ||
    !isObject(annotations)
  ) {
    throw new Error("standard input: not the state of a container");
  }
  const rootfs = await readRootfs(bundle);
  return { id, bundle, rootfs: isAbsolute(rootfs) ? rootfs : join(bundle, rootfs), pid, status, annotations };
}

async function readRootfs(bundle: string): Promise<string> {
  const file = join(bundle, "config.json");
  const { root } = parseObject(await readConfig(file), file);
  if (!isObject(root) || typeof root["path"] !== "string") {
    throw new Error(`${file}: no path of the root file system`);
  }
  return root["path"];
}

async function readConfig(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new Error(`open ${file}: ${goSystemErrorText(error)}`, { cause: error });
  }
}

function parseObject(text: string, source: string): Record<string, unknown> {
  if (text.trim() === "") {
    throw new Error("EOF");
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`${source}: ${errorMessage(error)}`, { cause: error });
  }
  if (!isObject(value)) {
    throw new Error(`${source}: not a JSON object`);
  }
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function templateFunctions({ id, bundle, rootfs, pid, status, annotations }: HookState): TemplateFunctions {
  return new Map<string, TemplateFunction>([
    ["id", { parameters: 0, call: () => id }],
    ["bundle", { parameters: 0, call: () => bundle }],
    ["rootfs", { parameters: 0, call: () => rootfs }],
    ["pid", { parameters: 0, call: () => String(pid) }],
    ["status", { parameters: 0, call: () => status }],
    [
      "annotation",
      {
        parameters: 1,
        call: (key = "") => {
          const value = Object.hasOwn(annotations, key) ? annotations[key] : undefined;
          return typeof value === "string" ? value : "";
        },
      },
    ],
  ]);
}
