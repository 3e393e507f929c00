import { runProcess } from "#fleet/run.ts";
import { contentPlugins } from "./plugins.ts";
import { composeContent } from "./service.ts";

await runProcess("content", contentPlugins, composeContent);
