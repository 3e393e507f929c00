import { runProcess } from "#fleet/run.ts";
import { tasksPlugins } from "./plugins.ts";
import { composeTasks } from "./service.ts";

await runProcess("tasks", tasksPlugins, composeTasks);
