import { runProcess } from "#fleet/run.ts";
import { composeSnapshots } from "./service.ts";

await runProcess("snapshots", composeSnapshots);
