import { ErrorKind, failure } from "#base/errors.ts";
import type { Labels } from "#containerd/labels.ts";
import type { Descriptor } from "../registry/ports.ts";
import { refNameAnnotation } from "./ref-key.ts";

/** The annotation with the full name that containerd gave an image. @source containerd v2.3.4 core/images/annotations.go */
export const imageNameAnnotation = "io.containerd.image.name";

/** A further name, or the beginning of one. The flags after `isPrefix` count only with it. */
export interface NameRule {
  readonly name: string;
  readonly isPrefix: boolean;
  /** A full name in the archive may take the place of this one. */
  readonly allowOverwrite: boolean;
  /** Also name by digest. */
  readonly addDigest: boolean;
  /** But only what gets no other name. */
  readonly skipNamedDigest: boolean;
}

/** How images are named that come in. */
export interface Naming {
  /** Name of the image, or of the index that was imported; "" for none. */
  readonly name: string;
  readonly labels: Labels;
  readonly rules: readonly NameRule[];
}

/** An image that is to be recorded. */
export interface NamedImage {
  readonly name: string;
  readonly labels: Labels;
}

/**
 * The names that an image gets which has none of its own: the one asked for, and the whole ones among the rules.
 *
 * @throws {@link FlotillaError} `not_found` when it gets none.
 * @source containerd v2.3.4 core/transfer/image/imagestore.go `Store`
 */
export function namesFor({ digest }: Descriptor, naming: Naming, now: Date): NamedImage[] {
  const labels = furtherLabels(naming, now);
  return requireSome([
    ...(naming.name === "" ? [] : [{ name: naming.name, labels: naming.labels }]),
    ...naming.rules
      .filter(({ isPrefix, addDigest }) => !isPrefix || addDigest)
      .map(({ name, addDigest }) => ({ name: addDigest ? `${name}@${digest}` : name, labels })),
  ]);
}

/**
 * The names that an image gets which an archive names by annotations.
 *
 * @throws as {@link namesFor}
 */
export function namesFromArchive({ digest, annotations = {} }: Descriptor, naming: Naming, now: Date): NamedImage[] {
  const labels = furtherLabels(naming, now);
  return requireSome(
    naming.rules
      .filter(({ isPrefix }) => isPrefix)
      .flatMap((rule) => {
        const named = nameByRule(annotations, rule);
        const byDigest = rule.addDigest && (named === "" || !rule.skipNamedDigest) ? [`${rule.name}@${digest}`] : [];
        return [...(named === "" ? [] : [named]), ...byDigest].map((name) => ({ name, labels }));
      }),
  );
}

/** Further names go with the first one, and are gone with it. */
function furtherLabels({ name, labels }: Naming, now: Date): Labels {
  const seconds = now.toISOString().replace(/\.\d+Z$/, "Z");
  return name === "" ? labels : { ...labels, "containerd.io/gc.bref.image": name, "containerd.io/gc.expire": seconds };
}

function requireSome(names: NamedImage[]): NamedImage[] {
  if (names.length === 0) {
    throw failure(ErrorKind.NotFound, "no image name found");
  }
  return names;
}

/** @returns "" when the annotations name nothing that the rule lets pass. */
function nameByRule(annotations: Readonly<Record<string, string>>, rule: NameRule): string {
  const full = annotations[imageNameAnnotation] ?? "";
  if (full !== "") {
    // A full name is taken as it is or not at all.
    return translate(full, rule) === full ? full : "";
  }
  const short = annotations[refNameAnnotation] ?? "";
  return short === "" ? "" : translate(short, rule);
}

/** @source containerd v2.3.4 core/images/archive/reference.go `refTranslator` */
function translate(reference: string, { name: prefix, allowOverwrite }: NameRule): string {
  if (prefix === "") {
    return "";
  }
  if (!/[/:@]/.test(reference)) {
    return `${prefix}:${reference}`;
  }
  const next = reference.slice(prefix.length, prefix.length + 1);
  const hasPrefix = reference.startsWith(prefix) && ["", "/", ":", "@"].includes(next);
  return allowOverwrite || hasPrefix ? reference : "";
}
