import { parse } from "yaml";

/** Reads a document of YAML 1.1, as those write it who describe devices: numbers that begin with 0 are octal. JSON is YAML as well. @throws What is wrong. */
export function parseYaml(text: string): unknown {
  return parse(text, { version: "1.1" });
}
