/**
 * Tells whether a whole name fits a pattern: `*` stands for any characters but `/`, `?` for one, `[a-z]` and `[^a-z]` for one of a class, `\` takes the next for itself.
 * A pattern that is none fits nothing.
 *
 * @source Go path `Match`
 */
export function isMatch(pattern: string, name: string): boolean {
  const expression = expressionOf(pattern);
  return expression?.test(name) === true;
}

function expressionOf(pattern: string): RegExp | undefined {
  const characters = Array.from(pattern);
  let source = "";
  for (let index = 0; index < characters.length; index += 1) {
    const character = characters[index] ?? "";
    if (character === "*") {
      source += "[^/]*";
    } else if (character === "?") {
      source += "[^/]";
    } else if (character === "\\") {
      index += 1;
      const next = characters[index];
      if (next === undefined) {
        return undefined;
      }
      source += literal(next);
    } else if (character === "[") {
      const read = readClass(characters, index + 1);
      if (read === undefined) {
        return undefined;
      }
      source += read.source;
      index = read.end;
    } else {
      source += literal(character);
    }
  }
  return new RegExp(`^${source}$`, "us");
}

/** @returns undefined for a class that does not end, is empty, or has a range that goes down. */
function readClass(
  characters: readonly string[],
  start: number,
): { readonly source: string; readonly end: number } | undefined {
  let index = start;
  const isNegated = characters[index] === "^";
  if (isNegated) {
    index += 1;
  }
  let ranges = "";
  while (characters[index] !== "]" || ranges === "") {
    const low = readMember(characters, index);
    if (low === undefined) {
      return undefined;
    }
    index = low.next;
    let high = low;
    if (characters[index] === "-") {
      const end = readMember(characters, index + 1);
      if (end === undefined) {
        return undefined;
      }
      high = end;
      index = end.next;
    }
    if ((low.character.codePointAt(0) ?? 0) <= (high.character.codePointAt(0) ?? 0)) {
      ranges += `${literal(low.character)}-${literal(high.character)}`;
    } else {
      // A range that goes down holds nothing, which is no fault of the pattern.
      ranges += emptyRange;
    }
  }
  return { source: `[${isNegated ? "^" : ""}${ranges}]`, end: index };
}

/** Something that stands for no character of a key. */
const emptyRange = String.raw`\u{10ffff}`;

function readMember(
  characters: readonly string[],
  index: number,
): { readonly character: string; readonly next: number } | undefined {
  const character = characters[index];
  if (character === undefined || character === "-" || character === "]") {
    return undefined;
  }
  if (character !== "\\") {
    return { character, next: index + 1 };
  }
  const escaped = characters[index + 1];
  return escaped === undefined ? undefined : { character: escaped, next: index + 2 };
}

function literal(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
