import { runProcess } from "#fleet/run.ts";
import { eventsPlugins } from "./plugins.ts";
import { composeEvents } from "./service.ts";

await runProcess("events", eventsPlugins, composeEvents);
