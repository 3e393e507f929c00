import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { execa } from "execa";
import { filterMachines } from "./system-call-filter.ts";

const module = new URL("./system-call-filter.ts", import.meta.url).href;
const libc = new URL("./libc.ts", import.meta.url).href;
const skip = filterMachines[process.arch] === undefined ? `there is no filter for ${process.arch}` : false;

/** Runs a script in a process that has a filter. `call` makes a system call by a function of the C library and tells how it ends. */
async function runFiltered(rules: object, script: string): Promise<unknown> {
  const text = `
    import net from "node:net";
    import fs from "node:fs";
    import { once } from "node:events";
    import { Worker } from "node:worker_threads";
    import { assembleFilter, filterMachines, installFilter } from ${JSON.stringify(module)};
    import { lastErrno, nativeFunction } from ${JSON.stringify(libc)};
    const machine = filterMachines[process.arch];
    installFilter(assembleFilter(${JSON.stringify(rules)}, machine), machine);
    const call = (prototype, ...args) => (nativeFunction(prototype)(...args) === -1 ? lastErrno() : 0);
    const result = await (async () => { ${script} })();
    process.stdout.write(JSON.stringify(result), () => process.exit(0));
  `;
  const { stdout } = await execa(process.execPath, ["--input-type=module", "--eval", text], { timeout: 20_000 });
  return JSON.parse(stdout);
}

const strict = { denied: ["mount", "ptrace", "unshare"], allowsNamespaces: false, families: [1] };

test("what is denied fails, on every thread and in every child, and all else works", { skip }, async () => {
  const found = await runFiltered(
    strict,
    `const mount = call("int mount(const char *a, const char *b, const char *c, ulong d, const void *e)", "none", "/nowhere", "tmpfs", 0, null);
     const ptrace = call("long ptrace(long a, long b, long c, long d)", 0, 0, 0, 0);
     const unshare = call("int unshare(int flags)", 0x400);
     const socket = (family) => call("int socket(int a, int b, int c)", family, 1, 0);
     const families = [1, 2, 10, 16].map(socket);
     const ofThreads = fs.readdirSync("/proc/self/task").map((id) => /Seccomp:.(.)/.exec(fs.readFileSync("/proc/self/task/" + id + "/status", "utf8"))[1]);
     const inside = "import net from 'node:net'; import { parentPort } from 'node:worker_threads'; net.connect(9, '127.0.0.1').on('error', ({ code }) => parentPort.postMessage(code))";
     const worker = new Worker(inside, { eval: true });
     const [inWorker] = await once(worker, "message");
     const { spawnSync } = await import("node:child_process");
     const child = spawnSync("grep", ["-c", "Seccomp:.2", "/proc/self/status"]).stdout.toString();
     return { mount, ptrace, unshare, families, threads: [...new Set(ofThreads)], inWorker, child };`,
  );
  assert.deepEqual(found, {
    mount: 1,
    ptrace: 1,
    unshare: 1,
    families: [0, 97, 97, 97],
    threads: ["2"],
    inWorker: "EAFNOSUPPORT",
    child: "1\n",
  });
});

test("without namespaces none is made by a child either", { skip }, async () => {
  const script = `
    const { spawnSync } = await import("node:child_process");
    return [spawnSync("unshare", ["--user", "true"]).status, spawnSync("true").status];`;
  assert.deepEqual(await runFiltered(strict, script), [1, 0]);
});

test("the numbers are those of the kernel", (context) => {
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return undefined;
    }
  };
  const headers = [
    read("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    read("/usr/include/asm-generic/unistd.h"),
  ] as const;
  if (headers.every((text) => text === undefined)) {
    context.skip("the headers of the kernel are not there");
    return;
  }
  const source = readFileSync(new URL(module), "utf8");
  const listed = [...source.matchAll(/^ {2}(\w+): \[(\d+), (\d+|undefined)\],$/gm)];
  assert.ok(listed.length > 40);
  for (const [, name, ...columns] of listed) {
    headers.forEach((text, column) => {
      const number = new RegExp(`#define __NR3?_?(?:${name}|3264_${name}) (\\d+)`).exec(text ?? "")?.[1];
      if (number !== undefined) {
        assert.equal(columns[column], number, `${name} in column ${column}`);
      }
    });
  }
});
