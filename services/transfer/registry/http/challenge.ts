/** What a registry wants to see before it answers. */
export interface Challenge {
  readonly scheme: "basic" | "bearer";
  /** By lower-case name. */
  readonly parameters: ReadonlyMap<string, string>;
}

const parameterPattern = /\s*([^\s"(),/:;<=>?@[\]\\{}]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"(),/:;<=>?@[\]\\{}]*))\s*(,?)/y;

/**
 * Reads the challenges that we can meet, bearer before basic.
 *
 * @param values - Of the header `WWW-Authenticate`.
 * @source containerd v2.3.4 core/remotes/docker/auth/parse.go `ParseAuthHeader`; RFC 9110, 11.6.1
 */
export function parseChallenges(values: readonly string[]): Challenge[] {
  const challenges = values.flatMap(parseChallenge);
  return [
    ...challenges.filter(({ scheme }) => scheme === "bearer"),
    ...challenges.filter(({ scheme }) => scheme === "basic"),
  ];
}

function parseChallenge(value: string): Challenge[] {
  const scheme = /^[^\s"(),/:;<=>?@[\]\\{}]+/.exec(value)?.[0] ?? "";
  const known = scheme.toLowerCase();
  if (known !== "basic" && known !== "bearer") {
    return [];
  }
  const parameters = new Map<string, string>();
  parameterPattern.lastIndex = scheme.length;
  for (;;) {
    const [, name, quoted, token, comma] = parameterPattern.exec(value) ?? [];
    if (name === undefined) {
      break;
    }
    parameters.set(name.toLowerCase(), quoted === undefined ? (token ?? "") : quoted.replace(/\\(.)/g, "$1"));
    if (comma === "") {
      break;
    }
  }
  return [{ scheme: known, parameters }];
}
