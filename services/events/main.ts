import { runProcess } from "#fleet/run.ts";
import { composeEvents } from "./service.ts";

await runProcess("events", composeEvents);
