import { runtimeSuite } from "../conformance/runtime.suite.ts";
import { lacksContainers } from "./tasks-rig.ts";

runtimeSuite("io.containerd.runc.v2", { skip: lacksContainers });
