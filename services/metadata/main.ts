import { runProcess } from "#fleet/run.ts";
import { compose } from "./service.ts";

await runProcess("metadata", compose);
