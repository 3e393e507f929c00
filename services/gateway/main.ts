import { runCli } from "./cli/cli.ts";
import { runDaemon } from "./daemon.ts";

await runCli(process.argv.slice(2), { runDaemon });
