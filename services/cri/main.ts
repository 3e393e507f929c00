import { runProcess } from "#fleet/run.ts";
import { criPlugins } from "./plugins.ts";
import { composeCri } from "./service.ts";

await runProcess("cri", criPlugins, composeCri);
