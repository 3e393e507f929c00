import { runCli } from "./cli/cli.ts";

// The daemon's modules are loaded only when it is the daemon that is wanted: `publish` runs once for each event of old shims.
await runCli(process.argv.slice(2), { runDaemon: async (flags) => (await import("./daemon.ts")).runDaemon(flags) });
