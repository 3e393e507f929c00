import { runProcess } from "#kernel/run.ts";
import { composeTasks } from "./service.ts";

await runProcess("tasks", composeTasks);
