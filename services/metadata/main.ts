import { runProcess } from "#kernel/run.ts";
import { compose } from "./service.ts";

await runProcess("metadata", compose);
