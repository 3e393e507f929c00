import { contentStoreSuite } from "../conformance/content-store.suite.ts";
import { ContentProcess } from "./content-process.ts";

contentStoreSuite("our content process", () => ContentProcess.start(), { takesOtherAlgorithms: true });
