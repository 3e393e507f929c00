import { runProcess } from "#kernel/run.ts";
import { composeSnapshots } from "./service.ts";

await runProcess("snapshots", composeSnapshots);
