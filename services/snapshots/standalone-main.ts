import { runStandalone } from "#fleet/standalone/run-standalone.ts";
import { composeStandaloneSnapshots } from "./standalone/service.ts";

await runStandalone("snapshots", ["driver"], composeStandaloneSnapshots);
