import { runProcess } from "#fleet/run.ts";
import { composeTasks } from "./service.ts";

await runProcess("tasks", composeTasks);
