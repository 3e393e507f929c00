import { runProcess } from "#fleet/run.ts";
import { composeContent } from "./service.ts";

await runProcess("content", composeContent);
