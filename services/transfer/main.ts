import { runProcess } from "#fleet/run.ts";
import { composeTransfer } from "./service.ts";

await runProcess("transfer", composeTransfer);
