import { runProcess } from "#kernel/run.ts";
import { composeContent } from "./service.ts";

await runProcess("content", composeContent);
