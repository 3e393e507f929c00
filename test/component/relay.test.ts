import { routerSuite } from "../conformance/router.suite.ts";
import { listenRelay } from "../kit/relay-stand.ts";

routerSuite("relay", listenRelay);
