import { runProcess } from "#fleet/run.ts";
import { snapshotsPlugins } from "./plugins.ts";
import { composeSnapshots } from "./service.ts";

await runProcess("snapshots", snapshotsPlugins, composeSnapshots);
