import { runProcess } from "#fleet/run.ts";
import { transferPlugins } from "./plugins.ts";
import { composeTransfer } from "./service.ts";

await runProcess("transfer", transferPlugins, composeTransfer);
