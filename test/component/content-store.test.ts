import { contentStoreSuite } from "../conformance/content-store.suite.ts";
import { startContainerd } from "../kit/daemon.ts";
import { ContentProcess } from "./content-process.ts";

contentStoreSuite("our content process", () => ContentProcess.start(), { takesOtherAlgorithms: true });

contentStoreSuite(
  "Debian's containerd",
  async () => {
    const daemon = await startContainerd();
    return { transport: daemon.transport, close: () => daemon[Symbol.asyncDispose]() };
  },
  { takesOtherAlgorithms: false },
);
