import * as fc from "fast-check";

/**
 * Loaded before every test file that the suite runs: properties are tried with the seed of the run, as `seededRandom` does it for what is
 * killed when. And Node.js has read by now where this file's own modules are kept compiled; daemons have places of their own.
 */
const seed = process.env["FLOTILLA_TEST_SEED"];
if (seed !== undefined) {
  fc.configureGlobal({ seed: Number(seed) });
}
delete process.env["NODE_COMPILE_CACHE"];
