import { runProcess } from "#kernel/run.ts";
import { composeEvents } from "./service.ts";

await runProcess("events", composeEvents);
