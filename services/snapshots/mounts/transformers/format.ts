import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { ActiveMount } from "../activation.ts";
import type { Transformer } from "./transformer.ts";

/**
 * Fills what earlier mounts gave into a mount: `{{ mount 0 }}` is the mount point of the first, `{{ source 0 }}` and
 * `{{ target 0 }}` what it was made of, `{{ overlay 0 3 }}` mount points joined as overlayfs wants its lower directories,
 * backwards if the first number is the larger one.
 *
 * These four calls are all of Go's templates that is understood.
 *
 * @throws {@link FlotillaError} `unknown` for another call or a mount that there is not.
 * @source containerd v2.3.4 core/mount/manager/format.go
 */
export const format: Transformer = (mount, active) => ({
  ...mount,
  source: fill(mount.source, active),
  ...(mount.target === undefined ? {} : { target: fill(mount.target, active) }),
  options: mount.options.map((option) => fill(option, active)),
});

function fill(text: string, active: readonly ActiveMount[]): string {
  if (!text.includes("{{")) {
    return text;
  }
  let filled = "";
  let rest = text;
  for (let begin = rest.indexOf("{{"); begin >= 0; begin = rest.indexOf("{{")) {
    const end = rest.indexOf("}}", begin);
    if (end < 0) {
      throw refusal("unclosed action");
    }
    filled += rest.slice(0, begin) + call(rest.slice(begin + 2, end).trim(), active);
    rest = rest.slice(end + 2);
  }
  return filled + rest;
}

function call(action: string, active: readonly ActiveMount[]): string {
  const [name = "", ...words] = action.split(/\s+/);
  const numbers = words.map((word) => {
    if (!/^[+-]?\d+$/.test(word)) {
      throw refusal(`expected integer; found ${word}`);
    }
    return Number(word);
  });
  const argumentsWanted = name === "overlay" ? 2 : 1;
  if (!["source", "target", "mount", "overlay"].includes(name)) {
    throw refusal(name === "" ? "missing value for command" : `function "${name}" not defined`);
  }
  if (numbers.length !== argumentsWanted) {
    throw refusal(`wrong number of args for ${name}: want ${argumentsWanted} got ${numbers.length}`);
  }
  const [first = 0, last = 0] = numbers;
  switch (name) {
    case "overlay":
      return overlay(first, last, active);
    case "source":
      return at(first, active).mount.source;
    case "target":
      return at(first, active).mount.target ?? "";
    default:
      return at(first, active).mountPoint;
  }
}

function at(index: number, active: readonly ActiveMount[]): ActiveMount {
  const found = index < 0 ? undefined : active[index];
  if (found === undefined) {
    throw refusal(`index out of bounds: ${index}, has ${active.length} active mounts`);
  }
  return found;
}

function overlay(first: number, last: number, active: readonly ActiveMount[]): string {
  const [low, high] = first > last ? [last, first] : [first, last];
  if (low < 0 || high >= active.length) {
    throw refusal(`invalid range: ${first}-${last}, has ${active.length} active mounts`);
  }
  const points = active.slice(low, high + 1).map(({ mountPoint }) => mountPoint);
  return (first > last ? points.reverse() : points).join(":");
}

function refusal(reason: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, `template: :1: ${reason}`);
}
