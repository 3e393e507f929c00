import { runStandalone } from "#fleet/standalone/run-standalone.ts";
import { composeStandaloneContent } from "./standalone/service.ts";

await runStandalone("content", [], composeStandaloneContent);
