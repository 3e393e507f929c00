import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

/**
 * Runs test files in a virtual machine with Debian's kernel, for what the kernel of this machine may lack: device-mapper with thin pools and
 * dm-verity, fs-verity, quotas of projects.
 *
 *   node test/vm/main.ts [FILE...]     the snapshot drivers, unless files are named
 *
 * The guest sees the files of this machine through 9p, and changes none of them. FLOTILLA_VM_ACCELERATOR=tcg runs it without /dev/kvm.
 */

const defaultFiles = ["test/component/snapshots-*.test.ts", "test/component/mount-manager.test.ts"];
/** For the whole run: without KVM it takes ten times as long. */
const runMsMax = 3_600_000;
const memory = "4G";
const diskSize = "16G";
const programs = ["qemu-system-x86_64", "mkinitramfs"];
const repository = fileURLToPath(new URL("../../", import.meta.url));
const guest = fileURLToPath(new URL("guest.sh", import.meta.url));

/** The newest kernel that has its modules. */
function findKernel(): string | undefined {
  return readIfThere("/lib/modules")
    .filter((version) => existsSync(`/boot/vmlinuz-${version}`))
    .sort((left, right) => left.localeCompare(right, undefined, { numeric: true }))
    .at(-1);
}

function readIfThere(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

/** PVM runs only guests whose kernel is made for it, and hangs with others. */
function findAccelerator(): string {
  const usable = existsSync("/dev/kvm") && !existsSync("/sys/module/kvm_pvm");
  return process.env["FLOTILLA_VM_ACCELERATOR"] ?? (usable ? "kvm" : "tcg");
}

/** Makes what the kernel needs until it has its root. */
async function makeInitialRoot(directory: string, kernel: string): Promise<string> {
  const configuration = `${directory}/initramfs`;
  for (const name of ["conf.d", "hooks", "scripts"]) {
    await mkdir(`${configuration}/${name}`, { recursive: true });
  }
  await writeFile(`${configuration}/modules`, "9p\n9pnet_virtio\nvirtio_pci\n");
  await writeFile(`${configuration}/initramfs.conf`, "MODULES=list\nBUSYBOX=auto\nCOMPRESS=gzip\n");
  const path = `${directory}/initrd`;
  await execa("mkinitramfs", ["-d", configuration, "-o", path, kernel]);
  return path;
}

async function runGuest(kernel: string, files: readonly string[]): Promise<number> {
  await using directory = await makeTemporaryDirectory("vm");
  const job = `${directory.path}/job`;
  const disk = `${directory.path}/disk`;
  await mkdir(job);
  await writeFile(
    `${job}/run`,
    `cd ${quoted(repository)}
export PATH=${quoted(`${process.execPath.replace(/\/node$/, "")}:/usr/sbin:/usr/bin:/sbin:/bin`)} HOME=/root
exec node --test --test-concurrency=1 ${files.map(quoted).join(" ")}
`,
  );
  await execa("truncate", [`--size=${diskSize}`, disk]);
  const share = (tag: string, path: string, readOnly: string): string[] => [
    "-virtfs",
    `local,path=${path},mount_tag=${tag},security_model=passthrough,readonly=${readOnly},multidevs=remap`,
  ];
  const accelerator = findAccelerator();
  process.stdout.write(`# kernel ${kernel}, ${accelerator}\n`);
  const append = [
    "console=ttyS0 quiet panic=-1 ro",
    "root=host rootfstype=9p rootflags=trans=virtio,version=9p2000.L,msize=512000,cache=loose",
    `init=${guest}`,
  ];
  await execa(
    "qemu-system-x86_64",
    [
      ..."-cpu max -smp 2 -nodefaults -no-reboot -display none -serial stdio -accel".split(" "),
      accelerator,
      "-m",
      memory,
      "-kernel",
      `/boot/vmlinuz-${kernel}`,
      "-initrd",
      await makeInitialRoot(directory.path, kernel),
      "-append",
      append.join(" "),
      ...share("host", "/", "on"),
      ...share("job", job, "off"),
      "-drive",
      `file=${disk},if=virtio,format=raw,cache=unsafe`,
    ],
    { stdin: "ignore", stdout: "inherit", stderr: "inherit", timeout: runMsMax },
  );
  return existsSync(`${job}/status`) ? Number(readFileSync(`${job}/status`, "utf8")) : 1;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Why there can be no virtual machine here, or false. */
function lacksMachine(kernel: string | undefined): string | false {
  const places = (process.env["PATH"] ?? "").split(":");
  const missing = programs.filter((program) => !places.some((place) => existsSync(`${place}/${program}`)));
  if (missing.length > 0) {
    return `${missing.join(" and ")} not installed`;
  }
  if (process.geteuid?.() !== 0) {
    return "the files of root are shared by root alone";
  }
  return kernel === undefined && "there is no kernel in /boot with its modules";
}

const kernel = findKernel();
const lacking = lacksMachine(kernel);
if (lacking !== false) {
  process.stdout.write(`skipped: ${lacking}\n`);
} else {
  const named = process.argv.slice(2);
  process.exitCode = await runGuest(kernel ?? "", named.length > 0 ? named : defaultFiles);
}
