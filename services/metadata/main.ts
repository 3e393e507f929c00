import { runProcess } from "#fleet/run.ts";
import { metadataPlugins } from "./plugins.ts";
import { compose } from "./service.ts";

await runProcess("metadata", metadataPlugins, compose);
